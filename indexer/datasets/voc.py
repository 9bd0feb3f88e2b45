"""Pascal VOC's segmentation layout, with SBD's augmented masks.

Folders laid out like it may name classes of their own: see ``class_lists.py``.

Source: the VOC 2012 development kit; SBD as ``SegmentationClassAug`` and ``trainaug.txt``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from indexer.datasets.base import (
    Dataset,
    Layout,
    Sample,
    check_samples,
    choose_split,
    read_lines,
)
from indexer.datasets.class_lists import BORDER, CLASS_FILES, NamedClasses, read_named_classes
from indexer.datasets.found import check_named
from indexer.datasets.labels import MaskFile
from indexer.datasets.listed import IdLines, finish
from indexer.datasets.masks import ColorCode, color_of_id
from indexer.images import list_folder
from retrieval.classes import ClassInfo, ClassMap

NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
CLASSES = ClassMap(
    tuple(ClassInfo(id, name, color_of_id(id)) for id, name in enumerate(NAMES)),
    ignore=(255,),
)
#: What the colours of RGB copies of the masks mean; a palette with other colours is no palette of VOC.
COLORS = ColorCode.of_classes(CLASSES, ignore=(BORDER,), palettes="known")

_LISTS = Path("ImageSets", "Segmentation")
_IMAGES = "JPEGImages"
_MASKS = "SegmentationClass"
_AUGMENTED = "SegmentationClassAug"
_LABELME_MASKS = "SegmentationClassPNG"


def find(path: Path) -> Path | None:
    """The VOC folder (the one with JPEGImages) at ``path``, in its VOCdevkit, or None."""
    folders = (path, path / "VOCdevkit")
    candidates = [path, *(folder / "VOC2012" for folder in folders)]
    candidates += [
        year for folder in folders for year in sorted(folder.glob("VOC20[0-9][0-9]"), reverse=True)
    ]
    return next((root for root in candidates if (root / _LISTS).is_dir() and (root / _IMAGES).is_dir()), None)


def load(root: Path, split: str | None) -> Dataset:
    """The samples of one list in ImageSets/Segmentation; DatasetError where there is no such list."""
    lists = root / _LISTS
    split = choose_split(split, splits(root), where=lists)
    source = lists / f"{split}.txt"
    folders = (_AUGMENTED, _MASKS) if split == "trainaug" else (_MASKS, _AUGMENTED)
    reader = IdLines(root, images=_IMAGES, masks=(*folders, _LABELME_MASKS))
    items = [reader.read(line, where=f"{source}, line {number}") for number, line in read_lines(source)]
    listed, notes = finish(items, root)
    classes, labels = _labels(root)
    samples = [Sample(item.id, item.image, labels(item.mask)) for item in listed]
    listing = list_folder(root / _IMAGES)
    return Dataset(
        name=root.name,
        format="voc",
        root=root,
        split=split,
        samples=check_samples(samples, where=source),
        classes=classes,
        notes=(*listing.notes(), *notes),
        left_out=listing.endings(),
    )


def splits(root: Path) -> list[str]:
    """The names of the lists, sorted."""
    return sorted(path.stem for path in (root / _LISTS).glob("[!.]*.txt"))


def _labels(root: Path) -> tuple[ClassMap, Callable[[Path], MaskFile]]:
    """The classes that a file beside the folders names, or Pascal VOC's, and what reads a mask of them."""
    named = read_named_classes(root)
    masks = [path for folder in (_MASKS, _AUGMENTED) for path in sorted((root / folder).glob("*.png"))]
    if named is None:
        check_named(NamedClasses(root / CLASS_FILES[0], CLASSES, COLORS), masks)
        hint = f"if the classes are not Pascal VOC's, name them in {root} in one of {', '.join(CLASS_FILES)}"
        return CLASSES, partial(MaskFile, classes=CLASSES, colors=COLORS, hint=hint)
    check_named(named, masks)
    hint = f"the classes are those of {named.path}"
    return named.classes, partial(MaskFile, classes=named.classes, colors=named.colors, hint=hint)


LAYOUT = Layout(
    "voc",
    f"Pascal VOC: {_LISTS.as_posix()}/SPLIT.txt, {_IMAGES}/ and {_MASKS}/, in the folder itself "
    f"or in its VOCdevkit/VOC2012, and perhaps the classes in {CLASS_FILES[0]} or {CLASS_FILES[1]}",
    find,
    load,
    splits,
)
