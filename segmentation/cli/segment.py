"""``mycelia segment``: photos in, masks out."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from retrieval.errors import ConfigError, ImageError
from retrieval.store.files import storage_errors
from segmentation.cli.arguments import IndexPath, SkipBad
from segmentation.cli.console import count_of, say, say_skipped, show, show_json

if TYPE_CHECKING:
    from retrieval.classes import ClassMap
    from segmentation.segmenter import Segmentation, Segmenter

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """One photo and the files that will be written for it."""

    image: Path
    mask: Path
    overlay: Path | None
    confidence: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Every file that this job writes."""
        return tuple(path for path in (self.mask, self.overlay, self.confidence) if path is not None)


def segment(
    index: IndexPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE|FOLDER...", help="Photos, or folders of photos.")
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
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are in the way.")
    ] = False,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Segment photos into palette PNGs of class ids.

    Each photo gets NAME.png, of its own size, with class ids in its pixels.

    \b
    Examples:
      mycelia segment my.index photo.jpg --out masks --overlay
      mycelia segment my.index photos/ more/*.jpg --out masks --skip-bad
    """
    jobs = plan_jobs(images, out, overlay=overlay, confidence=confidence, skip_bad=skip_bad)
    check_outputs(jobs, overwrite=overwrite)

    from segmentation.pipeline import behind
    from segmentation.segmenter import Segmenter

    skipped: list[tuple[str, str]] = []
    entries: list[dict[str, Any]] = []
    with Segmenter.open(index) as segmenter:
        with storage_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        results = _segment_jobs(segmenter, jobs, skip_bad=skip_bad, skipped=skipped)
        with closing(behind(results, partial(_write, classes=segmenter.classes))) as written:
            for entry in written:
                entries.append(entry)
                if not as_json:
                    show(entry["mask"])
    if as_json:
        show_json(entries)
    say_skipped(skipped)
    say(f"segmented {count_of(len(entries), 'image')} into {out}")


def plan_jobs(
    inputs: Sequence[Path], out: Path, *, overlay: bool, confidence: bool, skip_bad: bool = False
) -> list[Job]:
    """What to read and what to write; folders stand for the images in them.

    Raises ImageError for a folder without images, and, unless ``skip_bad`` leaves that to whoever
    reads it, for an input that is not there.
    """
    from indexer.images import list_images

    images: list[Path] = []
    for path in inputs:
        if not path.exists() and not skip_bad:
            raise ImageError(f"there is no image or folder at {path}; check the path")
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise ImageError(f"folder {path} holds no images; expected files such as 1.jpg or 1.png")
        images += found
    return [
        Job(
            image,
            out / f"{image.stem}.png",
            out / f"{image.stem}.overlay.jpg" if overlay else None,
            out / f"{image.stem}.confidence.png" if confidence else None,
        )
        for image in dict.fromkeys(images)
    ]


def check_outputs(jobs: Sequence[Job], *, overwrite: bool) -> None:
    """Raise ConfigError, before any work, where a file would be written twice or something would be lost."""
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
            if path.exists() and not overwrite:
                raise ConfigError(
                    f"{path} exists already; choose another --out, or replace it with --overwrite"
                )


def _segment_jobs(
    segmenter: Segmenter, jobs: Sequence[Job], *, skip_bad: bool, skipped: list[tuple[str, str]]
) -> Generator[tuple[Job, Pixels, Segmentation], None, None]:
    """Each job with its photo and result, in order; unreadable images go to ``skipped`` where allowed."""
    from indexer.images import read_image
    from indexer.progress import track

    waiting: deque[tuple[Job, Pixels]] = deque()

    def readable() -> Iterator[Pixels]:
        for job in jobs:
            try:
                photo = read_image(job.image)
            except ImageError as error:
                if not skip_bad:
                    raise
                skipped.append((str(job.image), str(error)))
                task.advance()
                continue
            waiting.append((job, photo))
            yield photo

    with track("segmenting", len(jobs)) as task, closing(segmenter.segment_many(readable())) as results:
        for result in results:
            yield *waiting.popleft(), result
            task.advance()


def _write(item: tuple[Job, Pixels, Segmentation], classes: ClassMap) -> dict[str, Any]:
    """Write the files of one result; returns what is said of it."""
    from segmentation.drawing import render

    job, photo, result = item
    render.write_mask(job.mask, result.mask, classes)
    if job.overlay is not None:
        render.write_picture(job.overlay, render.overlay(photo, result.mask, classes))
    if job.confidence is not None:
        render.write_picture(job.confidence, np.rint(255 * result.confidence).astype(np.uint8))
    return _entry(job, result, classes)


def _entry(job: Job, result: Segmentation, classes: ClassMap) -> dict[str, Any]:
    """What a program may want to know of one result."""
    shares = {info.name: round(float((result.mask == info.id).mean()), 6) for info in classes.classes}
    height, width = result.mask.shape
    return {
        "image": str(job.image),
        "mask": str(job.mask),
        "overlay": str(job.overlay) if job.overlay else None,
        "confidence": str(job.confidence) if job.confidence else None,
        "height": height,
        "width": width,
        "mean_confidence": round(float(result.confidence.mean()), 6),
        "classes": {name: share for name, share in shares.items() if share > 0},
    }
