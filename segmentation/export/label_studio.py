"""Predictions for Label Studio (https://labelstud.io/guide/predictions): one JSON file of tasks a run.

``label-studio`` paints: a brush layer for each class, with the class's mean confidence.
``label-studio-polygons`` outlines: a polygon for each part of a region, in percent of width and height; it
knows no holes, which hang on by a seam. Each comes with the labelling interface that shows it. Photos are
named for Label Studio's local files, from the name of the folder that was given on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from retrieval.store.paths import real_path
from segmentation.export.base import ExportSettings, Format, LabelledPhoto, RunFile, to_json
from segmentation.export.brush import pack
from segmentation.export.regions import Region
from segmentation.export.runs import photo_rows
from segmentation.export.seams import joined
from segmentation.export.xml_text import element_text, hex_color, printable

_LOCAL_FILES = "/data/local-files/?d="
_MODEL = "mycelia"


def _brushes(photo: LabelledPhoto) -> list[dict[str, Any]]:
    results = []
    for column in photo.settings.columns:
        regions = [region for region in photo.regions if region.column == column]
        if regions:
            value = {"format": "rle", "rle": pack(photo_rows(regions, photo.shape))}
            results.append(_result(photo, regions, "brushlabels", value))
    return results


def _outlines(photo: LabelledPhoto) -> list[dict[str, Any]]:
    height, width = photo.shape
    percent = 100 / np.array([width, height])
    return [
        _result(
            photo, [region], "polygonlabels", {"points": (joined(part) * percent).tolist(), "closed": True}
        )
        for region, parts in photo.outlines
        for part in parts
    ]


def _result(photo: LabelledPhoto, regions: list[Region], kind: str, value: dict[str, Any]) -> dict[str, Any]:
    height, width = photo.shape
    result = {
        "from_name": "label",
        "to_name": "image",
        "type": kind,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: [photo.class_name(regions[0])]},
    }
    score = _mean_score(regions)
    return result if score is None else {**result, "score": score}


def _mean_score(regions: list[Region] | tuple[Region, ...]) -> float | None:
    """The mean confidence of all pixels of the regions."""
    scored = [(region.area, region.score) for region in regions if region.score is not None]
    pixels = sum(area for area, _ in scored)
    return round(sum(area * score for area, score in scored) / pixels, 6) if scored else None


def _format(name: str, about: str, tag: str, draw: Callable[[LabelledPhoto], list[dict[str, Any]]]) -> Format:
    def record(photo: LabelledPhoto) -> dict[str, Any]:
        results = [{"id": f"region-{number}", **result} for number, result in enumerate(draw(photo), start=1)]
        prediction: dict[str, Any] = {"model_version": _MODEL, "result": results}
        score = _mean_score(photo.regions)
        if score is not None:
            prediction["score"] = score
        return {"data": {"image": _address(photo)}, "predictions": [prediction]}

    run_file = RunFile(f"{name}.json", record, _assemble)
    interface = {f"{name}.xml": partial(_interface, tag)}
    return Format(name, about, run_file=run_file, companions=interface)


def _address(photo: LabelledPhoto) -> str:
    """Where Label Studio asks for a photo: below its document root, which must not be the folder itself."""
    path = photo.path.absolute().as_posix()
    name = photo.name
    if path.endswith(f"/{name}"):
        folder = Path(path.removesuffix(name))
        name = f"{real_path(folder).name if folder.name == '..' else folder.name}/{name}".lstrip("/")
    return _LOCAL_FILES + quote(os.fsencode(name))


def _interface(tag: str, settings: ExportSettings) -> str:
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image"})
    labels = SubElement(view, tag, {"name": "label", "toName": "image"})
    for column in settings.columns:
        info = settings.classes.classes[column]
        SubElement(labels, "Label", {"value": printable(info.name), "background": hex_color(info.color)})
    return element_text(view)


def _assemble(records: Callable[[], Iterator[Any]], settings: ExportSettings) -> Iterator[str]:
    yield "["
    for number, record in enumerate(records()):
        yield (",\n" if number else "\n") + to_json(record)
    yield "\n]\n"


FORMATS = (
    _format("label-studio", "Label Studio predictions, brush layers", "BrushLabels", _brushes),
    _format("label-studio-polygons", "Label Studio predictions, polygons", "PolygonLabels", _outlines),
)
