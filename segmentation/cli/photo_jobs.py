"""The photos to segment, and the files that are written for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import ConfigError, ImageError
from retrieval.store.paths import real_path
from segmentation.cli.console import count_of, say
from segmentation.cli.inputs import files_in

if TYPE_CHECKING:
    from indexer.images.raster import RasterHeader
    from segmentation.cli.exports import Exports
    from segmentation.export import Format


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
        if not os.path.lexists(path) and not skip_bad:
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


def missing_jobs(jobs: Sequence[Job], exports: Exports, out: Path) -> tuple[list[Job], Exports]:
    """The jobs that an earlier run has not done, and what is still to export; says how many it has.

    A file of all photos is made of what is known of each: a photo is done again where that is lost.
    """
    missing = [job for job in jobs if not all(path.exists() for path in job.outputs)]
    if not missing and exports.are_whole(out):
        exports = exports.of_photos()
    elif (recorded := exports.recorded(out)) is not None:
        there = set(jobs).difference(missing)
        missing = [job for job in jobs if job not in there or job.name not in recorded]
    if len(missing) < len(jobs):
        say(f"kept the files of {count_of(len(jobs) - len(missing), 'image')} of an earlier run")
    return missing, exports


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
    inputs = {real_path(job.image) for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs:
            if path in owners:
                raise ConfigError(
                    f"{owners[path]} and {job.image} would both be written to {path}; "
                    "rename one of them, or segment them into two folders"
                )
            owners[path] = job.image
            if real_path(path) in inputs:
                raise ConfigError(f"{path} is one of the images to segment; choose another --out")
            _check_free(path, overwrite=overwrite)
    for path in shared:
        if path in owners:
            raise ConfigError(
                f"{owners[path]} and --export would both be written to {path}; rename the photo"
            )
        if real_path(path) in inputs:
            raise ConfigError(f"{path} is one of the images to segment; choose another --out")
        _check_free(path, overwrite=overwrite)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; choose another --out, or replace it with --overwrite")
