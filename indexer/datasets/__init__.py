"""Labelled images on disk: one file per layout, one face for all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from indexer.datasets import camvid, class_folders, folder, table, two_folders, voc
from indexer.datasets.base import Dataset, Layout, Sample, parse_ids
from indexer.datasets.keys import SourceKey
from indexer.datasets.labels import LabelSource, MaskFile, NoLabels
from indexer.datasets.subset import take_subset
from indexer.datasets.tools import BENCHMARKS, TOOLS
from indexer.datasets.unmasked import Unmasked, check_unmasked, settle_unmasked
from indexer.datasets.whole import ClassLabels, whole_columns
from retrieval.errors import ConfigError, DatasetError
from retrieval.plugins import load_plugins

__all__ = [
    "FORMATS",
    "ClassLabels",
    "Dataset",
    "LabelSource",
    "Layout",
    "MaskFile",
    "NoLabels",
    "Sample",
    "SourceKey",
    "Unmasked",
    "load_dataset",
    "parse_ids",
    "recognise",
    "whole_columns",
]

_LOG = logging.getLogger("mycelia")

#: Tried in this order where the format is ``auto``; those of other packages come after them.
_LAYOUTS: tuple[Layout, ...] = (
    *(voc.LAYOUT, folder.LAYOUT, camvid.LAYOUT),
    *BENCHMARKS,
    two_folders.LAYOUT,
    *TOOLS,
)

#: Tried after all others: images with a class as a whole, whose folders look much like those of masks.
_WHOLE: tuple[Layout, ...] = (table.LAYOUT, class_folders.LAYOUT)

#: What ``--format`` takes without other packages; ``auto`` recognises the layout.
FORMATS: tuple[str, ...] = ("auto", *dict.fromkeys(layout.name for layout in (*_LAYOUTS, *_WHOLE)))

#: The entry point group in which an installed package names its layouts, each a :class:`Layout`.
LAYOUT_GROUP = "mycelia.datasets"


def load_dataset(
    path: str | Path,
    *,
    split: str | None = None,
    format: str = "auto",
    subset: str | Path | None = None,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    unmasked: Unmasked = "error",
) -> Dataset:
    """The labelled images below ``path``; no image is read, and masks only to find classes nobody named.

    ``split`` may be left out where there is only one or none; ``format`` is one of :data:`FORMATS`, or
    the name of a layout that an installed package brings (entry point group :data:`LAYOUT_GROUP`);
    ``subset`` is a share or a number of the images, drawn by a seed (the texts ``0.2``, ``10``, ``0.2@7``
    with seed 7, else 0; a smaller one is part of a larger one), or a file of ids, one a line; ``images`` and
    ``masks`` name the two folders of a plain
    data set. Files that a list names but that are missing raise when they are read (or in
    ``Dataset.check_files``), so that one lost file need not stop a long job. What is left out and chosen
    is in ``Dataset.notes``, and logged.
    Raises DatasetError for a layout that is unknown, a split that is missing or must be chosen, two
    images with one id, or nothing at all; ConfigError for an unknown format or ``unmasked``, or a broken
    plug-in.
    """
    check_unmasked(unmasked)
    root, layout = recognise(Path(path), format, images=images, masks=masks)
    dataset = layout.load(root, split)
    for note in dataset.notes:
        _LOG.info("%s", note)
    if subset is not None:
        whole = len(dataset)
        dataset = take_subset(dataset, subset)
        _LOG.info("subset %s: %d of %d images", subset, len(dataset), whole)
    return settle_unmasked(dataset, unmasked)


def recognise(
    path: Path,
    format: str = "auto",
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
) -> tuple[Path, Layout]:
    """The root of the data set at or just below ``path``, and its layout.

    ``images`` and ``masks`` as :func:`load_dataset` takes them; then ``path`` itself is the root.
    Raises DatasetError where no layout fits, ConfigError for an unknown format.
    """
    if images is not None or masks is not None:
        if format not in ("auto", folder.LAYOUT.name):
            raise ConfigError(
                f"--images and --masks name the folders of a plain data set; drop --format {format}"
            )
        return path, two_folders.given_layout(path, images=images, masks=masks)
    layouts = _layouts(format)
    if not path.is_dir() and not (format in ("auto", table.LAYOUT.name) and table.is_table(path)):
        came = "a file" if path.exists() else "nothing"
        raise DatasetError(
            f"expected the folder of a data set (or a .csv or .tsv table) at {path}, "
            f"found {came}; check the path"
        )
    return _recognise(path, layouts, format)


def _layouts(format: str) -> tuple[Layout, ...]:
    """The layouts that ``format`` stands for."""
    if format == "auto":
        return _LAYOUTS
    whole = (class_folders.NAMED if layout is class_folders.LAYOUT else layout for layout in _WHOLE)
    known_here = (*_LAYOUTS, *whole)
    ours = tuple(layout for layout in known_here if layout.name == format)
    others = () if ours else load_plugins(LAYOUT_GROUP, Layout)
    named = ours or tuple(layout for layout in others if layout.name == format)
    if not named:
        known = (*FORMATS, *(layout.name for layout in others))
        raise ConfigError(f"unknown data set format {format!r}; choose one of {', '.join(known)}")
    return named


def _recognise(path: Path, layouts: tuple[Layout, ...], format: str) -> tuple[Path, Layout]:
    """The first layout that fits; those of other packages are asked where ours of masks do not."""
    if path.is_file():
        layouts = (table.LAYOUT,)
    found = _fitting(path, layouts)
    others: Sequence[Layout] = ()
    if found is None and format == "auto" and not path.is_file():
        others = (*load_plugins(LAYOUT_GROUP, Layout), *_WHOLE)
        found = _fitting(path, others)
    if found is not None:
        return found
    expected = "\n".join(f"  {layout.name}: {layout.description}" for layout in (*layouts, *others))
    hint = two_folders.describe(path) if path.is_dir() and format in ("auto", folder.LAYOUT.name) else ""
    if hint:
        raise DatasetError(f"{path} has no layout that is known here, but {hint}")
    raise DatasetError(f"{path} has no layout that is known here; expected\n{expected}")


def _fitting(path: Path, layouts: Iterable[Layout]) -> tuple[Path, Layout] | None:
    for layout in layouts:
        root = layout.find(path)
        if root is not None:
            return root, layout
    return None
