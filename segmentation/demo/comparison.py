"""The demo's picture: a row for each photo, a column each for truth, predictions and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED, ClassMap
from segmentation.drawing.masks import color_columns
from segmentation.drawing.pictures import write_figure


@dataclass(frozen=True)
class Comparison:
    """One row of the picture.

    ``image`` (H, W, 3) uint8; ``truth`` (H, W) int32 class columns, -1 unlabelled; ``predictions``: the
    same of each method; ``confidence`` (H, W) float32 in 0..1 of the last method.
    """

    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.int32]
    predictions: tuple[npt.NDArray[np.int32], ...]
    confidence: npt.NDArray[np.float32]


def write_comparison(
    path: Path, rows: Sequence[Comparison], *, classes: ClassMap, methods: Sequence[str]
) -> Path:
    """Write the rows as one PNG with a legend of the classes; returns ``path``.

    ``methods`` are the titles of the prediction columns. Raises StorageError.
    """
    # A Figure of its own, not pyplot: no global state, and no display is asked for.
    from matplotlib.figure import Figure

    titles = ("photo", "truth", *methods, "confidence")
    figure = Figure(figsize=(3.0 * len(titles), 2.6 * len(rows) + 0.9), dpi=110, layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    for row, compared in zip(axes, rows, strict=True):
        colored = [color_columns(columns, classes) for columns in (compared.truth, *compared.predictions)]
        for axis, picture in zip(row, (compared.image, *colored), strict=False):
            axis.imshow(picture, interpolation="nearest")
        shown = row[-1].imshow(compared.confidence, cmap="magma", vmin=0, vmax=1)
        figure.colorbar(shown, ax=row[-1], fraction=0.046)
    for axis in axes.flat:
        axis.set_axis_off()
    _add_legend(figure, classes)
    return write_figure(path, figure)


def _add_legend(figure: Any, classes: ClassMap) -> None:
    from matplotlib.patches import Patch

    columns = np.array([[*range(len(classes)), UNLABELLED]], dtype=np.int32)
    colors = color_columns(columns, classes)[0] / 255
    names = (*classes.names, "unlabelled")
    handles = [
        Patch(facecolor=(red, green, blue), label=name)
        for (red, green, blue), name in zip(colors.tolist(), names, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=10)
