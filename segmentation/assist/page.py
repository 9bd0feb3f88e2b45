"""The list of what to label next, as JSON and as a page with pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from indexer.images import read_image
from retrieval.classes import ClassMap
from retrieval.store.files import atomic_write, storage_errors
from segmentation.assist.ranking import Ranked
from segmentation.assist.record import Record
from segmentation.drawing.overlays import blend, with_legend
from segmentation.drawing.panels import fit_height
from segmentation.drawing.pictures import write_image

PAGE, DATA, PICTURES = "next.html", "next.json", "next"

#: Height in pixels to which pictures are reduced.
HEIGHT = 360


@dataclass(frozen=True)
class Proposal:
    """Where a photo and its proposed mask are."""

    photo: Path
    mask: Path


@dataclass(frozen=True)
class _Entry:
    name: str
    reasons: tuple[str, ...]
    photo: str
    overlay: str


def write_page(
    record: Record,
    ranked: Sequence[Ranked],
    proposals: Mapping[str, Proposal],
    classes: ClassMap,
    *,
    summary: str,
    facts: Mapping[str, Any],
    most: int,
) -> list[str]:
    """Write ``next.json``, ``next.html`` and the pictures of the first ``most`` through the record.

    The page takes nothing from outside its folder. Pictures of an earlier page go. Returns the files that
    were left as a person made them. Raises StorageError, and ImageError for a photo that cannot be read.
    """
    with storage_errors(record.staging):
        (record.staging / PICTURES).mkdir(parents=True, exist_ok=True)
    entries = [
        _draw(record.staging, number, photo, proposals[photo.name], classes)
        for number, photo in enumerate(ranked[:most], 1)
    ]
    data = {**facts, "next": [_line(number, photo) for number, photo in enumerate(ranked, 1)]}
    source = (files("segmentation.assist") / "templates" / PAGE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(source).render(
        entries=entries, summary=summary, rest=len(ranked) - len(entries)
    )
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    for name, content in ((DATA, text), (PAGE, html)):
        with atomic_write(record.staging / name) as file:
            file.write(content.encode(errors="backslashreplace"))
    names = [name for entry in entries for name in (entry.photo, entry.overlay)]
    kept = record.publish([*names, DATA, PAGE])
    for name in set(record.files) - set(names):
        if _is_picture(name) and record.is_ours(name):
            (record.out / name).unlink()
    return kept


def _is_picture(name: str) -> bool:
    """Whether a name is one of the page's pictures, and not the mask of a photo in a folder ``next``."""
    return re.fullmatch(rf"{PICTURES}/\d{{4}}-(photo|overlay)\.jpg", name) is not None


def _draw(folder: Path, number: int, ranked: Ranked, proposal: Proposal, classes: ClassMap) -> _Entry:
    photo = read_image(proposal.photo)
    with Image.open(proposal.mask) as file:
        mask = np.asarray(file)
    names = [f"{PICTURES}/{number:04d}-{kind}.jpg" for kind in ("photo", "overlay")]
    plain, painted = (
        picture if picture.shape[0] <= HEIGHT else fit_height(picture, HEIGHT)
        for picture in (photo, blend(photo, mask, classes))
    )
    write_image(folder / names[0], plain)
    write_image(folder / names[1], with_legend(painted, mask, classes))
    return _Entry(ranked.name, ranked.reasons, *names)


def _line(number: int, photo: Ranked) -> dict[str, Any]:
    measures = photo.measures
    return {
        "rank": number,
        "photo": photo.name,
        "score": round(photo.score, 6),
        "mean_confidence": round(measures.confidence, 6),
        "unsure": round(measures.unsure, 6),
        "unknown": None if measures.unknown is None else round(measures.unknown, 6),
        "reasons": list(photo.reasons),
    }
