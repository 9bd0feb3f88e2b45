"""A page about an evaluation: the score, the classes, pictures of the best and the worst, the recipe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml

from indexer.datasets import Dataset
from indexer.datasets.unmasked import adopt_classes
from retrieval.errors import ConfigError
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.paths import real_path
from retrieval.store.staging import staging
from segmentation.drawing.confusion import draw_confusion
from segmentation.drawing.masks import color_columns
from segmentation.drawing.overlays import blend, confidence_picture, error_picture
from segmentation.drawing.panels import fit_height
from segmentation.drawing.pictures import write_figure, write_image
from segmentation.drawing.reliability import draw_reliability
from segmentation.scoring.columns import column_table
from segmentation.scoring.evaluator import EvaluationReport, ImageScore
from segmentation.scoring.memory import MemoryImages, without
from segmentation.segmenter import Segmenter

PAGE, DATA, PICTURES = "index.html", "report.json", "pictures"
CONFUSION, RELIABILITY = "confusion.png", "reliability.png"

#: Height in pixels to which pictures are reduced.
PICTURE_HEIGHT = 480

#: What tells a page of ours from any other ``index.html``.
_MARK = '<meta name="generator" content="mycelia">'
_PICTURE_NAME = re.compile(r"\d+-(photo|truth|prediction|confidence|errors)\.(jpg|png)")


@dataclass(frozen=True)
class _Figure:
    name: str
    file: str
    caption: str


@dataclass(frozen=True)
class _Example:
    id: str
    miou: float
    pictures: tuple[_Figure, ...]


@dataclass(frozen=True)
class _Group:
    title: str
    examples: tuple[_Example, ...]


def write_report(
    report: EvaluationReport, segmenter: Segmenter, dataset: Dataset, folder: str | Path, *, examples: int = 3
) -> Path:
    """Write a page of pictures and numbers into ``folder``; returns the path of its ``index.html``.

    The ``examples`` best, median and worst images (by their mean IoU) are segmented again for their
    pictures. The page needs nothing from outside its folder. ``folder`` has to be new, empty, or an
    earlier report, which is replaced once the new one is complete. Raises ConfigError for another
    folder, StorageError, and DataError where a chosen image cannot be read any more.
    """
    target = Path(folder)
    check_report_folder(target)
    with storage_errors(target), staging(real_path(target), "report", replace=True) as fresh:
        (fresh / PICTURES).mkdir()
        dataset = adopt_classes(dataset, segmenter.classes)
        groups = _draw_groups(report, segmenter, dataset, fresh, examples)
        write_figure(fresh / CONFUSION, draw_confusion(report.confusion, report.classes.names))
        sure = report.reliability
        write_figure(fresh / RELIABILITY, draw_reliability(sure.bins(), sure.coverage(), sure.ece))
        with atomic_write(fresh / DATA) as file:
            file.write(json.dumps(report.to_json(), indent=1, allow_nan=False).encode() + b"\n")
        with atomic_write(fresh / PAGE) as file:
            file.write(_page(report, groups).encode(errors="backslashreplace"))
    return target / PAGE


def check_report_folder(folder: str | Path) -> None:
    """Raise ConfigError unless ``folder`` is new, empty, or holds an earlier report and nothing else."""
    path = Path(folder)
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(f"{path} is a file, but a report is a folder; choose another name")
    unexpected = sorted(_unexpected(path))
    if unexpected:
        raise ConfigError(
            f"{path} holds more than a report ({', '.join(unexpected[:3])}); choose a new or empty folder"
        )


def _unexpected(folder: Path) -> Iterator[str]:
    """What lies in a folder but was not written by a report."""
    names = {path.name for path in folder.iterdir()}
    if names and not ({PAGE, DATA} <= names and _MARK in (folder / PAGE).read_text(errors="replace")):
        yield from names
        return
    yield from names - {PAGE, DATA, CONFUSION, RELIABILITY, PICTURES}
    if (folder / PICTURES).is_dir():
        for path in (folder / PICTURES).iterdir():
            if not _PICTURE_NAME.fullmatch(path.name):
                yield f"{PICTURES}/{path.name}"


def _draw_groups(
    report: EvaluationReport, segmenter: Segmenter, dataset: Dataset, folder: Path, examples: int
) -> list[_Group]:
    """The pictures of the best, median and worst images, written into ``folder``."""
    groups, number = [], 0
    for title, scores in choose_examples(report.per_image, examples).items():
        drawn = []
        for score in scores:
            drawn.append(_draw_example(score, segmenter, dataset, folder, number, leave_out=report.leave_out))
            number += 1
        if drawn:
            groups.append(_Group(title, tuple(drawn)))
    return groups


def choose_examples(scores: Sequence[ImageScore], count: int) -> dict[str, list[ImageScore]]:
    """The best, median and worst images by mean IoU, up to ``count`` each and none twice; NaN is left out."""
    ranked = sorted((s for s in scores if not math.isnan(s.miou)), key=lambda s: (-s.miou, s.id))
    count = min(count, max(1, len(ranked) // 3))
    best, rest = ranked[:count], ranked[count:]
    worst, rest = rest[max(0, len(rest) - count) :], rest[: max(0, len(rest) - count)]
    start = max(0, (len(rest) - count) // 2)
    return {"Best images": best, "Median images": rest[start : start + count], "Worst images": worst[::-1]}


def _draw_example(
    score: ImageScore,
    segmenter: Segmenter,
    dataset: Dataset,
    folder: Path,
    number: int,
    *,
    leave_out: bool = False,
) -> _Example:
    sample = next(sample for sample in dataset.samples if sample.id == score.id)
    photo, columns = dataset.read(sample)
    truth = column_table(dataset, segmenter.classes)[columns]
    numbers = MemoryImages(segmenter.images).numbers_of(sample.image) if leave_out else []
    chosen = without(numbers, segmenter.filter) if leave_out else None
    result = segmenter.label(segmenter.describe(photo), filter=chosen)
    classes, errors = segmenter.classes, error_picture(photo, truth, result.winners)
    pictures = {
        "photo": ("photo", photo),
        "truth": ("truth", color_columns(truth, classes)),
        "prediction": ("prediction", blend(photo, result.mask, classes, alpha=0.65)),
        "confidence": ("confidence: violet 0, yellow 1", confidence_picture(result.confidence)),
        "errors": ("red wrong, blue right, grey no truth", errors),
    }
    figures = []
    for name, (caption, picture) in pictures.items():
        file = f"{PICTURES}/{number:02d}-{name}.{'png' if name in ('truth', 'errors') else 'jpg'}"
        small = picture if picture.shape[0] <= PICTURE_HEIGHT else fit_height(picture, PICTURE_HEIGHT)
        write_image(folder / file, small)
        figures.append(_Figure(name, file, caption))
    return _Example(score.id, score.miou, tuple(figures))


def _page(report: EvaluationReport, groups: Sequence[_Group]) -> str:
    source = (files("segmentation.scoring") / "templates" / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    rows = [
        asdict(row) | {"color": info.color}
        for row, info in zip(report.rows(), report.classes.classes, strict=True)
    ]
    return environment.from_string(source).render(
        report=report,
        rows=rows,
        groups=groups,
        facts=_facts(report),
        recipe=yaml.safe_dump(report.recipe, sort_keys=False),
        percent=_percent,
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _facts(report: EvaluationReport) -> list[tuple[str, Any]]:
    """What a reader needs to make the numbers again, as (name, value)."""
    facts = [(f"data set {name}", value) for name, value in report.dataset.items() if value is not None]
    for name, value in report.index.items():
        if isinstance(value, dict):
            facts += [(f"index {name}: {key}", inner) for key, inner in value.items()]
        else:
            facts.append((f"index {name}", value))
    return facts + [(f"version of {name}", value) for name, value in report.versions.items()]
