"""Pascal VOC's segmentation layout, with SBD's augmented masks.

Source: the VOC 2012 development kit; SBD as ``SegmentationClassAug`` and ``trainaug.txt``.
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
    resolve_listed,
)
from indexer.datasets.labels import MaskFile
from indexer.datasets.masks import ColorCode, color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError

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
#: Colour 255 of the palette: the pale border around objects.
BORDER = (224, 224, 192)
#: What the colours of RGB copies of the masks mean.
COLORS = ColorCode.of_classes(CLASSES, ignore=(BORDER,))

_LISTS = Path("ImageSets", "Segmentation")
_IMAGES = "JPEGImages"
_MASKS = "SegmentationClass"
_AUGMENTED = "SegmentationClassAug"


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
    samples = [
        _sample(root, line, split, where=f"{source}, line {number}") for number, line in read_lines(source)
    ]
    return Dataset(
        name=root.name,
        format="voc",
        root=root,
        split=split,
        samples=check_samples(samples, where=source),
        classes=CLASSES,
    )


def splits(root: Path) -> list[str]:
    """The names of the lists, sorted."""
    return sorted(path.stem for path in (root / _LISTS).glob("*.txt"))


def _sample(root: Path, line: str, split: str, *, where: str) -> Sample:
    """A line is an id, or (some copies of SBD's lists) the paths of the image and of the mask."""
    words = line.split()
    if "/" not in line:
        if len(words) != 1:
            raise DatasetError(f"{where}: expected an id or the paths of an image and its mask, not {line!r}")
        return Sample(line, resolve_listed(root, f"{_IMAGES}/{line}.jpg"), _labels(root, line, split))
    if len(words) > 2:
        raise DatasetError(f"{where}: expected the paths of an image and its mask, not {line!r}")
    image = resolve_listed(root, words[0])
    mask = resolve_listed(root, words[1]) if len(words) == 2 else _mask(root, image.stem, split)
    labels = MaskFile(mask, CLASSES, COLORS) if mask.is_file() else _labels(root, image.stem, split)
    return Sample(image.stem, image, labels)


def _labels(root: Path, id: str, split: str) -> MaskFile:
    return MaskFile(_mask(root, id, split), CLASSES, COLORS)


def _mask(root: Path, id: str, split: str) -> Path:
    folders = (_AUGMENTED, _MASKS) if split == "trainaug" else (_MASKS, _AUGMENTED)
    paths = [root / folder / f"{id}.png" for folder in folders]
    return next((path for path in paths if path.is_file()), paths[0])


LAYOUT = Layout(
    "voc",
    f"Pascal VOC: {_LISTS.as_posix()}/SPLIT.txt, {_IMAGES}/ and {_MASKS}/, in the folder itself "
    "or in its VOCdevkit/VOC2012",
    find,
    load,
    splits,
)
