"""Results as answers: JSON with packed masks, pictures, and the files of labelling tools."""

from __future__ import annotations

import base64
import io
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from segmentation.drawing.overlays import blend
from segmentation.export import (
    Exporter,
    ExportSettings,
    Format,
    LabelledPhoto,
    choose_classes,
    choose_formats,
    photo_files,
    run_files,
)
from segmentation.segmenter import Segmentation
from segmentation.service.errors import bad_request

#: Formats of answers besides those of exports.
JSON, OVERLAY = "json", "overlay"

_MEDIA = {
    ".png": "image/png",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".xml": "application/xml",
    ".txt": "text/plain",
    ".zip": "application/zip",
}


@dataclass(frozen=True)
class FileAnswer:
    """A file to send."""

    content: bytes
    name: str

    @property
    def media_type(self) -> str:
        """Its type, by its ending."""
        return media_type(self.name)


def media_type(name: str) -> str:
    """The type of a file by its ending."""
    return _MEDIA.get(Path(name).suffix.lower(), "application/octet-stream")


def pack(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array (H, W) as the contract packs it: its rows, deflated, in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "encoding": "deflate",
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "data": base64.b64encode(zlib.compress(little.tobytes(), 1)).decode("ascii"),
    }


def packed_columns(columns: npt.NDArray[np.int32], classes: int) -> npt.NDArray[Any]:
    """Class columns (H, W) as uint8 with 255 for none, or uint16 with 65535 where there are many classes."""
    dtype = np.uint8 if classes <= 255 else np.uint16
    return np.where(columns < 0, np.iinfo(dtype).max, columns).astype(dtype)


def segment_json(id: str, result: Segmentation, classes: ClassMap) -> dict[str, Any]:
    """A result as the contract's JSON, but for its milliseconds and version."""
    height, width = result.size
    columns = result.columns[result.columns >= 0]
    counts = np.bincount(columns, minlength=len(classes))
    return {
        "id": id,
        "width": width,
        "height": height,
        "classes": classes_json(classes),
        "mask": pack(packed_columns(result.columns, len(classes))),
        "confidence": pack(np.rint(255 * result.confidence).astype(np.uint8)),
        "shares": {
            name: round(int(count) / (height * width), 6)
            for name, count in zip(classes.names, counts, strict=True)
            if count
        },
    }


def classes_json(classes: ClassMap) -> list[dict[str, Any]]:
    """The classes in column order."""
    return [{"id": info.id, "name": info.name, "color": list(info.color)} for info in classes.classes]


def overlay_png(photo: npt.NDArray[np.uint8], result: Segmentation, classes: ClassMap) -> bytes:
    """The photo with its classes painted over, of its own size, as PNG."""
    encoded = io.BytesIO()
    painted = np.where((result.columns < 0)[:, :, None], photo, blend(photo, result.mask, classes))
    Image.fromarray(painted).save(encoded, "PNG", compress_level=3)
    return encoded.getvalue()


def format_of(name: str) -> Format:
    """An export format by its name; raises ServiceError 400 for an unknown one, MissingExtraError."""
    try:
        (format,) = choose_formats([name])
    except (ConfigError, ValueError):
        raise bad_request(f"there is no format {name!r}; GET /v1/index lists them") from None
    return format


def exporter_for(folder: Path, format: Format, classes: ClassMap, names: Sequence[str]) -> Exporter:
    """The writer of a format's files for photos of these names, below a folder."""
    return Exporter(folder, [format], exporter_settings(classes), names=names)


def exporter_settings(classes: ClassMap) -> ExportSettings:
    """All classes but background, and every corner of an outline."""
    return ExportSettings(classes, choose_classes(classes))


def labelled(name: str, result: Segmentation, settings: ExportSettings) -> LabelledPhoto:
    """A result as the export formats take it."""
    stem = Path(name).stem
    return LabelledPhoto(
        Path("/photos") / name, name, stem, result.mask, result.columns, result.confidence, settings
    )


def export(format: Format, name: str, result: Segmentation, classes: ClassMap) -> FileAnswer:
    """The file of one photo in a format."""
    with tempfile.TemporaryDirectory(prefix="mycelia-serve-") as place:
        folder = Path(place)
        with exporter_for(folder, format, classes, [name]) as exporter:
            photo = labelled(name, result, exporter.settings)
            exporter.add(photo)
        names = photo_files([format], photo.stem) or run_files([format])
        path = folder / names[0]
        shown = path.name if format.photo_file is not None else f"{photo.stem}.{path.name}"
        return FileAnswer(path.read_bytes(), shown)


def zipped(folder: Path, out: Path) -> None:
    """All files below a folder in one zip."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
