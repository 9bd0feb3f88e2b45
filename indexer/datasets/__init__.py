"""Labelled images on disk: one file per layout, one face for all."""

from __future__ import annotations

from pathlib import Path

from indexer.datasets import camvid, folder, voc
from indexer.datasets.base import Dataset, Layout, Sample, parse_ids
from retrieval.errors import ConfigError, DatasetError

__all__ = ["FORMATS", "Dataset", "Sample", "load_dataset", "parse_ids"]

_LAYOUTS: tuple[Layout, ...] = (voc.LAYOUT, folder.LAYOUT, camvid.LAYOUT)

#: What ``--format`` takes; ``auto`` recognises the layout.
FORMATS: tuple[str, ...] = ("auto", *(layout.name for layout in _LAYOUTS))


def load_dataset(
    path: str | Path, *, split: str | None = None, format: str = "auto", subset: str | Path | None = None
) -> Dataset:
    """The labelled images below ``path``; no image is read, and masks only to find classes nobody named.

    ``split`` may be left out where there is only one or none; ``format`` is one of :data:`FORMATS`;
    ``subset`` is a file of ids, one a line. Files that a list names but that are missing raise when
    they are read (or in ``Dataset.check_files``), so that one lost file need not stop a long job.
    Raises DatasetError for a layout that is unknown, a split that is missing or must be chosen, two
    images with one id, or nothing at all; ConfigError for an unknown format.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ConfigError(f"unknown data set format {format!r}; choose one of {', '.join(FORMATS)}")
    if not path.is_dir():
        came = "a file" if path.exists() else "nothing"
        raise DatasetError(f"expected the folder of a data set at {path}, found {came}; check the path")
    root, layout = _recognise(path, format)
    dataset = layout.load(root, split)
    return dataset if subset is None else dataset.select(parse_ids(Path(subset)))


def _recognise(path: Path, format: str) -> tuple[Path, Layout]:
    layouts = [layout for layout in _LAYOUTS if format in ("auto", layout.name)]
    for layout in layouts:
        root = layout.find(path)
        if root is not None:
            return root, layout
    expected = "\n".join(f"  {layout.name}: {layout.description}" for layout in layouts)
    raise DatasetError(f"{path} has no layout that is known here; expected\n{expected}")
