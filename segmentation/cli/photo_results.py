"""Segmenting photos, writing the files of each, and what is said of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import DataError
from segmentation.bands import bands
from segmentation.cli.asked import Asked
from segmentation.cli.photo_jobs import Job
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.images.raster import GeoReference
    from retrieval.classes import ClassMap
    from segmentation.export import Exporter
    from segmentation.segmenter import Segmentation, Segmenter

#: Longest side of an overlay, pixels: a JPEG has 65,500 at most, with its legend.
OVERLAY_SIDE = 55_000

Pixels = npt.NDArray[np.uint8]


class _Photo:
    """A photo on its way, and its pixels once it was read: an overlay needs them."""

    pixels: Pixels
    reference: GeoReference
    """Of a raster."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def read(self) -> Pixels:
        from indexer.images import read_image
        from indexer.images.raster import RasterReader

        if self.job.raster is None:
            self.pixels = read_image(self.job.image)
            return self.pixels
        with RasterReader(self.job.image) as reader:
            self.pixels, self.reference = reader.read(), reader.reference
        return self.pixels


def segment_jobs(
    segmenter: Segmenter, jobs: Sequence[Job], *, skipped: list[tuple[str, str]] | None
) -> Generator[tuple[_Photo, Segmentation], None, None]:
    """Each photo with its result, in order; ``skipped`` takes those that cannot be read."""
    from retrieval.progress import track

    with track(ProgressDisplay(), "segmenting", len(jobs)) as task:

        def skip(photo: _Photo, error: DataError) -> None:
            assert skipped is not None
            skipped.append((str(photo.job.image), str(error)))
            task.advance()

        photos = ((photo, photo.read) for photo in map(_Photo, jobs))
        on_error = None if skipped is None else skip
        with closing(segmenter.segment_many(photos, on_error=on_error)) as results:
            for result in results:
                yield result
                task.advance()


def write_result(
    item: tuple[_Photo, Segmentation], exporter: Exporter, asked: Asked, *, paint_background: bool = False
) -> dict[str, Any]:
    """Write the files of one result; returns what is said of it."""
    from segmentation.drawing.overlays import overlay
    from segmentation.drawing.pictures import write_image
    from segmentation.drawing.rasters import mask_writer, raster_writer
    from segmentation.export import LabelledPhoto

    photo, result = item
    job = photo.job
    settings = exporter.settings
    classes = settings.classes
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    labelled = LabelledPhoto(
        job.image, job.name, job.stem, result.mask, result.columns, result.confidence, settings
    )
    exporter.add(labelled, palette=job.raster is None)
    if job.raster is not None:
        with mask_writer(job.mask, result.mask.shape, classes, photo.reference) as write:
            write(0, result.mask)
    if job.overlay is not None:
        # a side that no JPEG has is reduced
        step = -(-max(result.mask.shape) // OVERLAY_SIDE)
        pixels = np.ascontiguousarray(photo.pixels[::step, ::step])
        mask = result.mask[::step, ::step]
        write_image(job.overlay, overlay(pixels, mask, classes, paint_background=paint_background))
    if job.confidence is not None:
        grey = greys(result.confidence)
        if job.raster is None:
            write_image(job.confidence, grey)
        else:
            with raster_writer(job.confidence, result.mask.shape, grey.dtype, photo.reference) as write:
                write(0, grey)
    counts = class_counts(result.columns, len(classes))
    entry = entry_of(job, result.mask.shape, counts, float(result.confidence.mean()), classes)
    return {**entry, **asked.entry(result, classes)}


def class_counts(columns: npt.NDArray[np.int32], classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class, (C,); those left blank (-1) are none's."""
    counts = np.zeros(classes, dtype=np.int64)
    for rows in bands(columns.shape):
        band = columns[rows]
        counts += np.bincount(band[band >= 0], minlength=classes)
    return counts


def greys(confidence: npt.NDArray[np.float32]) -> Pixels:
    """Confidence (H, W) in 0..1 as grey, 255 is certain."""
    grey = np.empty(confidence.shape, dtype=np.uint8)
    for rows in bands(confidence.shape):
        grey[rows] = np.rint(255 * confidence[rows])
    return grey


def entry_of(
    job: Job, size: tuple[int, ...], counts: npt.NDArray[np.int64], confidence: float, classes: ClassMap
) -> dict[str, Any]:
    """What a program may want to know of one result (H, W) with so many pixels of each class."""
    pixels = {name: int(count) for name, count in zip(classes.names, counts, strict=True) if count}
    height, width = size
    return {
        "image": str(job.image),
        "mask": str(job.mask),
        "overlay": str(job.overlay) if job.overlay else None,
        "confidence": str(job.confidence) if job.confidence else None,
        "exports": [str(path) for path in job.exports],
        "height": height,
        "width": width,
        "mean_confidence": round(confidence, 6),
        "classes": {name: round(count / (height * width), 6) for name, count in pixels.items()},
        "pixels": pixels,
        "blank": round(1 - int(counts.sum()) / (height * width), 6),
    }
