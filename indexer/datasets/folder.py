"""A plain folder: ``images/`` and ``masks/`` with equal names, and an optional ``classes.json``.

Splits, if any, are subfolders (``images/train`` and ``masks/train``) or lists of ids
(``train.txt`` or ``splits/train.txt``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, choose_split
from indexer.datasets.class_file import USUAL_IGNORE, read_class_file
from indexer.datasets.labels import MaskFile, NoLabels
from indexer.datasets.masks import Color, ColorCode, color_of_id, read_mask_file
from indexer.datasets.pairs import FolderPair, Found
from indexer.datasets.splits import SplitReader
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError, MaskError

CLASS_FILE = "classes.json"


def find(path: Path) -> Path | None:
    """``path`` itself where it holds images/ and masks/, or None."""
    return path if (path / "images").is_dir() and (path / "masks").is_dir() else None


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split, or all where there are no splits, sorted by id or as listed.

    Raises DatasetError where images are missing, ambiguous or unlabelled altogether.
    """
    return load_pairs(root, split, [FolderPair("", root / "images", root / "masks")])


def load_pairs(root: Path, split: str | None, pairs: Sequence[FolderPair]) -> Dataset:
    """The samples of a split whose images and masks lie in the given folders; as :func:`load`."""
    found = Found.of(pairs)
    reader = SplitReader(found.images, found.masks, [pair.images for pair in pairs])
    lists, folders = reader.lists(root), found.folders
    available = sorted({*lists, *folders})
    if split is not None and not available:
        raise DatasetError(
            f"{root} has no splits (no {pairs[0].images.name}/{split}/, no {split}.txt); leave --split out"
        )
    if available:
        split = choose_split(split, available, where=root)
    keys, masks = _keys(found, split, lists, reader)
    # Ids drop the name of the split's own folder, so that lists of ids stay short.
    prefix = f"{split}/" if split is not None and split not in lists else ""
    drafts = [Sample(key[len(prefix) :], found.images[key], NoLabels(found.images[key])) for key in keys]
    checked = check_samples(drafts, where=lists.get(split or "", root))
    if not any(key in masks for key in keys):
        raise DatasetError(
            f"no image of {pairs[0].images} has a mask with the same name in {pairs[0].masks} "
            f"(the first, {checked[0].image.name}, needs for example {checked[0].id}.png)"
        )
    classes, colors = _classes(root, found.masks.values())
    samples = tuple(
        replace(sample, labels=MaskFile(masks[key], classes, colors)) if key in masks else sample
        for key, sample in zip(keys, checked, strict=True)
    )
    return Dataset(root.name, "folder", root, split, samples, classes, found.notes, found.left_out)


def _keys(
    found: Found, split: str | None, lists: dict[str, Path], reader: SplitReader
) -> tuple[list[str], dict[str, Path]]:
    """The images of a split, in order, and the masks of all."""
    if split is None:
        return list(found.images), found.masks
    if split not in lists:
        return [key for key in found.images if key.startswith(f"{split}/")], found.masks
    keys, masks = reader.read(lists[split])
    return keys, {**found.masks, **masks}


def _classes(root: Path, masks: Iterable[Path]) -> tuple[ClassMap, ColorCode | None]:
    if (root / CLASS_FILE).exists():
        return read_class_file(root / CLASS_FILE)
    return _found_classes(root, masks), None


def _found_classes(root: Path, masks: Iterable[Path]) -> ClassMap:
    """The ids that occur in any mask of any split, so that all splits share one class map."""
    ids: set[int] = set()
    palette: tuple[Color, ...] = ()
    problem: MaskError | None = None
    for path in masks:
        try:
            pixels, colors = read_mask_file(path)
        except MaskError as error:  # raised again when the sample is read, where bad ones may be skipped
            problem = problem or error
            continue
        if pixels.ndim == 3:
            raise DatasetError(
                f"mask {path} holds RGB colours; say in {root / CLASS_FILE} which class each colour is"
            )
        palette = palette or colors
        ids.update(np.unique(pixels).tolist())
    if not ids and problem is not None:
        raise problem
    _check_found(ids, root)
    return ClassMap(
        tuple(
            ClassInfo(id, f"class_{id}", palette[id] if id < len(palette) else color_of_id(id))
            for id in sorted(ids - {USUAL_IGNORE})
        ),
        ignore=(USUAL_IGNORE,),
    )


def _check_found(ids: set[int], root: Path) -> None:
    if min(ids) < 0 or max(ids) > 65535:
        raise DatasetError(
            f"the masks of {root} hold class ids outside 0..65535; save them as 8 or 16 bit class ids"
        )
    if ids <= {0, USUAL_IGNORE}:
        raise DatasetError(
            f"the masks of {root} hold no class ids but {', '.join(map(str, sorted(ids)))}, "
            "and 255 means unlabelled; if 255 is a class (black and white masks), list both under classes "
            f"in {root / CLASS_FILE}"
        )


LAYOUT = Layout(
    "folder",
    f"a plain folder: images/ and masks/ with equal file names, and perhaps {CLASS_FILE}",
    find,
    load,
)
