"""The tuned recipe as a file: what was chosen, how, and what is expected of it; no path of this machine."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from indexer.recipe import Recipe
from retrieval.store.files import atomic_write
from segmentation.tuning.choice import Choice
from segmentation.tuning.expectation import Expectation
from segmentation.tuning.report import TuningReport

_WIDTH = 110
#: What every tuning decides or depends on.
COMMON = {
    "backbone": ("model", "weights", "block"),
    "image": ("size",),
    "index": ("engine",),
    "transfer": ("k", "temperature"),
}


def write_recipe(path: Path, report: TuningReport, *, base: str, data: str, rule: str | None) -> None:
    """Write the report's recipe as YAML, with where it comes from in comments; ``load_recipe`` reads it back.

    ``base`` names the recipe that was tuned, ``data`` the data set and split, ``rule`` the groups.
    Raises StorageError.
    """
    lines = [
        *_provenance(report, base=base, data=data, rule=rule),
        *expectation_lines(report),
        *_others(report),
        *report.notes,
    ]
    write_commented(path, _plain(report.recipe), lines)


def write_commented(path: Path, recipe: dict[str, Any], lines: Sequence[str]) -> None:
    """Write plain data as YAML with the lines in comments before it; raises StorageError."""
    comment = "".join(
        textwrap.fill(line, _WIDTH, initial_indent="# ", subsequent_indent="#   ") + "\n" for line in lines
    )
    text = yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None)
    with atomic_write(path) as file:
        file.write((comment + text).encode())


def expectation_lines(report: TuningReport) -> list[str]:
    """What to expect, in sentences."""
    near, new, (low, high) = report.near, report.new, report.interval
    if new is None:
        return [
            f"Expected mIoU on new images: {range_of(near)} (95 % of sets of {near.units} images), if they "
            "resemble the memory's as these resemble one another; images of a sequence or of a patient that "
            "the memory lacks may well score less: --group says how much.",
        ]
    return [
        f"Expected mIoU on new images like the memory's, whose neighbours are in it: {range_of(near)}.",
        f"Expected mIoU on images of groups that the memory lacks: {range_of(new)}.",
        f"So between {100 * low:.1f} and {100 * high:.1f}, by how near new images come to the memory "
        f"(95 % intervals for sets of {new.units} groups).",
    ]


def _provenance(report: TuningReport, *, base: str, data: str, rule: str | None) -> list[str]:
    left = f"one of {report.images} images"
    if rule is not None:
        left = f"one of {report.groups} groups of images (--group {rule})"
    lines = [
        f"Made by `mycelia tune` from {base} and the labels of {data} alone: {left} at a time was left out "
        f"of the memory bank, and {report.queries} images were segmented with the rest. Of "
        f"{len({row.setting for row in (*report.rows, *report.earlier)})} settings this is the "
        f"{report.written} one: {choice_line(report.choice)}.",
        f"Index: {report.engine.reason}.",
    ]
    return lines


def choice_line(choice: Choice) -> str:
    """Score, gain, time and size of a choice, in words."""
    cost = choice.cost
    return (
        f"mIoU {100 * choice.miou:.1f} ({100 * choice.gain:+.1f} over plain embeddings), "
        f"{cost.total:.0f} ms an image, {cost.patch_bytes} bytes a patch"
    )


def _others(report: TuningReport) -> list[str]:
    """The choices that were not written, each with what to change for it."""
    lines = []
    for choice in report.choices:
        if choice.setting != report.chosen:
            changes = " ".join(changed_keys(report.recipe, choice.setting.apply(report.recipe)))
            lines.append(f"The {choice.name} one, {choice_line(choice)}: {changes}")
    return lines


def changed_keys(recipe: Recipe, other: Recipe) -> list[str]:
    """What makes one recipe the other, as ``key=value``, sorted."""
    ours, theirs = (r.model_dump(mode="json") for r in (recipe, other))
    return sorted(
        f"{section}.{key}={json.dumps(value)}".replace('"', "")
        for section, values in theirs.items() if isinstance(values, dict)
        for key, value in values.items() if ours[section][key] != value
    )  # fmt: skip


def range_of(found: Expectation) -> str:
    """In percent: what to expect, and from where to where."""
    return f"{100 * found.score:.1f}, {100 * found.low:.1f} to {100 * found.high:.1f}"


def _plain(recipe: Recipe) -> dict[str, Any]:
    """What differs from the defaults, and whatever the tuning of patches decides."""
    deciding = {**COMMON, "features": ("kind", "gradient_weight"), "bank": ("max_patches",)}
    return plain_recipe(recipe, deciding)


def plain_recipe(recipe: Recipe, deciding: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What of a recipe differs from the defaults, and the ``deciding`` keys of each section."""
    data = recipe.model_dump(mode="json", exclude_defaults=True)
    full = recipe.model_dump(mode="json")
    for section, keys in deciding.items():
        data[section] = {**{key: full[section][key] for key in keys}, **data.get(section, {})}
    if recipe.features.kind == "embeddings":
        data["features"].pop("gradient_weight", None)
    data.pop("runtime", None)  # where the tuning ran, not what it found
    return data
