"""What ``mycelia tune`` shows of patches: finals, the index's trials, what to expect, three choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmentation.cli.console import format_percent, show, show_table

if TYPE_CHECKING:
    from segmentation.tuning.report import Row, TuningReport
    from segmentation.tuning.settings import Setting

#: Settings that the table shows.
SHOWN = 12


def show_report(report: TuningReport) -> None:
    """Settings, the index's trials, what to expect, and last the three choices, on stdout."""
    from segmentation.tuning.recipe_file import expectation_lines

    show_settings(report)
    show_trials(report)
    for line in (*report.notes, *expectation_lines(report)):
        show(line)
    show_choices(report)


def show_settings(report: TuningReport) -> None:
    """A table of the finals: of each vector and way of making masks the best k and T."""
    best: dict[object, Row] = {}
    for row in sorted(report.rows, key=lambda row: row.behind):
        best.setdefault((row.setting.vector, row.setting.shifts, row.setting.refine), row)
    shown = list(best.values())[:SHOWN]
    shown += [row for row in (report.plain, report.base) if row is not None and row not in shown]
    left_out = "images" if report.groups is None else "groups"
    show_table(
        f"mIoU of left-out {left_out}, percent; the finals, the best k and T of each",
        ["block", "vectors", "k", "T", "masks", "mIoU", "behind", "error", ""],
        [
            [
                *setting_cells(row.setting),
                format_percent(row.miou),
                f"{100 * row.behind:.2f}",
                f"{100 * row.error:.2f}",
                "the base recipe" if row is report.base else "plain" if row is report.plain else "",
            ]
            for row in shown
        ],
        text=("vectors", "masks", ""),
    )


def setting_cells(setting: Setting) -> list[str]:
    """A setting in a table: block, vectors, k, T, masks."""
    metric = "" if setting.reduction.kind == "none" else f", {setting.reduction}"
    shifted = f"shifts {setting.shifts}" if setting.shifts > 1 else ""
    refined = setting.refine if setting.refine != "none" else ""
    return [
        str(setting.block),
        setting.features + metric,
        str(setting.k),
        f"{setting.temperature:g}",
        ", ".join(word for word in (shifted, refined) if word) or "plain",
    ]


def show_choices(report: TuningReport) -> None:
    """The three choices, a line each: what each gives and costs, and what it is."""
    show("gains over plain embeddings; milliseconds as measured here, of features, search and masks:")
    for choice in report.choices:
        s, cost = choice.setting, choice.cost
        name = choice.name + (" (written)" if choice.name == report.written else "")
        show(
            f"{name}: mIoU {format_percent(choice.miou)} ({100 * choice.gain:+.1f}), {cost.total:.0f} ms an "
            f"image ({cost.features:.0f} + {cost.search:.0f} + {cost.labels:.0f}), {cost.patch_bytes} bytes "
            f"a patch: block {s.block}, {s.features}, metric {s.reduction}, k {s.k}, T {s.temperature:g}, "
            f"shifts {s.shifts}, refine {s.refine}"
        )


def show_trials(report: TuningReport) -> None:
    """A table of the index's trials, and what came of them."""
    if report.engine.trials:
        show_table(
            "index, percent",
            ["factory", "nprobe", "k_factor", "mIoU", "loss"],
            [
                [t.factory, str(t.nprobe), str(t.k_factor), format_percent(t.miou), f"{100 * t.loss:.2f}"]
                for t in report.engine.trials
            ],
            text=("factory",),
        )
    show(f"index: {report.engine.reason}")
