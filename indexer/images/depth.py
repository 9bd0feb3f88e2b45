"""Pixels of 16 bits as 8 bits, by the bits that an image uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

#: Bits that cameras and scanners write into 16: the fewest that hold an image's largest value are taken.
DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Depth:
    """How many bits of 16 an image uses."""

    bits: int

    @classmethod
    def of(cls, largest: int) -> Depth:
        """The depth of an image whose largest value, 0..65535, is this; of black images all 16 bits."""
        return cls(next(bits for bits in DEPTHS if largest < 2**bits) if largest else 16)

    def to_bytes(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Values 0..2^bits - 1 of any shape, as 0..255 of the same shape, rounded."""
        top = 2**self.bits - 1
        if self.bits == 8:
            scaled = values
        elif self.bits == 16:  # 65535 = 255 * 257
            scaled = (values.astype(np.uint32) + 128) // 257
        else:
            scaled = (values.astype(np.uint32) * 255 + top // 2) // top
        pixels: npt.NDArray[np.uint8] = scaled.astype(np.uint8)
        return pixels


def read_deep(path: Path, decoded: Image.Image) -> npt.NDArray[np.uint16] | None:
    """The colours of a file whose 16 bits hold fewer; None where ``decoded``, by Pillow, is good enough.

    Pillow gives the upper 8 of 16 bits a colour. That is not enough for PNG and TIFF whose upper two bits
    are nowhere in use: their pixels, (H, W, 3) or with alpha (H, W, 4), lie as those of ``decoded``.
    """
    if not _has_deep_colors(path, decoded):
        return None
    bands = decoded.getextrema()[:3]  # alpha is the fourth
    if max(int(band[1]) for band in bands) >= 64:  # type: ignore[index]
        return None
    # which turns a TIFF by its tag, as Pillow does, and nothing else
    try:
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # it has a limit of its own
        return None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        return None
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return pixels[:, :, order].astype(np.uint16)


def _has_deep_colors(path: Path, decoded: Image.Image) -> bool:
    if decoded.format == "PNG":
        with path.open("rb") as file:
            header = file.read(26)  # depth, then colour type: 2 RGB, 4 grey and alpha, 6 RGBA
        return header[24] == 16 and header[25] in (2, 4, 6)
    if decoded.format == "TIFF":
        bits = decoded.tag_v2.get(258, ())  # type: ignore[attr-defined]
        return len(bits) >= 3 and set(bits) == {16}
    return False
