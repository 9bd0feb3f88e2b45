"""``mycelia segment``: photos in, masks out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from retrieval.errors import ConfigError, DataError, ImageError
from segmentation.cli.archives import unpack, with_given
from segmentation.cli.arguments import IndexPath, MaxPixels, SkipBad
from segmentation.cli.asked import Asked
from segmentation.cli.console import count_of, say, say_skipped, show, show_json
from segmentation.cli.exports import Export, ExportClasses, Exports, Tolerance
from segmentation.cli.frames import Every, FrameOptions, Resume, Smooth, is_video
from segmentation.cli.inputs import files_in
from segmentation.cli.overrides import changed_recipe, open_segmenter, split_overrides
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.images.raster import GeoReference, RasterHeader
    from retrieval.classes import ClassMap
    from segmentation.export import Exporter, Format
    from segmentation.segmenter import Segmentation, Segmenter

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """One photo and the files that will be written for it."""

    image: Path
    mask: Path
    overlay: Path | None
    confidence: Path | None
    stem: str = ""
    """The mask's name below the folder of the masks, without its ending."""
    exports: tuple[Path, ...] = ()
    raster: RasterHeader | None = None
    """Of a TIFF whose masks are TIFF too."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that this job writes."""
        files = (self.mask, self.overlay, self.confidence, *self.exports)
        return tuple(path for path in files if path is not None)

    @property
    def name(self) -> str:
        """The photo's name in exports: from the folder that was given on, with its ending."""
        return self.stem + self.image.suffix


def segment(
    context: typer.Context,
    index: IndexPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|VIDEO|KEY=VALUE",
            help="Photos, folders or archives of photos, videos; and settings to change, for example "
            "runtime.device=cpu.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also write NAME.overlay.jpg: the photo with its classes painted over."
        ),
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write NAME.confidence.png: grey, 255 is certain.")
    ] = False,
    export: Export = None,
    export_classes: ExportClasses = None,
    tolerance: Tolerance = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are in the way.")
    ] = False,
    resume: Resume = False,
    every: Every = 1,
    smooth: Smooth = 0.0,
    paint_background: Annotated[
        bool,
        typer.Option(
            "--paint-background", help="Paint classes named background, void or unlabelled in overlays too."
        ),
    ] = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    instances: Annotated[
        str | None,
        typer.Option(
            "--instances", metavar="CLASS,...", help="Classes whose regions --json lists; all but background."
        ),
    ] = None,
    min_area: Annotated[
        int, typer.Option("--min-area", min=1, help="Smallest region that --json lists, in pixels.")
    ] = 1,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="CLASS=T",
            help="Call a photo defective where the largest share of CLASS is T or more; may be repeated.",
        ),
    ] = None,
) -> None:
    """Segment photos and videos into palette PNGs of class ids.

    Each photo gets NAME.png, of its own size, with class ids in its pixels; photos in subfolders of a
    folder that is given get theirs in subfolders of the same names. A GeoTIFF, and a TIFF too large to be
    read at once, gets NAME.tif with the same georeference (needs mycelia[geo]). A video gets a folder NAME
    with a PNG for each frame, and with --overlay NAME.overlay.mp4, which is to look at.

    \b
    Examples:
      mycelia segment my.index photo.jpg --out masks --overlay
      mycelia segment my.index photos/ more/*.jpg --out masks --skip-bad
      mycelia segment my.index photos/ --out masks runtime.device=cpu transfer.k=50
      mycelia segment steel.index photos/ --out masks --json --instances scratch,pit --min-area 20
      mycelia segment steel.index photos/ --out masks --json --threshold scratch=0.4
      mycelia segment my.index photos/ --out masks image.shifts=2 transfer.refine=guided
      mycelia segment my.index photos/ --out masks --export coco,labelme --tolerance 1
      mycelia segment my.index clip.mp4 --out masks --overlay --smooth 0.6 --every 2

    \b
    Settings (KEY=VALUE) that may differ from those of the build, as `mycelia evaluate --help` lists them:
      transfer.*  runtime.*  rerank.candidates  image.shifts  image.flip  image.overlap
    """
    given, overrides = split_overrides(images)
    if not given:
        raise typer.BadParameter("expected a photo, a folder or a video", param_hint="IMAGE|FOLDER|VIDEO")
    from segmentation.cli.segment_video import missing_jobs, plan_clips, segment_clips

    exports = Exports.of(export, export_classes, tolerance)
    paths = [unpack(context, path) for path in given]
    videos = [path for path in paths if is_video(path)]
    frames = FrameOptions(every, smooth, resume).checked(videos)
    jobs = plan_jobs(
        [path for path in paths if path not in videos],
        out,
        overlay=overlay,
        confidence=confidence,
        skip_bad=skip_bad,
        formats=exports.formats,
    )
    jobs = missing_jobs(jobs) if resume else jobs
    check_outputs(jobs, overwrite=overwrite or resume, shared=exports.shared_files(out))
    if videos and exports.formats:
        raise ConfigError("--export names files of photos, and frames of a video are none; leave one out")

    from retrieval import IndexFolder
    from segmentation.cli.segment_large import is_large, large_entries
    from segmentation.pipeline import behind

    clips = plan_clips(videos, out, overlay=overlay, confidence=confidence, overwrite=overwrite or resume)
    folder = IndexFolder.open(index)
    recipe = changed_recipe(folder, overrides)
    large = [job for job in jobs if is_large(job, recipe)]
    skipped: list[tuple[str, str]] = []
    entries: list[dict[str, Any]] = []
    if large and exports.formats:
        raise ConfigError(
            f"--export takes whole masks, and {large[0].image} is so large that it is labelled in parts; "
            "leave the option out, or cut the photo"
        )
    names = [job.name for job in jobs]
    with open_segmenter(folder, recipe) as segmenter, exports.open(out, segmenter.classes, names) as exporter:
        bad = skipped if skip_bad else None
        results = segment_jobs(segmenter, [job for job in jobs if job not in large], skipped=bad)
        asked = Asked.of(
            segmenter.classes, instances=instances, min_area=min_area, thresholds=threshold, as_json=as_json
        )
        write = partial(write_result, exporter=exporter, asked=asked, paint_background=paint_background)
        rest = large_entries(segmenter, large, asked, paint_background=paint_background, skipped=bad)
        with closing(behind(results, write)) as written:
            for entry in chain(written, rest):
                entries.append(entry)
                if not as_json:
                    show(entry["mask"])
        photos = len(entries)
        of_frames = segment_clips(
            segmenter, clips, asked, frames, paint_background=paint_background, quiet=as_json, skipped=bad
        )
        for entry in of_frames:
            entries.append(entry if as_json else {"defective": entry.get("defective")})
    if as_json:
        show_json(with_given(context, entries))
    say_skipped(skipped)
    for path in exports.run_files(out):
        say(f"exported {path}")
    done = [count_of(photos, "image")] if photos or not clips else []
    done += [count_of(len(entries) - photos, "frame")] if clips else []
    say(f"segmented {' and '.join(done)} into {out}")
    if threshold:
        say(f"defective: {sum(entry['defective'] for entry in entries):,} of {len(entries):,}")


