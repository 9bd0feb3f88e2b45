"""The geometry of torchvision's ``RandomResizedCrop``, without its random numbers. Sizes are whole pixels."""

from __future__ import annotations

import math

#: Range of a crop's width over its height.
ASPECTS = (3 / 4, 4 / 3)
#: Crops drawn before the middle of the image is taken.
TRIES = 10


def crop_size(shape: tuple[int, ...], area: float, aspect: float) -> tuple[int, int] | None:
    """(height, width) of a crop with this share of the area of an image (H0, W0); None where it leaves it."""
    pixels = shape[0] * shape[1] * area
    width, height = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
    return (height, width) if 0 < width <= shape[1] and 0 < height <= shape[0] else None


def centre_crop(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the middle of an image (H0, W0), as large as :data:`ASPECTS` allow."""
    height, width = shape[0], shape[1]
    narrow, wide = ASPECTS
    if width / height < narrow:
        height = min(height, max(1, round(width / narrow)))
    elif width / height > wide:
        width = min(width, max(1, round(height * wide)))
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width
