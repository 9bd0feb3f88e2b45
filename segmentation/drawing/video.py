"""Pictures one after another as a video file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from retrieval.errors import StorageError
from retrieval.store.files import PARTIAL, storage_errors
from retrieval.store.paths import text_path
from segmentation.drawing.pictures import Picture

#: MPEG-4 part 2, which every OpenCV with FFmpeg encodes.
_CODEC = "mp4v"


class VideoWriter:
    """Writes pictures of one size as an MP4 file, at once or not at all; use it as a context manager.

    The coding loses detail: it is to look at. Sides are made even, as the coding wants them, by repeating the
    last row or column; a picture of another size than the first is scaled to it.
    """

    def __init__(self, path: Path, *, rate: float) -> None:
        """``rate`` is in frames a second."""
        self.path, self.rate = path, rate
        self._partial = path.with_name(f"{path.stem}{PARTIAL}.mp4")  # OpenCV goes by the ending
        self._file: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        self._file.release()
        if kind is None:
            with storage_errors(self.path.parent):
                self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)

    def write(self, picture: Picture) -> None:
        """Add a picture (H, W, 3) RGB; raises StorageError where the file cannot be written."""
        if self._file is None:
            self._file = self._open(picture)
        if picture.shape[:2] != self._size:
            height, width = self._size
            picture = cv2.resize(picture, (width, height)).astype(np.uint8)
        height, width = self._size
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        self._file.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))

    def _open(self, picture: Picture) -> cv2.VideoWriter:
        height, width = picture.shape[:2]
        self._size = height, width
        with storage_errors(self.path.parent):
            self._partial.touch()  # OpenCV would say that it failed, and not why
        size = (width + width % 2, height + height % 2)
        codec = cv2.VideoWriter.fourcc(*_CODEC)
        with text_path(self._partial, new=True) as name:
            file = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, self.rate, size)
        if not file.isOpened():
            self._partial.unlink(missing_ok=True)
            raise StorageError(
                f"{self.path} cannot be written: this OpenCV does not encode {_CODEC}; leave --overlay out"
            )
        return file
