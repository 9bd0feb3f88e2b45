"""A picture of an answer: the asked patch in its photo, and the memory patches that voted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.images import Box, read_image
from retrieval.errors import ImageError
from segmentation.drawing.fonts import as_text, families
from segmentation.drawing.pictures import write_figure
from segmentation.explain import Vote

#: Memory patches shown at most, and how many stand in a row.
MOST_SHOWN, COLUMNS = 12, 4
#: How many times its own size a patch's surroundings are shown.
CONTEXT = 5.0


def write_vote_picture(
    path: Path, photo: npt.NDArray[np.uint8], patch: Box, votes: Sequence[Vote], *, title: str
) -> Path:
    """Write a PNG: the photo with its patch, and beside it the heaviest votes in their surroundings.

    ``photo`` (H, W, 3) uint8, ``patch`` (top, left, bottom, right) in its pixels. A memory image that
    is no longer where it was when the index was built is shown by its thumbnail, and without one named
    only. Returns ``path``; raises StorageError.
    """
    # A Figure of its own, not pyplot: no global state, and no display is asked for.
    from matplotlib.figure import Figure

    shown = votes[:MOST_SHOWN]
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = Figure(figsize=(6 + 2.3 * COLUMNS, max(5.0, 2.7 * rows)), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[6, 2.3 * COLUMNS])[0]
    axis = left.subplots()
    names = [vote.image_id for vote in shown] + [name for vote in shown for name in vote.label]
    fonts = families([title, *names])
    axis.set_title(as_text(title), fontsize=11, fontfamily=fonts)
    _show(axis, photo, patch, size=photo.shape[:2])
    grid = right.subplots(rows, COLUMNS, squeeze=False)
    for axis, vote in zip(grid.flat, shown, strict=False):
        _show_vote(axis, vote, fonts)
    for axis in figure.axes:
        axis.set_axis_off()
    return write_figure(path, figure)


def _show_vote(axis: Any, vote: Vote, fonts: Sequence[str]) -> None:
    name = next(iter(vote.label), "unlabelled")
    text = as_text(f"{vote.image_id}\n{name}, weight {100 * vote.weight:.1f} %")
    axis.set_title(text, fontsize=8, fontfamily=fonts)
    image = _memory_image(vote)
    if image is None:
        axis.text(0.5, 0.5, "the memory image\nis not there any more", ha="center", va="center", fontsize=8)
        return
    _show(axis, image, vote.box, size=vote.image_size)
    top, left, bottom, right = vote.box
    half = CONTEXT / 2 * max(bottom - top, right - left)
    row, col = (top + bottom) / 2, (left + right) / 2
    height, width = vote.image_size
    axis.set_xlim(max(col - half, 0), min(col + half, width))
    axis.set_ylim(min(row + half, height), max(row - half, 0))


def _memory_image(vote: Vote) -> npt.NDArray[np.uint8] | None:
    """The image (H, W, 3) where it was, else its thumbnail; None where neither can be read."""
    for path in (vote.image_path, vote.thumbnail):
        if path is not None:
            with suppress(ImageError):
                return read_image(path)
    return None


def _show(axis: Any, image: npt.NDArray[np.uint8], box: Box, *, size: tuple[int, int]) -> None:
    """An image or a smaller copy of it; ``box`` and ``size`` (height, width) are in the image's pixels."""
    from matplotlib.patches import Rectangle

    top, left, bottom, right = box
    height, width = size
    axis.imshow(image, extent=(0, width, height, 0))
    axis.add_patch(
        Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="cyan", linewidth=1.5)
    )
