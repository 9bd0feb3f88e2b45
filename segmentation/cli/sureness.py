"""What ``mycelia evaluate`` says of confidence: its calibration, and images with a defect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import ConfigError
from segmentation.cli.console import count_of, format_percent, say, show

if TYPE_CHECKING:
    from segmentation.scoring.calibration import Calibration
    from segmentation.scoring.defects import DefectReport
    from segmentation.scoring.evaluator import EvaluationReport


def show_sureness(report: EvaluationReport) -> None:
    """The calibration error, and what is asked for of blank pixels and of defects, on stdout."""
    show(f"expected calibration error {_percent(report.reliability.ece)}")
    if report.blanks is not None:
        show(report.blanks.sentence)
    if report.defect is not None:
        _show_defect(report.defect, leave_out=report.leave_out)


def store_calibration(
    index: Path, calibration: Calibration | None, *, overrides: Sequence[str], leave_out: bool
) -> None:
    """Write what was fitted into the index; where other settings than its own were scored, only say it.

    Raises ConfigError where nothing could be fitted, and what changing an index does.
    """
    from retrieval.edit.recipe import change_section

    if calibration is None:
        raise ConfigError("there is no labelled pixel to calibrate on; give images with masks")
    setting = f"transfer.calibration={calibration.tau:.4g}"
    show(
        f"{setting}: expected calibration error {_percent(calibration.ece)} on the "
        f"{calibration.pixels:,} pixels of the fit, {_percent(calibration.ece_shares)} without"
    )
    if calibration.at_limit:
        say(f"warning: {setting} is the end of what is tried; nearly all pixels are right, or hardly any")
    if not all(override.startswith(("runtime.", "transfer.calibration=")) for override in overrides):
        say(f"it fits the settings given here, not those of the index: give {setting} with them")
        return
    change_section(index, "transfer", {"calibration": calibration.tau})
    how = "its images without themselves" if leave_out else "other images"
    say(f"stored in {index}, from {how}; transfer.calibration=null shows the shares as they are")


def _show_defect(defect: DefectReport, *, leave_out: bool) -> None:
    count = sum(image.defective for image in defect.images)
    show(
        f"image-level AUROC of {defect.name} {format_percent(defect.auroc)} "
        f"({count_of(count, 'image')} with, {len(defect.images) - count:,} without)"
    )
    if defect.rates is not None:
        found, alarms = (format_percent(rate) for rate in defect.rates)
        show(f"at {defect.name}={defect.threshold}: true positive rate {found}, false positive rate {alarms}")
    if defect.proposed is not None:
        how = "of images left out one by one" if leave_out else "of these images"
        show(f"best threshold {how}: mycelia segment ... --threshold {defect.name}={defect.proposed:.4g}")


def _percent(error: float) -> str:
    """Two decimals: where one class has nearly all pixels the error is small."""
    return "-" if math.isnan(error) else f"{100 * error:.2f}"