def plan_jobs(
    inputs: Sequence[Path],
    out: Path,
    *,
    overlay: bool,
    confidence: bool,
    skip_bad: bool = False,
    formats: Sequence[Format] = (),
) -> list[Job]:
    """What to read and what to write; folders stand for the images in them, and keep their subfolders.

    ``formats`` are those of exports beside the masks.

    Raises ImageError for a folder without images, and, unless ``skip_bad`` leaves that to whoever
    reads it, for an input that is not there.
    """
    images: dict[Path, Path] = {}
    for path in inputs:
        if not path.exists() and not skip_bad:
            raise ImageError(f"there is no image or folder at {path}; check the path")
        found = files_in(path, "image") if path.is_dir() else [path]
        for image in found:
            images.setdefault(
                image, image.relative_to(path).with_suffix("") if image != path else Path(image.stem)
            )
    jobs = []
    for image, name in images.items():
        raster = _raster_of(image)
        ending = "png" if raster is None else "tif"
        job = Job(
            image,
            out / f"{name}.{ending}",
            out / f"{name}.overlay.jpg" if overlay else None,
            out / f"{name}.confidence.{ending}" if confidence else None,
            name.as_posix(),
            tuple(out / format.photo_file.name(name.as_posix()) for format in formats if format.photo_file),
            raster,
        )
        jobs.append(job)
    return jobs


def _raster_of(image: Path) -> RasterHeader | None:
    """The header of a TIFF that knows where it lies, or is too large for Pillow."""
    from PIL import Image

    from indexer.images.raster import read_raster_header

    header = read_raster_header(image)
    if header is None or header.georeferenced:
        return header
    most, (height, width) = Image.MAX_IMAGE_PIXELS, header.shape
    return header if most is not None and height * width > most else None


def check_outputs(jobs: Sequence[Job], *, overwrite: bool, shared: Sequence[Path] = ()) -> None:
    """Raise ConfigError, before any work, where a file would be written twice or something would be lost.

    ``shared`` are the files of the whole run.
    """
    inputs = {job.image.resolve() for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if path in owners:
                raise ConfigError(
                    f"{owners[path]} and {job.image} would both be written to {path}; "
                    "rename one of them, or segment them into two folders"
                )
            owners[path] = job.image
            if path.resolve() in inputs:
                raise ConfigError(f"{path} is one of the images to segment; choose another --out")
            _check_free(path, overwrite=overwrite)
    for path in shared:
        if path in owners:
            raise ConfigError(
                f"{owners[path]} and --export would both be written to {path}; rename the photo"
            )
        if path.resolve() in inputs:
            raise ConfigError(f"{path} is one of the images to segment; choose another --out")
        _check_free(path, overwrite=overwrite)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; choose another --out, or replace it with --overwrite")


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
        picture = overlay(photo.pixels, result.mask, classes, paint_background=paint_background)
        write_image(job.overlay, picture)
    if job.confidence is not None:
        grey = np.rint(255 * result.confidence).astype(np.uint8)
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
    return np.bincount(columns[columns >= 0], minlength=classes)


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
