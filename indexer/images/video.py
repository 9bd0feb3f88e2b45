"""Frames of videos, one after another: through OpenCV, which decodes with FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from retrieval.errors import ImageError
from retrieval.store.paths import special_kind, text_path

#: File name endings (lower case) that count as videos where a file is named.
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"}
    | {".webm", ".wmv"}
)
#: Frames a second of a file that states none, or nonsense.
USUAL_RATE = 25.0
_FASTEST = 1000.0
#: Frames in a row that cannot be had, after which a file is at its end, whatever it declares.
_LAST = 10_000


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video."""

    number: int
    """From 0, in the order of the file; one that cannot be decoded counts too."""
    seconds: float
    """When it is shown, from the start."""
    pixels: npt.NDArray[np.uint8]
    """(H, W, 3) RGB, turned as the file says."""


class VideoReader:
    """A video file whose frames are decoded one at a time; close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open a file; raises ImageError where it is missing or OpenCV cannot decode it."""
        self.path = path
        if not path.is_file():
            special = "a folder" if path.is_dir() else special_kind(path)
            came = "does not exist" if special is None else f"is {special}"
            raise ImageError(f"video {path} {came}; check the path")
        with text_path(path) as name:
            self._file = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
        if not self._file.isOpened():
            raise ImageError(
                f"video {path} cannot be opened: it is truncated, has no frame or only sound, or is coded in "
                "a way that this OpenCV cannot decode; copy it again, or convert it, for example "
                "with: ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        self.bad = 0  #: frames so far that could not be decoded

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.release()

    @property
    def rate(self) -> float:
        """Frames a second; :data:`USUAL_RATE` where the file states none."""
        stated = float(self._file.get(cv2.CAP_PROP_FPS))
        return stated if 0 < stated <= _FASTEST else USUAL_RATE

    @property
    def declared(self) -> int:
        """How many frames the file declares, or its length and rate suggest; 0 where nothing does."""
        return max(0, int(self._file.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self, *, every: int = 1, wanted: Callable[[int], bool] | None = None) -> Iterator[Frame]:
        """Every ``every``-th frame from here on, those alone whose number is ``wanted``.

        A frame that cannot be decoded is left out and counted in ``bad``, and so are those that the file
        declares and lacks. Raises ImageError where no frame at all can be decoded. One pass; for another
        open the file again.
        """
        number = decoded = failed = 0
        while True:
            if self._file.grab():
                decoded, failed = decoded + 1, 0
                if number % every == 0 and (wanted is None or wanted(number)):
                    frame = self._decoded(number)
                    if frame is not None:
                        yield frame
            elif number < self.declared and failed < _LAST:
                self.bad, failed = self.bad + 1, failed + 1
            else:  # the end, or past what was declared
                self.bad += max(0, self.declared - number)
                break
            number += 1
        if decoded == 0:
            raise ImageError(f"video {self.path} has no frame that can be decoded; copy or convert it again")

    def _decoded(self, number: int) -> Frame | None:
        """The frame that was grabbed last; None, and counted, for one that has no pixels."""
        seconds = float(self._file.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        good, pixels = self._file.retrieve()
        if not good or pixels is None:
            self.bad += 1
            return None
        return Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
