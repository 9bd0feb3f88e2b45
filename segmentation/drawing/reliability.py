"""Two pictures of confidence: how often pixels are right against it, and scores of the surest pixels."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segmentation.scoring.reliability import Coverage, ReliabilityBin


def draw_reliability(bins: Sequence[ReliabilityBin], coverage: Sequence[Coverage], ece: float) -> Figure:
    """Reliability diagram, and scores against coverage, as a figure of matplotlib.

    On the left each bin's share of right pixels, with the share of all pixels that it has in grey behind; on
    the right pixel accuracy and mean IoU of the surest pixels against their share.
    """
    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_bins(left, bins, ece)
    right.plot([point.kept for point in coverage], [point.accuracy for point in coverage], label="accuracy")
    right.plot([point.kept for point in coverage], [point.miou for point in coverage], label="mean IoU")
    right.set(
        xlim=(0, 1), ylim=(0, 1.02), xlabel="share of pixels kept, surest first", ylabel="score of them"
    )
    right.grid(alpha=0.3)
    right.legend(loc="lower left")
    return figure


def _draw_bins(axes: Axes, bins: Sequence[ReliabilityBin], ece: float) -> None:
    total = max(1, sum(bin.pixels for bin in bins))
    width = 1 / max(1, len(bins))
    lower = [bin.lower for bin in bins]
    shares = [bin.pixels / total for bin in bins]
    axes.bar(lower, shares, width, align="edge", color="#cccccc", label="share of pixels")
    filled = [bin for bin in bins if bin.pixels]
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--", label="calibrated")
    axes.plot([bin.confidence for bin in filled], [bin.accuracy for bin in filled], "o-", label="accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"expected calibration error {100 * ece:.2f} %")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
