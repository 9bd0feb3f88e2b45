"""The size at which a model should see images of a shape; sizes are (height, width) in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Size = tuple[int, int]

#: How many times longer or wider than the size an image may be before what is thin in it is lost.
LONGEST = 1.8
#: Patches of a size that is chosen for long images: more take too much time and memory.
MOST_PATCHES = 2304


@dataclass(frozen=True)
class ChosenSize:
    """A size (height, width), and in words why it was chosen."""

    size: Size
    reason: str


def choose_size(shapes: Sequence[Size], *, usual: Size, patch: Size) -> ChosenSize:
    """The size for images of these shapes (height, width): ``usual``, or one of their own aspect.

    ``usual`` serves where the median aspect is within :data:`LONGEST` of its own. Longer images are seen
    at their own aspect in multiples of ``patch``: neither axis coarser than at ``usual``, not enlarged
    for that, in no fewer patches than ``usual`` and at most :data:`MOST_PATCHES` (or as many as it has).
    """
    if not shapes:
        return ChosenSize(usual, "the usual size, since no image could be looked at")
    shape = median_shape(shapes)
    seen = f"the images' median shape is {shape[0]} x {shape[1]}"
    if not is_long(shape, usual):
        return ChosenSize(usual, f"{seen} (height x width), near the usual one")
    size = own_size(shape, usual=usual, patch=patch)
    count = (size[0] // patch[0]) * (size[1] // patch[1])
    return ChosenSize(
        size,
        f"{seen} (height x width), too far from the usual {usual[0]} x {usual[1]}; "
        f"{count:,} patches an image",
    )


def own_size(shape: Size, *, usual: Size, patch: Size) -> Size:
    """A size of the aspect of ``shape``, as :func:`choose_size` finds it for long images."""
    height, width = shape
    fewest = (usual[0] // patch[0]) * (usual[1] // patch[1])
    most = max(MOST_PATCHES, fewest)
    own = height * width / (patch[0] * patch[1])  # patches at the image's own resolution
    no_coarser = max(usual[0] / height, usual[1] / width) ** 2 * own
    wanted = min(max(min(own, no_coarser), fewest), most)
    scale = math.sqrt(wanted / own)
    rows = max(1, round(height * scale / patch[0]))
    cols = max(1, round(width * scale / patch[1]))
    if rows < cols:
        cols = min(cols, max(1, most // rows))
    else:
        rows = min(rows, max(1, most // cols))
    return rows * patch[0], cols * patch[1]


def median_shape(shapes: Sequence[Size]) -> Size:
    """The shape whose aspect is the middle one, the larger image of equals: (height, width)."""
    ranked = sorted(shapes, key=lambda shape: (shape[0] / shape[1], shape))
    return ranked[len(ranked) // 2]


def is_long(shape: Size, size: Size) -> bool:
    """Whether an image (height, width) is so much longer or wider than the size that thin things get lost."""
    return aspect_gap(shape, size) > LONGEST


def aspect_gap(shape: Size, size: Size) -> float:
    """How many times longer or wider one is than the other, at least 1."""
    ratio = (shape[1] / shape[0]) / (size[1] / size[0])
    return max(ratio, 1 / ratio)
