"""GeoJSON (RFC 7946) in pixels of the photo, y down: a file a photo, as QuPath opens it.

A feature is a connected region with true holes: a Polygon, or a MultiPolygon where parts touch in corners
only. Lines are turned as RFC 7946 says when y is read as up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segmentation.export.base import Format, LabelledPhoto, PhotoFile, to_json, write_text
from segmentation.export.regions import Part, Region, Ring


def _write(path: Path, photo: LabelledPhoto) -> None:
    features = ",\n".join(to_json(_feature(photo, region, parts)) for region, parts in photo.outlines)
    write_text(path, f'{{"type":"FeatureCollection","features":[\n{features}\n]}}\n')


def _feature(photo: LabelledPhoto, region: Region, parts: tuple[Part, ...]) -> dict[str, Any]:
    info = photo.settings.classes.classes[region.column]
    polygons = [_lines(part) for part in parts]
    one = len(polygons) == 1
    properties = {
        "objectType": "annotation",
        "classification": {"name": info.name, "color": list(info.color)},
        "class_id": info.id,
        "area": region.area,
        "score": region.score,
    }
    geometry = {
        "type": "Polygon" if one else "MultiPolygon",
        "coordinates": polygons[0] if one else polygons,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _lines(part: Part) -> list[Any]:
    return [_closed(part.outer), *map(_closed, part.holes)]


def _closed(ring: Ring) -> list[Any]:
    return [*ring.tolist(), ring[0].tolist()]


FORMAT = Format(
    "geojson",
    "GeoJSON in pixels, polygons with holes",
    photo_file=PhotoFile(lambda stem: f"{stem}.geojson", _write),
)
