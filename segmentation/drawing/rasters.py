"""Masks as GeoTIFF, written a strip of rows at a time, with the georeference of their photo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.images.raster import BLOCK_CACHE, GeoReference, need_rasterio, open_raster
from retrieval.classes import ClassMap
from retrieval.errors import MaskError, StorageError
from retrieval.store.files import PARTIAL, storage_errors, sync_file, sync_folder
from segmentation.drawing.masks import IGNORED_COLOR

#: Side of a file's blocks, pixels.
BLOCK = 256

#: Takes the first row of a strip, and its values (r, W).
WriteRows = Callable[[int, npt.NDArray[Any]], None]


@contextmanager
def mask_writer(
    path: Path, shape: tuple[int, int], classes: ClassMap, reference: GeoReference
) -> Iterator[WriteRows]:
    """What writes a mask of class ids (H, W), from top to bottom; the file appears when the block ends well.

    With ids up to 255 a palette TIFF in the classes' colours, with larger ones 16 bit grey. Raises
    StorageError.
    """
    colors: dict[int, tuple[int, ...]] | None = None
    if classes.mask_dtype is not np.uint16:
        colors = {id: (*IGNORED_COLOR, 255) for id in classes.ignore if id <= 255}
        with contextlib.suppress(MaskError):  # every id is a class
            colors[classes.blank_id] = (*IGNORED_COLOR, 255)
        colors |= {info.id: (*info.color, 255) for info in classes.classes}
    with raster_writer(path, shape, np.dtype(classes.mask_dtype), reference, colors=colors) as write:
        yield write


@contextmanager
def raster_writer(
    path: Path,
    shape: tuple[int, int],
    dtype: npt.DTypeLike,
    reference: GeoReference,
    *,
    colors: dict[int, tuple[int, ...]] | None = None,
) -> Iterator[WriteRows]:
    """What writes one band (H, W); as :func:`mask_writer`. ``colors`` are those of values, red to alpha."""
    partial = path.with_name(path.name + PARTIAL)
    rasterio = need_rasterio()
    with storage_errors(path.parent), rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE):
        try:
            with open_raster(partial, "w", **_profile(shape, dtype, reference)) as file:
                if colors is not None:
                    file.write_colormap(1, colors)
                yield lambda first, values: file.write(
                    values, 1, window=rasterio.windows.Window(0, first, shape[1], len(values))
                )
            with partial.open("rb+") as written:
                sync_file(written)
            partial.replace(path)
        except rasterio.errors.RasterioError as error:
            raise StorageError(
                f"{path} cannot be written ({error}); free some space or choose another folder"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def _profile(shape: tuple[int, int], dtype: npt.DTypeLike, reference: GeoReference) -> dict[str, Any]:
    profile: dict[str, Any] = {
        "height": shape[0],
        "width": shape[1],
        "count": 1,
        "dtype": np.dtype(dtype).name,
        "compress": "deflate",
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "bigtiff": "if_safer",
    }
    points, points_crs = reference.points
    if points:
        return {**profile, "gcps": points, "crs": points_crs}
    return {**profile, "crs": reference.crs, "transform": reference.transform}
