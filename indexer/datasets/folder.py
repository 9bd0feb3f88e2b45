"""A plain folder: ``images/`` and ``masks/`` with equal names, and an optional ``classes.json``.

Splits, if any, are subfolders (``images/train`` and ``masks/train``) or lists of ids
(``train.txt`` or ``splits/train.txt``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, choose_split
from indexer.datasets.class_file import CLASS_FILE
from indexer.datasets.class_lists import read_named_classes
from indexer.datasets.found import check_named, found_classes
from indexer.datasets.labels import MaskFile, NoLabels
from indexer.datasets.masks import ColorCode
from indexer.datasets.pairs import FolderPair, Found
from indexer.datasets.splits import SplitReader
from retrieval.classes import ClassMap
from retrieval.errors import DatasetError


def find(path: Path) -> Path | None:
    """``path`` itself where it holds images/ and masks/, or None."""
    return path if (path / "images").is_dir() and (path / "masks").is_dir() else None


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split, or all where there are no splits, sorted by id or as listed.

    Raises DatasetError where images are missing, ambiguous or unlabelled altogether.
    """
    return load_pairs(root, split, _own_pair(root))


def draft(root: Path, split: str | None) -> Dataset:
    """As :func:`load`, but without classes, and images may be unlabelled altogether."""
    return load_pairs(root, split, _own_pair(root), draft=True)


def splits(root: Path) -> list[str]:
    """The names of the splits, sorted."""
    return splits_of(root, _own_pair(root))


def _own_pair(root: Path) -> list[FolderPair]:
    return [FolderPair("", root / "images", root / "masks")]


def splits_of(root: Path, pairs: Sequence[FolderPair]) -> list[str]:
    """The names of the splits of images and masks that lie in the given folders, sorted."""
    found = Found.of(pairs)
    reader = SplitReader(found.images, found.masks, [pair.images for pair in pairs])
    return sorted({*reader.lists(root), *found.folders})


def load_pairs(root: Path, split: str | None, pairs: Sequence[FolderPair], *, draft: bool = False) -> Dataset:
    """The samples of a split whose images and masks lie in the given folders; as :func:`load`.

    A ``draft`` has no classes, opens no mask, and may be unlabelled altogether.
    """
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
    if not draft and not any(key in masks for key in found.images):
        raise DatasetError(
            f"no image of {pairs[0].images} has a mask with the same name in {pairs[0].masks} "
            f"(the first, {checked[0].image.name}, needs for example {checked[0].id}.png)"
        )
    none = ClassMap(())
    classes, colors = (none, None) if draft else classes_of(root, list(found.masks.values()))
    samples = tuple(
        replace(sample, labels=MaskFile(masks[key], classes, colors)) if key in masks else sample
        for key, sample in zip(keys, checked, strict=True)
    )
    return Dataset(
        root.name,
        "folder",
        root,
        split,
        samples,
        classes,
        notes=found.notes,
        left_out=found.left_out,
        found=not draft and read_named_classes(root) is None,
    )


def classes_of(root: Path, masks: Iterable[Path]) -> tuple[ClassMap, ColorCode | None]:
    """The classes that a file of ``root`` names, or that occur in the masks, and what colours mean.

    Raises DatasetError where the masks contradict each other or the names, or tell of no classes.
    """
    every, named = list(masks), read_named_classes(root)
    if named is None:
        return found_classes(root, every), None
    check_named(named, every)
    return named.classes, named.colors


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


LAYOUT = Layout(
    "folder",
    f"a plain folder: images/ and masks/ with equal file names, and perhaps {CLASS_FILE}",
    find,
    load,
    splits,
    draft,
    classes_of,
)
