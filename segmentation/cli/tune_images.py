"""``mycelia tune`` on images that have a class as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segmentation.cli.console import format_percent, say, show, show_table
from segmentation.cli.files import write_json
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.datasets import Dataset
    from indexer.recipe import Recipe
    from segmentation.tuning.image_settings import ImageCandidates
    from segmentation.tuning.image_tuner import ImageRow, ImageTuningReport

#: Kinds of features that the table shows.
SHOWN = 12


def tune_whole_images(
    dataset: Dataset,
    recipe: Recipe,
    candidates: ImageCandidates,
    *,
    group: str | None,
    images: int | None,
    out: Path,
    json_file: Path | None,
    base: str,
    data: str,
) -> None:
    """Tune, show what came, and write the recipe and the JSON where that is wanted."""
    from segmentation.tuning.image_recipe_file import image_expectation_lines, write_image_recipe
    from segmentation.tuning.image_tuner import IMAGES, tune_images

    if any("infonce" in names for names in candidates.joined(recipe)):
        say(
            "infonce passes about 49 windows of each image through the model, far more than the others; "
            "--objectives kl,kl+dino leaves it out"
        )
    report = tune_images(
        dataset,
        recipe,
        group=group,
        candidates=candidates,
        images=IMAGES if images is None else images,
        progress=ProgressDisplay(),
    )
    show_image_settings(report)
    for line in image_expectation_lines(report):
        show(line)
    write_image_recipe(out, report, base=base, data=data, rule=group)
    show(str(out))
    if json_file is not None:
        write_json(json_file, report.to_json())
        say(f"results: {json_file}")


def show_image_settings(report: ImageTuningReport) -> None:
    """A table of the best settings of every block, set of objectives and PCA."""
    left_out = "images" if report.groups is None else "groups"
    show_table(
        f"{report.measure} of left-out {left_out}, percent; the best weight, k and T of each; "
        "gain and its standard error are against the best of plain embeddings",
        ["block", "features", "k", "T", report.measure, "gain", "error", "ms an image", ""],
        [
            [
                str(row.setting.features.block),
                row.setting.features.described,
                str(row.setting.k),
                f"{row.setting.temperature:g}",
                format_percent(row.score),
                f"{100 * row.gain:+.2f}",
                f"{100 * row.error:.2f}",
                f"{1000 * row.seconds:.0f}",
                _remark(row, report),
            ]
            for row in _shown(report)
        ],
        text=("features", ""),
    )


def _shown(report: ImageTuningReport) -> Sequence[ImageRow]:
    best: dict[tuple[int, tuple[str, ...], int | None], ImageRow] = {}
    for row in sorted(report.rows, key=lambda row: -row.score):
        features = row.setting.features
        best.setdefault((features.block, features.objectives, features.pca), row)
    shown = list(best.values())[:SHOWN]
    named = [row for row in (report.chosen, report.base) if row is not None]
    return [*shown, *(row for n, row in enumerate(named) if row not in shown and row not in named[:n])]


def _remark(row: ImageRow, report: ImageTuningReport) -> str:
    remarks = {"chosen": report.chosen, "the base recipe": report.base}
    return ", ".join(remark for remark, named in remarks.items() if row is named)
