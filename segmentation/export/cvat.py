"""CVAT for images 1.1: one XML file a run.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/

A region without holes in one part is a ``polygon``; any other is a ``mask``, the run lengths of its box
row by row, which a ``tolerance`` does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from segmentation.export.base import ExportSettings, Format, LabelledPhoto, RunFile
from segmentation.export.regions import Part, Region, Ring
from segmentation.export.runs import row_runs
from segmentation.export.xml_text import element_text, hex_color, printable


def _record(photo: LabelledPhoto) -> dict[str, Any]:
    height, width = photo.shape
    return {
        "image": {"name": photo.name, "width": str(width), "height": str(height)},
        "shapes": [_shape(photo, region, parts) for region, parts in photo.outlines],
    }


def _shape(photo: LabelledPhoto, region: Region, parts: tuple[Part, ...]) -> list[Any]:
    """Tag and attributes of a region's element."""
    shared = {"label": photo.class_name(region), "source": "auto", "occluded": "0", "z_order": "0"}
    if len(parts) == 1 and not parts[0].holes:
        return ["polygon", {**shared, "points": _points(parts[0].outer)}]
    height, width = region.pixels.shape
    box = {"left": region.left, "top": region.top, "width": width, "height": height}
    runs = ", ".join(map(str, row_runs(region.pixels)))
    return ["mask", {**shared, "rle": runs, **{name: str(value) for name, value in box.items()}}]


def _points(ring: Ring) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in ring.tolist())


def _assemble(records: Callable[[], Iterator[Any]], settings: ExportSettings) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield element_text(_meta(sum(1 for _ in records()), settings), level=1)
    for number, record in enumerate(records()):
        image = Element("image", {"id": str(number), **_clean(record["image"])})
        for tag, attributes in record["shapes"]:
            SubElement(image, tag, _clean(attributes))
        yield element_text(image, level=1)
    yield "</annotations>\n"


def _meta(size: int, settings: ExportSettings) -> Element:
    meta = Element("meta")
    task = SubElement(meta, "task")
    SubElement(task, "size").text = str(size)
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for column in settings.columns:
        info = settings.classes.classes[column]
        label = SubElement(labels, "label")
        SubElement(label, "name").text = printable(info.name)
        SubElement(label, "color").text = hex_color(info.color)
        SubElement(label, "attributes")
    return meta


def _clean(attributes: dict[str, str]) -> dict[str, str]:
    return {name: printable(value) for name, value in attributes.items()}


FORMAT = Format(
    "cvat",
    "CVAT for images 1.1, polygons and masks",
    run_file=RunFile("cvat.xml", _record, _assemble),
)
