"""Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.

The 19 classes of its benchmark, numbered as they are trained; all other ids carry no label.
Source: mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, choose_split
from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import read_mask_file
from indexer.datasets.names import composed
from indexer.images.listing import list_folder, subfolders
from retrieval.classes import UNLABELLED, ClassInfo, ClassMap
from retrieval.errors import MaskError

_IMAGES, _MASKS = "leftImg8bit", "gtFine"
_ENDING = f"_{_IMAGES}"
#: The largest id of its labels; 255 stands for the negative one, which has no pixels of its own.
_LAST, _NONE = 33, 255

#: (id in the masks, name, colour), in the order in which they are trained.
_TRAINED = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
CLASSES = ClassMap(
    tuple(ClassInfo(place, name, color) for place, (_, name, color) in enumerate(_TRAINED)), ignore=(255,)
)


@dataclass(frozen=True)
class LabelIds:
    """A mask of Cityscapes' own ids, of which 19 are classes."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> npt.NDArray[np.int32]:
        """The class columns, (H, W) int32, -1 unlabelled.

        Raises MaskError for a mask that is missing, unreadable, in colours, or holds an unknown id.
        """
        pixels, _ = read_mask_file(self.path)
        if pixels.ndim != 2:
            raise MaskError(f"mask {self.path} holds colours; expected the ids of *_labelIds.png")
        table = np.full(256, -2, dtype=np.int32)
        table[: _LAST + 1] = table[_NONE] = UNLABELLED
        table[[id for id, _, _ in _TRAINED]] = np.arange(len(_TRAINED))
        columns: npt.NDArray[np.int32] = table[
            np.clip(pixels, 0, 254 if pixels.max() > 255 else 255).astype(np.int64)
        ]
        if (columns == -2).any():
            unknown = np.unique(pixels[columns == -2])[:5].tolist()
            raise MaskError(
                f"mask {self.path} holds id {', '.join(map(str, unknown))}, but Cityscapes has ids "
                f"0..{_LAST}; expected *_labelIds.png as it was downloaded"
            )
        return columns

    def check(self) -> None:
        """Raise MaskError where there is no such file."""
        if not self.path.is_file():
            raise MaskError(f"mask {self.path} does not exist; unpack {_MASKS} beside {_IMAGES}")

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """The file's content."""
        return SourceKey.of_file(self.path, known=known)


def find(path: Path) -> Path | None:
    """``path``, or its folder ``cityscapes``, with splits in leftImg8bit/ and gtFine/, or None."""
    candidates = (path, path / "cityscapes", path / "Cityscapes")
    return next((root for root in candidates if splits(root)), None)


def splits(root: Path) -> list[str]:
    """The folders of images that have one of masks, sorted."""
    if not (root / _MASKS).is_dir():
        return []
    parts = subfolders(root / _IMAGES)
    return [part.name for part in parts if (root / _MASKS / part.name).is_dir() and _is_split(part)]


def _is_split(folder: Path) -> bool:
    places = [folder, *subfolders(folder)]
    return any(True for place in places for _ in place.glob(f"*{_ENDING}.*"))


def load(root: Path, split: str | None) -> Dataset:
    """The images of a split, by city; DatasetError for a split that is unknown or must be chosen."""
    split = choose_split(split, splits(root), where=root)
    folder = root / _IMAGES / split
    listing = list_folder(folder)
    samples = []
    for image in listing.images:
        stem = composed(image.stem).removesuffix(_ENDING)
        city = image.parent.relative_to(folder)
        mask = root / _MASKS / split / city / f"{stem}_{_MASKS}_labelIds.png"
        samples.append(Sample(stem, image, LabelIds(mask)))
    return Dataset(
        "Cityscapes",
        "cityscapes",
        root,
        split,
        check_samples(samples, where=folder),
        CLASSES,
        notes=listing.notes(),
        left_out=listing.endings(),
    )


LAYOUT = Layout(
    "cityscapes",
    "Cityscapes: leftImg8bit/ and gtFine/, each with train/, val/ and folders of cities",
    find,
    load,
    splits,
)
