"""Options of ``mycelia segment`` that are about the frames of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from retrieval.errors import ConfigError

Every = Annotated[
    int, typer.Option("--every", min=1, metavar="N", help="Of videos: label every N-th frame alone.")
]
Smooth = Annotated[
    float,
    typer.Option(
        "--smooth",
        min=0,
        max=0.99,
        metavar="WEIGHT",
        help="Of videos: weight of the frames before in a moving average of class shares, against flicker; "
        "0.6 is a start, 0 none.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep the files of an earlier run, and do only what is missing.")
]


@dataclass(frozen=True)
class FrameOptions:
    """Which frames of videos are labelled, and how."""

    every: int = 1
    smooth: float = 0.0
    resume: bool = False

    def checked(self, videos: Sequence[Path]) -> FrameOptions:
        """Itself; raises ConfigError where an option has no video to be about, or two exclude each other."""
        if not videos and (self.every != 1 or self.smooth):
            name = "--every" if self.every != 1 else "--smooth"
            raise ConfigError(f"{name} is about frames of videos, and no video is named; leave it out")
        if videos and self.resume and self.smooth:
            raise ConfigError(
                "--resume cannot go on with a video under --smooth, whose masks depend on the frames before; "
                "run it whole with --overwrite"
            )
        return self


def is_video(path: Path) -> bool:
    """Whether a path is taken for a video, by its ending."""
    from indexer.images.video import VIDEO_SUFFIXES

    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()
