"""Photos that ``mycelia segment`` reads, labels and writes in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import DataError, ImageError
from segmentation.cli.photo_jobs import Job
from segmentation.cli.photo_results import class_counts, entry_of, greys
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.images.raster import GeoReference
    from indexer.images.windows import ImageReader
    from indexer.recipe import Recipe
    from retrieval.classes import ClassMap
    from segmentation.cli.asked import Asked
    from segmentation.segmenter import Segmenter
    from segmentation.strips import Strip

#: Pixels of a photo, or of the model's inputs that show it, above which it is labelled in parts.
MOST_PIXELS = 16_000_000
#: Longest side of the overlay of such a photo, pixels.
OVERLAY_SIDE = 4096

Write = Callable[["Strip", npt.NDArray[Any]], None]


def is_large(job: Job, recipe: Recipe) -> bool:
    """Whether a photo is better labelled in parts; what cannot be opened is not, and reading it says why."""
    from PIL import Image

    from indexer.images.decode import read_shape

    scale = recipe.image.scale
    if job.raster is None and scale is None:
        return False
    try:
        height, width = read_shape(job.image) if job.raster is None else job.raster.shape
    except ImageError:
        return False
    most = MOST_PIXELS
    if recipe.transfer.refine != "none":  # which takes a whole photo
        most = Image.MAX_IMAGE_PIXELS or height * width
        return job.raster is not None and height * width > most
    return height * width * max(1.0, (scale or 0.0) ** 2) > most


def large_entries(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    asked: Asked,
    *,
    paint_background: bool,
    skipped: list[tuple[str, str]] | None,
) -> Iterator[dict[str, Any]]:
    """Segment one photo after another, and give what is said of each; ``skipped`` takes bad ones."""
    for job in jobs:
        job.mask.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield _segment(segmenter, job, asked, paint_background=paint_background)
        except DataError as error:
            if skipped is None:
                raise
            skipped.append((str(job.image), str(error)))


def _segment(segmenter: Segmenter, job: Job, asked: Asked, *, paint_background: bool) -> dict[str, Any]:
    from segmentation.drawing.overlays import overlay
    from segmentation.drawing.pictures import write_image
    from segmentation.instances import Regions
    from segmentation.pixels import mask_of_columns

    classes, watched = segmenter.classes, tuple(asked.thresholds)
    regions, peaks = Regions(asked.columns), np.zeros(len(watched), dtype=np.float32)
    counts, certain = np.zeros(len(classes), dtype=np.int64), 0.0
    with _reader(job) as (reader, reference):
        height, width = reader.shape
        reduced = -(-max(height, width) // OVERLAY_SIDE)
        small = []
        strips = segmenter.segment_strips(reader, watched=watched, progress=ProgressDisplay())
        with closing(strips), _writer(job, reader.shape, classes, reference) as write:
            for strip in strips:
                mask = mask_of_columns(strip.columns, classes)
                write(strip, mask)
                counts += class_counts(strip.columns, len(classes))
                certain += float(strip.confidence.sum(dtype=np.float64))
                regions.add(strip.rows.start, strip.columns, strip.confidence)
                np.maximum(peaks, strip.peaks, out=peaks)
                small.append(mask[-strip.rows.start % reduced :: reduced, ::reduced])
        if job.overlay is not None:
            # an array is not reduced by its reader
            pixels = reader.read((0, 0, height, width), reduced)
            step = reduced if pixels.shape[:2] == (height, width) else 1
            picture = overlay(
                np.ascontiguousarray(pixels[::step, ::step]),
                np.concatenate(small),
                classes,
                paint_background=paint_background,
            )
            write_image(job.overlay, picture)
    scores = dict(zip(watched, peaks.tolist(), strict=True))
    entry = entry_of(job, (height, width), counts, certain / (height * width), classes)
    return {**entry, **asked.answer(regions.found(asked.min_area), scores, classes)}


@contextmanager
def _reader(job: Job) -> Iterator[tuple[ImageReader, GeoReference | None]]:
    """What reads a photo, and where that lies, for a raster."""
    from indexer.images import read_image
    from indexer.images.raster import RasterReader
    from indexer.images.windows import ArrayReader

    if job.raster is None:
        yield ArrayReader(read_image(job.image)), None
    else:
        with RasterReader(job.image) as reader:
            yield reader, reader.reference


@contextmanager
def _writer(
    job: Job, shape: tuple[int, int], classes: ClassMap, reference: GeoReference | None
) -> Iterator[Write]:
    """What writes a strip and its mask of ids: through to a TIFF, or to a PNG when all are there."""
    from segmentation.drawing.masks import write_mask
    from segmentation.drawing.pictures import write_image
    from segmentation.drawing.rasters import mask_writer, raster_writer

    with ExitStack() as stack:
        if reference is not None:
            write_ids = stack.enter_context(mask_writer(job.mask, shape, classes, reference))
            write_grey = (
                stack.enter_context(raster_writer(job.confidence, shape, np.uint8, reference))
                if job.confidence is not None
                else None
            )
        else:
            ids = np.empty(shape, dtype=classes.mask_dtype)
            grey = None if job.confidence is None else np.empty(shape, dtype=np.uint8)
            write_ids = _into(ids)
            write_grey = None if grey is None else _into(grey)

        def write(strip: Strip, mask: npt.NDArray[Any]) -> None:
            write_ids(strip.rows.start, mask)
            if write_grey is not None:
                write_grey(strip.rows.start, greys(strip.confidence))

        yield write
    if reference is None:
        write_mask(job.mask, ids, classes)
        if grey is not None and job.confidence is not None:
            write_image(job.confidence, grey)


def _into(array: npt.NDArray[Any]) -> Callable[[int, npt.NDArray[Any]], None]:
    """What puts rows into an array."""

    def write(first: int, rows: npt.NDArray[Any]) -> None:
        array[first : first + len(rows)] = rows

    return write
