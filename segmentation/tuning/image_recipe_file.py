"""The tuned recipe of whole images as a file: what was chosen, how, and what is expected of it."""

from __future__ import annotations

from pathlib import Path

from segmentation.tuning.image_tuner import ImageTuningReport
from segmentation.tuning.recipe_file import COMMON, plain_recipe, range_of, write_commented


def write_image_recipe(
    path: Path, report: ImageTuningReport, *, base: str, data: str, rule: str | None
) -> None:
    """As :func:`segmentation.tuning.recipe_file.write_recipe`; raises StorageError."""
    deciding = {**COMMON, "features": ("level", "kind", "gradient_weight", "pca")}
    if report.recipe.features.kind == "fungi":
        deciding["objective"] = ("kind",)
    lines = [*_provenance(report, base=base, data=data, rule=rule), *image_expectation_lines(report)]
    write_commented(path, plain_recipe(report.recipe, deciding), lines)


def image_expectation_lines(report: ImageTuningReport) -> list[str]:
    """What to expect and what speaks for the choice, in sentences."""
    near, new, measure = report.near, report.new, report.measure
    lines = [_choice_line(report)]
    if new is None:
        lines.append(
            f"Expected {measure} on new images: {range_of(near)} (95 % of sets of {near.units} images), if "
            "they resemble the memory's as these resemble one another; images of a series or of a patient "
            "that the memory lacks may well score less: --group says how much."
        )
    else:
        lines += [
            f"Expected {measure} on new images like the memory's, whose neighbours are in it: "
            f"{range_of(near)}.",
            f"Expected {measure} on images of groups that the memory lacks: {range_of(new)} "
            f"(95 % intervals for sets of {new.units} groups).",
        ]
    return [
        *lines,
        f"With plain embeddings, chosen and scored in the same way: {100 * report.plain:.1f}.",
    ]


def _choice_line(report: ImageTuningReport) -> str:
    chosen, best = report.chosen, report.best
    gain = f"{100 * chosen.gain:+.1f} against plain embeddings, standard error {100 * chosen.error:.1f}"
    if not chosen.setting.features.objectives:
        gain = "nothing that costs more is better by more than a standard error"
    if best.setting.features.objectives != chosen.setting.features.objectives:
        gain += (
            f"; {best.setting.features.described} has {100 * best.score:.1f} for "
            f"{1000 * best.seconds:.0f} ms, more by no more than a standard error"
        )
    return (
        f"Chosen: {chosen.setting.features.described}, {report.measure} {100 * chosen.score:.1f} of left-out "
        f"images ({gain}), {1000 * chosen.seconds:.0f} ms an image here."
    )


def _provenance(report: ImageTuningReport, *, base: str, data: str, rule: str | None) -> list[str]:
    left = f"{report.queries} of {report.images} images, one at a time, were"
    if rule is not None:
        left = f"{report.queries} of {report.images} images, each with its group (--group {rule}), were"
    return [
        f"Made by `mycelia tune` from {base} and the labels of {data} alone: {left} left out of the memory "
        f"and classified with the rest; of {len(report.rows)} settings the best by {report.measure} was "
        "taken, or the cheapest within one standard error of it."
    ]
