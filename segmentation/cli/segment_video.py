"""Videos that ``mycelia segment`` labels frame by frame."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.errors import ConfigError, DataError
from retrieval.store.paths import real_path
from segmentation.cli.console import count_of, say, show
from segmentation.cli.frames import FrameOptions
from segmentation.cli.photo_jobs import Job
from segmentation.cli.photo_results import class_counts, entry_of
from segmentation.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from indexer.images.video import Frame, VideoReader
    from retrieval.classes import ClassMap
    from segmentation.cli.asked import Asked
    from segmentation.segmenter import Segmentation, Segmenter

#: Most of a picture's height that a legend may add in a video.
_LEGEND_SHARE = 0.5
_MASK = re.compile(r"(\d{6,})\.png")


@dataclass(frozen=True)
class Clip:
    """A video and what will be written for it."""

    video: Path
    masks: Path
    """The folder of its frames' masks."""
    overlay: Path | None
    confidence: bool

    def job(self, number: int) -> Job:
        """One frame and its files."""
        name = f"{number:06}"
        sure = self.masks / f"{name}.confidence.png" if self.confidence else None
        return Job(self.video, self.masks / f"{name}.png", self.overlay, sure, f"{self.masks.name}/{name}")

    def present(self) -> set[int]:
        """The frames whose masks are there."""
        if not self.masks.is_dir():
            return set()
        found = (_MASK.fullmatch(path.name) for path in self.masks.iterdir())
        return {int(match[1]) for match in found if match}

    def done(self) -> set[int]:
        """The frames of which nothing is missing."""
        files = {number: self.job(number) for number in self.present()}
        return {number for number, job in files.items() if job.confidence is None or job.confidence.exists()}


def plan_clips(
    videos: Sequence[Path], out: Path, *, overlay: bool, confidence: bool, overwrite: bool
) -> list[Clip]:
    """What to write for each video; raises ConfigError where that is taken, or two would share it."""
    clips: dict[Path, Clip] = {}
    for video in dict.fromkeys(videos):
        masks = out / video.stem
        clip = Clip(video, masks, out / f"{video.stem}.overlay.mp4" if overlay else None, confidence)
        if masks in clips:
            raise ConfigError(
                f"{clips[masks].video} and {video} would both be written to {masks}; rename one of them, or "
                "segment them into two folders"
            )
        clips[masks] = clip
        if clip.overlay is not None and real_path(clip.overlay) in {real_path(path) for path in videos}:
            raise ConfigError(f"{clip.overlay} is one of the videos to segment; choose another --out")
        taken = [path for path in (masks, clip.overlay) if path is not None and _is_taken(path)]
        if taken and not overwrite:
            raise ConfigError(
                f"{taken[0]} exists already; choose another --out, replace it with --overwrite, or go on "
                "with --resume"
            )
    return list(clips.values())


