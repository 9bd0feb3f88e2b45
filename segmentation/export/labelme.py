"""LabelMe (https://github.com/wkentaro/labelme): a JSON file a photo, which names it and does not hold it.

A shape is a polygon. It knows no holes, which hang on by a seam; parts of one region, which touch in
corners only, share a ``group_id``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retrieval.store.paths import real_path
from segmentation.export.base import Format, LabelledPhoto, PhotoFile, to_json, write_text
from segmentation.export.seams import joined

_VERSION = "5.5.0"  # of LabelMe's files


def _write(path: Path, photo: LabelledPhoto) -> None:
    height, width = photo.shape
    data: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": _shapes(photo),
        "imagePath": _from(path.parent, photo.path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_text(path, to_json(data) + "\n")


def _shapes(photo: LabelledPhoto) -> list[dict[str, Any]]:
    shapes = []
    for number, (region, parts) in enumerate(photo.outlines, start=1):
        for part in parts:
            shapes.append(
                {
                    "label": photo.class_name(region),
                    "points": joined(part).tolist(),
                    "group_id": number if len(parts) > 1 else None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            )
    return shapes


def _from(folder: Path, photo: Path) -> str:
    """The photo's path as seen from the folder of the JSON file, which is where LabelMe looks from."""
    here = real_path(photo.parent) / photo.name
    try:
        return Path(os.path.relpath(here, real_path(folder))).as_posix()
    except ValueError:  # another drive of Windows
        return here.as_posix()


FORMAT = Format(
    "labelme",
    "LabelMe, polygons",
    photo_file=PhotoFile(lambda stem: f"{stem}.json", _write),
)
