"""Pictures of the benchmarks' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

#: Same table, same bytes: no date, no random ids in the file.
_REPEATABLE: dict[Any, Any] = {"svg.hashsalt": "mycelia", "svg.fonttype": "none"}


def frontier(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    time: tuple[str, str] = ("ms_per_query", "ms a query"),
) -> None:
    """mIoU against bytes a patch, and against ``time`` (key, label); a point for each form."""
    with plt.rc_context(_REPEATABLE):
        figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
        for axes, key, label in zip(
            panels, ("bytes_per_patch", time[0]), ("bytes a patch", time[1]), strict=True
        ):
            for number, row in enumerate(rows):
                axes.plot(row[key], row["miou"], "o", color=f"C{number}", label=row["form"])
            axes.set(xscale="log", xlabel=label)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            _tidy(axes)
        panels[0].set_ylabel("mIoU, percent")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        _save(figure, path)


def growth(rows: Sequence[dict[str, Any]], series: Sequence[tuple[str, str]], path: Path) -> None:
    """How figures grow with the bank: a panel for each (key, label) of ``series``, axes logarithmic."""
    with plt.rc_context(_REPEATABLE):
        figure, panels = plt.subplots(
            1, len(series), figsize=(3.6 * len(series), 3.6), layout="constrained", squeeze=False
        )
        for axes, (key, label) in zip(panels[0], series, strict=True):
            axes.plot([row["rows"] for row in rows], [row[key] for row in rows], "o-")
            axes.set(xscale="log", yscale="log", xlabel="patches", title=label)
            _tidy(axes)
        _save(figure, path)


def bars(names: Sequence[str], values: Sequence[float], label: str, path: Path) -> None:
    """A horizontal bar for each name, the first on top."""
    with plt.rc_context(_REPEATABLE):
        figure, axes = plt.subplots(figsize=(8, 0.35 * len(names) + 1), layout="constrained")
        axes.bar_label(axes.barh(names, values), fmt="%.3g", padding=3)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        _save(figure, path)


def _tidy(axes: Axes) -> None:
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
