"""Palette PNG: every class, as ``mycelia segment`` always writes it."""

from __future__ import annotations

from pathlib import Path

from retrieval.store.files import storage_errors
from segmentation.drawing.masks import write_mask
from segmentation.export.base import Format, LabelledPhoto, PhotoFile


def _write(path: Path, photo: LabelledPhoto) -> None:
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, photo.mask, photo.settings.classes)


FORMAT = Format(
    "png",
    "PNG with the class ids in its pixels; of all classes, and always written",
    photo_file=PhotoFile(lambda stem: f"{stem}.png", _write),
)