def _is_taken(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def segment_clips(
    segmenter: Segmenter,
    clips: Sequence[Clip],
    asked: Asked,
    options: FrameOptions,
    *,
    paint_background: bool,
    quiet: bool,
    skipped: list[tuple[str, str]] | None,
) -> Iterator[dict[str, Any]]:
    """Segment one video after another, and give what is said of each frame; ``skipped`` takes bad videos.

    The folder of a video's masks is shown, unless ``quiet``, when it is done.
    """
    for clip in clips:
        try:
            yield from _segment(segmenter, clip, asked, options)
            if clip.overlay is not None:
                _draw(clip, segmenter.classes, options, paint_background=paint_background)
        except DataError as error:
            if skipped is None:
                raise
            skipped.append((str(clip.video), str(error)))
            continue
        if not quiet:
            show(str(clip.masks))


def _segment(
    segmenter: Segmenter, clip: Clip, asked: Asked, options: FrameOptions
) -> Iterator[dict[str, Any]]:
    from indexer.images.video import VideoReader
    from retrieval.progress import track
    from segmentation.pipeline import behind

    before = clip.present()
    kept = clip.done() if options.resume else set()
    done: set[int] = set()
    with VideoReader(clip.video) as reader:
        total, stage = len(range(0, reader.declared, options.every)), f"segmenting {clip.video.name}"
        results = _results(segmenter, reader, options, kept)
        write = partial(_write, clip=clip, classes=segmenter.classes, asked=asked)
        clip.masks.mkdir(parents=True, exist_ok=True)
        with (
            track(ProgressDisplay(), stage, total, done=min(len(kept), total)) as task,
            closing(behind(results, write)) as written,
        ):
            for entry in written:
                done.add(entry["frame"])
                yield entry
                task.advance()
        _say_frames(clip, reader, before - done - kept, kept)


def _results(
    segmenter: Segmenter, reader: VideoReader, options: FrameOptions, kept: set[int]
) -> Generator[tuple[Frame, Segmentation], None, None]:
    """Each frame that is not kept from an earlier run, with its result."""
    from segmentation.smoothing import Smoother

    smoother = Smoother(options.smooth, segmenter.classes)
    frames = reader.frames(every=options.every, wanted=lambda number: number not in kept)
    with closing(segmenter.segment_many((frame, frame.pixels) for frame in frames)) as results:
        for frame, result in results:
            yield frame, smoother(result)


def _write(item: tuple[Frame, Segmentation], clip: Clip, classes: ClassMap, asked: Asked) -> dict[str, Any]:
    """Write one frame's files, its mask last; returns what is said of it."""
    from segmentation.drawing.masks import write_mask
    from segmentation.drawing.pictures import write_image

    frame, result = item
    job = clip.job(frame.number)
    if job.confidence is not None:
        write_image(job.confidence, np.rint(255 * result.confidence).astype(np.uint8))
    write_mask(job.mask, result.mask, classes)
    counts = class_counts(result.columns, len(classes))
    entry = entry_of(job, result.mask.shape, counts, float(result.confidence.mean()), classes)
    when = {"frame": frame.number, "seconds": round(frame.seconds, 3)}
    return {**entry, **when, **asked.entry(result, classes)}


def _say_frames(clip: Clip, reader: VideoReader, left: set[int], kept: set[int]) -> None:
    """What a reader of the masks should know: frames that were bad, and masks of earlier runs."""
    if reader.bad:
        say(
            f"warning: {clip.video} declares {count_of(reader.declared, 'frame')}, and {reader.bad:,} of "
            "them could not be decoded: it is damaged or cut short, or its frame rate changes"
        )
    if kept:
        say(f"kept {count_of(len(kept), 'mask')} of an earlier run in {clip.masks}")
    if left:
        say(f"{clip.masks} also holds {count_of(len(left), 'mask')} of an earlier run; delete these by hand")


def _draw(clip: Clip, classes: ClassMap, options: FrameOptions, *, paint_background: bool) -> None:
    """Write the overlay from the video and its masks, which a stopped run may have left."""
    from PIL import Image

    from indexer.images.video import VideoReader
    from retrieval.progress import track
    from segmentation.drawing.overlays import above_legend, blend, class_legend
    from segmentation.drawing.video import VideoWriter

    assert clip.overlay is not None
    there = clip.present()
    expected = 0
    with (
        VideoReader(clip.video) as reader,
        VideoWriter(clip.overlay, rate=reader.rate / options.every) as out,
    ):
        total = len(range(0, reader.declared, options.every))
        with track(ProgressDisplay(), f"drawing {clip.overlay.name}", total) as task:
            for frame in reader.frames(every=options.every, wanted=there.__contains__):
                with Image.open(clip.job(frame.number).mask) as image:
                    mask = np.array(image)
                picture = blend(frame.pixels, mask, classes, paint_background=paint_background)
                below = class_legend(classes, picture.shape[1], paint_background=paint_background)
                if below.shape[0] <= _LEGEND_SHARE * picture.shape[0]:
                    picture = above_legend(picture, below)
                # what could not be decoded is bridged, so that time goes on as in the video
                for _ in range(expected, frame.number + 1, options.every):
                    out.write(picture)
                expected = frame.number + options.every
                task.advance()
