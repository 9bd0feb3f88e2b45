"""TIFF and GeoTIFF files of any size, of which windows are read: through rasterio, the extra ``geo``."""

from __future__ import annotations

import importlib.util
import logging
import threading
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from indexer.images.decode import PER_FILE
from indexer.images.depth import Depth
from indexer.images.windows import Window
from retrieval.errors import ImageError, MissingExtraError
from retrieval.store.paths import text_path

#: What reads and writes rasters.
GEO_EXTRA = "geo"
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
#: Megabytes of decoded blocks that rasterio keeps: rows of blocks, which many windows share.
BLOCK_CACHE = 256
#: Pixels of a band that are looked at together for the largest value.
_STRIP = 16_000_000

_LOG = logging.getLogger("mycelia")
_OPENING = threading.Lock()  # filters of warnings are the whole process's


@dataclass(frozen=True)
class GeoReference:
    """Where a raster lies on the ground, as rasterio says it; what it lacks is None or empty."""

    crs: Any
    transform: Any
    points: tuple[list[Any], Any]
    """Ground control points, and their coordinate reference system."""

    @property
    def known(self) -> bool:
        """Whether it says anything."""
        return self.crs is not None or not self.transform.is_identity or bool(self.points[0])


@cache
def has_rasterio() -> bool:
    """Whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


def need_rasterio() -> Any:
    """The module rasterio; raises MissingExtraError where it is not installed."""
    if not has_rasterio():
        raise MissingExtraError(
            "reading parts of a TIFF, and writing GeoTIFF, needs the package rasterio; "
            f"install it with: pip install 'mycelia[{GEO_EXTRA}]'"
        )
    import rasterio

    return rasterio


def open_raster(path: Path, mode: Literal["r", "w"] = "r", **profile: Any) -> Any:
    """A TIFF, opened by rasterio without its warning of a missing georeference; raises RasterioError."""
    rasterio = need_rasterio()
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE), _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with text_path(path, new=mode == "w") as name:
            return rasterio.open(name, mode, driver="GTiff", **profile)


class RasterReader:
    """A TIFF whose windows are read as RGB; use it as a context manager, or :meth:`close` it.

    Bands called red, green and blue are taken as such, else the first three, or the first alone as grey.
    Alpha is composited over white. 16 bits are scaled to 8 by the bits that the whole file uses, for which it
    is read once. Pixels stay where they lie in the file, as its georeference says: EXIF orientation is not
    applied. One thread at a time may use it.
    """

    def __init__(self, path: Path) -> None:
        """Open a file; raises ImageError where that is impossible, and MissingExtraError without rasterio."""
        self._where = f"image {path}"
        try:
            self._file = open_raster(path)
        except need_rasterio().errors.RasterioError as problem:
            raise ImageError(
                f"{self._where} cannot be opened as TIFF ({problem}); check or replace the file"
            ) from problem
        self._colors, self._alpha = self._choose_bands()
        kind = self._file.dtypes[0]
        if kind not in ("uint8", "uint16") or set(self._file.dtypes) != {kind}:
            self.close()
            raise ImageError(f"{self._where} has {kind} pixels; save it with 8 or 16 bits, unsigned")
        self._deep = kind == "uint16"

    def __enter__(self) -> RasterReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def shape(self) -> tuple[int, int]:
        """(H0, W0), pixels."""
        return int(self._file.height), int(self._file.width)

    @property
    def reference(self) -> GeoReference:
        """Where it lies on the ground."""
        return GeoReference(self._file.crs, self._file.transform, self._file.gcps)

    def read(self, window: Window | None = None, reduced: int = 1) -> npt.NDArray[np.uint8]:
        """The pixels of a window (all of them without), (height, width, 3) uint8 RGB.

        See :class:`indexer.images.windows.ImageReader`.
        """
        bands = [*self._colors, *([] if self._alpha is None else [self._alpha])]
        pixels = self._read(bands, window or (0, 0, *self.shape), reduced)
        colors, alpha = pixels[: len(self._colors)], pixels[len(self._colors) :]
        if self._palette is not None:
            painted: npt.NDArray[np.uint8] = self._palette[colors[0]]
            return painted
        if self._deep:
            colors, alpha = (
                depth.to_bytes(part) for depth, part in zip(self._depths, (colors, alpha), strict=True)
            )
        if self._file.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
            colors = 255 - colors
        rgb = np.repeat(colors, 3, axis=0) if len(colors) == 1 else colors
        if len(alpha):
            share = alpha.astype(np.uint16)
            rgb = ((rgb * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
        return np.ascontiguousarray(rgb.transpose(1, 2, 0), dtype=np.uint8)

    def _read(self, bands: list[int], window: Window, reduced: int) -> npt.NDArray[Any]:
        top, left, bottom, right = window
        height, width = bottom - top, right - left
        rasterio = need_rasterio()
        nearest = reduced == 1 or self._palette is not None
        resampling = rasterio.enums.Resampling
        with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE):
            try:
                found: npt.NDArray[Any] = self._file.read(
                    bands,
                    window=rasterio.windows.Window(left, top, width, height),
                    out_shape=(len(bands), -(-height // reduced), -(-width // reduced)),
                    resampling=resampling.nearest if nearest else resampling.average,
                )
            except rasterio.errors.RasterioError as problem:
                raise ImageError(
                    f"{self._where} is truncated or damaged ({problem}); fetch or export the file again"
                ) from problem
        return found

    def _choose_bands(self) -> tuple[list[int], int | None]:
        """The numbers, from 1, of the bands of colours, and of alpha."""
        names = {color.name: number for number, color in reversed([*enumerate(self._file.colorinterp, 1)])}
        alpha = names.get("alpha")
        plain = [number for number in range(1, self._file.count + 1) if number != alpha]
        if not plain:
            self.close()
            raise ImageError(f"{self._where} has no band of colours; save it as grey or RGB")
        known = [names[name] for name in ("red", "green", "blue") if name in names]
        colors = known if len(known) == 3 else plain[:3] if len(plain) >= 3 else plain[:1]
        if len(plain) > len(colors):
            _LOG.warning(
                "%s has %d bands, of which %s seen as %s; choose others by saving them alone",
                self._where,
                self._file.count,
                f"{', '.join(map(str, colors))} are" if len(colors) > 1 else f"{colors[0]} is",
                "red, green and blue" if len(colors) > 1 else "grey",
                extra=PER_FILE,
            )
        return colors, alpha

    @cached_property
    def _palette(self) -> npt.NDArray[np.uint8] | None:
        """The colours (256, 3) of pixels that are numbers of colours; None where they are colours."""
        if self._file.colorinterp[0].name != "palette":
            return None
        table = np.zeros((256, 3), dtype=np.uint8)
        for value, color in self._file.colormap(1).items():
            if value < 256:
                table[value] = color[:3]
        return table

    @cached_property
    def _depths(self) -> tuple[Depth, Depth]:
        """The bits that colours and alpha use in the whole file."""
        height, width = self.shape
        step = max(1, _STRIP // width)
        largest = [0, 0]
        for kind, bands in enumerate((self._colors, [] if self._alpha is None else [self._alpha])):
            for top in range(0, height if bands else 0, step):
                pixels = self._read(bands, (top, 0, min(top + step, height), width), 1)
                largest[kind] = max(largest[kind], int(pixels.max()))
        depth = Depth.of(largest[0])
        if depth.bits < 16:
            _LOG.warning(
                "%s uses %d of its 16 bits (its largest value is %d): its values are scaled by %d",
                *(self._where, depth.bits, largest[0], 2**depth.bits - 1),
                extra=PER_FILE,
            )
        return depth, Depth.of(largest[1])


@dataclass(frozen=True)
class RasterHeader:
    """What a TIFF says of itself before its pixels are read."""

    shape: tuple[int, int]  #: (H0, W0), pixels
    georeferenced: bool


def read_raster_header(path: Path) -> RasterHeader | None:
    """The header of a TIFF; None for a file that is none or cannot be opened, and without rasterio."""
    if path.suffix.lower() not in TIFF_SUFFIXES or not path.is_file() or not has_rasterio():
        return None
    try:
        with open_raster(path) as file:
            reference = GeoReference(file.crs, file.transform, file.gcps)
            return RasterHeader((int(file.height), int(file.width)), reference.known)
    except need_rasterio().errors.RasterioError:
        return None
