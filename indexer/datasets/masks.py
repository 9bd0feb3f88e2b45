"""Mask files: class ids or colours in pixels, exactly as written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from indexer.images import decode_file
from indexer.images.decode import upright
from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import MaskError

#: (red, green, blue), 0..255.
Color = tuple[int, int, int]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def color_of_id(id: int) -> Color:
    """The colour of a class id, 0..65535, in Pascal VOC's colour map: its bits, spread over three channels.

    Source: VOClabelcolormap.m of the VOC development kit.
    """
    channels = [0, 0, 0]
    for triple in range(8):
        for channel in range(3):
            channels[channel] |= (id >> (3 * triple + channel) & 1) << (7 - triple)
    return channels[0], channels[1], channels[2]


#: What the palette of an index mask says: its colours decide the class; they decide, and one in which no
#: colour is known is refused; they only must not contradict the index; or nothing.
PaletteRule = Literal["decide", "known", "check", "free"]


@dataclass(frozen=True)
class ColorCode:
    """What colours in masks mean: pairs of a colour and a class column (-1 unlabelled)."""

    columns: tuple[tuple[Color, int], ...]
    palettes: PaletteRule = "decide"

    @classmethod
    def of_classes(
        cls, classes: ClassMap, *, ignore: Sequence[Color] = (), palettes: PaletteRule = "decide"
    ) -> ColorCode:
        """The code that gives every class its own colour, and no label to the colours of ``ignore``."""
        labelled = tuple((info.color, column) for column, info in enumerate(classes.classes))
        return cls(labelled + tuple((color, UNLABELLED) for color in ignore), palettes)

    def meanings(self, color: Color) -> set[int]:
        """The class columns that a colour may stand for, -1 for unlabelled; none for an unknown colour."""
        return {column for known, column in self.columns if known == color}

    def decode(self, pixels: npt.NDArray[np.uint8], *, where: str) -> npt.NDArray[np.int32]:
        """Class columns of colours: (H, W, 3) uint8 -> (H, W) int32, -1 unlabelled.

        Raises MaskError, naming ``where``, for a colour without a meaning or with two.
        """
        known, columns = self._table(where)
        codes = pack_colors(pixels.astype(np.int32))
        slots = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        unknown = known[slots] != codes
        if unknown.any():
            row, col = (int(position) for position in np.argwhere(unknown)[0])
            color = tuple(int(channel) for channel in pixels[row, col])
            raise MaskError(
                f"{where} has the colour {color} at row {row}, col {col}, which is no class's colour; "
                "give it a class in classes.json or list the colour under ignore"
            )
        return columns[slots]

    def _table(self, where: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        codes = pack_colors(np.array([color for color, _ in self.columns], dtype=np.int32).reshape(-1, 3))
        columns = np.array([column for _, column in self.columns], dtype=np.int32)
        order = np.argsort(codes, kind="stable")
        codes, columns = codes[order], columns[order]
        twins = np.flatnonzero((codes[1:] == codes[:-1]) & (columns[1:] != columns[:-1]))
        if twins.size:
            code = int(codes[twins[0]])
            raise MaskError(
                f"{where} is an RGB mask, but two classes share the colour "
                f"{(code >> 16, code >> 8 & 255, code & 255)}; give each its own in classes.json"
            )
        return codes, columns


def pack_colors(colors: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Colours as numbers, red highest: (..., 3) int32 -> (...) int32."""
    packed: npt.NDArray[np.int32] = colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]
    return packed


def unpack_color(code: int) -> Color:
    """The colour that :func:`pack_colors` made a number of."""
    return code >> 16, code >> 8 & 255, code & 255


def read_mask_file(path: Path) -> tuple[npt.NDArray[Any], tuple[Color, ...]]:
    """A mask as it lies on disk, and its palette, empty where it has none.

    (H, W) integers hold class ids (palette indices, grey values of 1 to 16 bits); (H, W, 3) uint8 holds
    colours. An EXIF orientation of the mask's own is applied.
    Raises MaskError for a file that is missing, damaged, lossy or half transparent.
    """
    image = decode_file(path, kind="mask", error=MaskError)
    if image.format in ("JPEG", "MPO"):
        raise MaskError(
            f"mask {path} is a JPEG, whose compression changes class ids; export it again as PNG from "
            "where it was drawn (this file saved as PNG keeps the damage; two values can be thresholded)"
        )
    image = upright(image)
    if image.mode in ("RGBA", "LA"):
        image = _without_alpha(image, path)
    if image.mode == "P":
        return np.array(image), _palette(image)
    if image.mode == "1":
        return np.array(image, dtype=np.uint8), ()
    if image.mode == "L":
        return np.array(image) // _grey_step(path), ()
    if image.mode == "RGB" or image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(image), ()
    raise MaskError(
        f"mask {path} has the colour mode {image.mode}; save it as a palette, grey (8 or 16 bit) or RGB PNG"
    )


def _without_alpha(image: Image.Image, path: Path) -> Image.Image:
    if image.getchannel("A").getextrema() != (255, 255):
        raise MaskError(f"mask {path} has transparent pixels, whose class is unclear; save it without alpha")
    return image.convert("RGB" if image.mode == "RGBA" else "L")


def _palette(image: Image.Image) -> tuple[Color, ...]:
    flat = image.getpalette("RGB") or []
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))


def _grey_step(path: Path) -> int:
    """What one class id adds to a decoded grey value: Pillow stretches 2 and 4 bit PNGs to 0..255."""
    with path.open("rb") as file:
        header = file.read(26)
    if header[:8] != _PNG_SIGNATURE or header[25] != 0:  # byte 25: colour type, 0 is grey
        return 1
    depth = header[24]
    return 255 // (2**depth - 1) if depth in (2, 4) else 1
