"""Segmentation labels of Ultralytics' YOLO (https://docs.ultralytics.com/datasets/segment/): a text a photo.

A line is the class's number and the corners of a polygon as x and y in 0..1 of width and height. It knows no
holes, which hang on by a seam; parts that touch in corners only get a line each.
Classes count from 0 in the order of the mask ids' columns, as ``data.yaml`` names them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from segmentation.export.base import ExportSettings, Format, LabelledPhoto, PhotoFile, write_text
from segmentation.export.seams import joined

_FOLDER = "yolo"


def _write(path: Path, photo: LabelledPhoto) -> None:
    height, width = photo.shape
    number = {column: number for number, column in enumerate(photo.settings.columns)}
    lines = []
    for region, parts in photo.outlines:
        for part in parts:
            shares = (joined(part) / np.array([width, height])).ravel().tolist()
            lines.append(" ".join([str(number[region.column]), *(f"{share:.8g}" for share in shares)]))
    write_text(path, "".join(f"{line}\n" for line in lines))


def _data_file(settings: ExportSettings) -> str:
    data = {"train": "images", "val": "images", "names": dict(enumerate(settings.names))}
    # Without a path, Ultralytics looks from the folder of this file on.
    text: str = yaml.safe_dump(data, allow_unicode=True, sort_keys=False)
    return text


FORMAT = Format(
    "yolo",
    "YOLO segmentation texts with data.yaml, polygons",
    photo_file=PhotoFile(lambda stem: f"{_FOLDER}/labels/{stem}.txt", _write),
    companions={f"{_FOLDER}/data.yaml": _data_file},
)
