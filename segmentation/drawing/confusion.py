"""The confusion matrix as a picture: each row scaled to sum 1, darker is more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from segmentation.drawing.fonts import as_text, families

#: Up to so many classes all names are written; of more, those of so many that are confused most.
NAMED = 30
#: Up to so many classes the shares are written into the cells.
NUMBERED = 25
#: The picture's side in inches at most, and the inches that names and titles take of it.
_LARGEST, _MARGIN = 13.0, 2.5
_LONGEST = 28


def draw_confusion(confusion: npt.NDArray[Any], names: Sequence[str], *, title: str = "") -> Figure:
    """A figure of matplotlib for :func:`segmentation.drawing.pictures.write_figure`.

    ``confusion`` (C, C): how often the true class of a row got the class of a column; each row is drawn
    as shares of its sum, in grey where that is 0. ``names`` (C,) are all written where they are few, else
    those of :func:`most_confused`.
    """
    shares = row_shares(confusion)
    size = len(names)
    side = float(np.clip(_MARGIN + 0.42 * size, 4.5, _LARGEST))
    # A Figure of its own, not pyplot: no global state, and no display is asked for.
    figure = Figure(figsize=(side, side), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("#eeeeee")
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
    row_height = (side - _MARGIN) / max(size, 1)  # inches
    font = float(np.clip(40 * row_height, 6, 9))
    apart = 1 if size <= NAMED else max(1, round(font * 1.15 / 72 / row_height))
    written = list(range(size)) if size <= NAMED else most_confused(confusion, NAMED, apart=apart)
    texts = [_shortened(as_text(names[column])) for column in written]
    fonts = families([*texts, title])
    axes.set_xticks(written, texts, rotation=90, fontsize=font, fontfamily=fonts)
    axes.set_yticks(written, texts, fontsize=font, fontfamily=fonts)
    axes.set_xlabel("predicted" if len(written) == size else f"predicted ({len(written)} of {size} named)")
    axes.set_ylabel("true")
    if title:
        axes.set_title(title, fontfamily=fonts)
    if size <= NUMBERED:
        for row, column in np.argwhere(shares >= 0.005):
            share = float(shares[row, column])
            ink = "white" if share > 0.55 else "black"
            number = f"{100 * share:.0f}"
            axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=font - 1)
    return figure


def row_shares(confusion: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Each row divided by its sum, NaN where that is 0: (C, C) -> (C, C) float64."""
    counts = confusion.astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.full_like(counts, np.nan)
    np.divide(counts, total, out=shares, where=total > 0)
    return shares


def most_confused(confusion: npt.NDArray[Any], count: int, *, apart: int = 1) -> list[int]:
    """The classes of the largest mistakes, at most ``count``, ascending: both ends of each pair.

    Pairs come by the share of the true class's row that the wrong class has, then by their number. A
    class that is less than ``apart`` rows from one that was chosen earlier is left out.
    """
    wrong = np.nan_to_num(row_shares(confusion))
    np.fill_diagonal(wrong, 0)
    counts = confusion.astype(np.float64)
    order = np.lexsort((-counts.ravel(), -wrong.ravel()))
    chosen: list[int] = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if len(chosen) >= count or wrong[row, column] <= 0:
            break
        for place in (int(row), int(column)):
            if len(chosen) < count and all(abs(place - other) >= apart for other in chosen):
                chosen.append(place)
    return sorted(chosen)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."
