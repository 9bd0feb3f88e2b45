"""Masks as files, and in the colours of their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval.classes import ClassMap
from segmentation.drawing.pictures import Color, Picture, save_image

IGNORED_COLOR: Color = (224, 224, 192)  # Pascal VOC's colour of "void", known to every viewer of masks


def write_mask(path: str | Path, mask: npt.NDArray[Any], classes: ClassMap) -> None:
    """Write a mask of class ids (H, W) as PNG, at once or not at all.

    With ids up to 255: a palette image whose pixels are the class ids and whose palette has the
    classes' colours. With larger ones: 16 bit grey, pixels the class ids. Raises StorageError.
    """
    if classes.mask_dtype is np.uint16:
        image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint16))
    else:
        image = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
        image.putpalette(_palette(classes, mask))  # turns grey into palette mode; the pixels stay
    save_image(Path(path), image, "PNG")


def color_mask(mask: npt.NDArray[Any], classes: ClassMap) -> Picture:
    """A mask of class ids (H, W) in the classes' colours; ids that are no class in a pale grey-yellow."""
    palette = np.full((65536, 3), IGNORED_COLOR, dtype=np.uint8)
    for info in classes.classes:
        palette[info.id] = info.color
    painted: Picture = palette[mask]
    return painted


def color_columns(columns: npt.NDArray[np.int32], classes: ClassMap) -> Picture:
    """Class columns (H, W) in the classes' colours; -1 (unlabelled) in a pale grey-yellow."""
    palette = np.array([*(info.color for info in classes.classes), IGNORED_COLOR], dtype=np.uint8)
    painted: Picture = palette[columns]
    return painted


def _palette(classes: ClassMap, mask: npt.NDArray[Any]) -> list[int]:
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[[id for id in classes.ignore if id <= 255]] = IGNORED_COLOR
    palette[np.setdiff1d(mask, classes.ids)] = IGNORED_COLOR  # blank pixels, where no id is ignored
    for info in classes.classes:
        palette[info.id] = info.color
    flat: list[int] = palette.ravel().tolist()
    return flat
