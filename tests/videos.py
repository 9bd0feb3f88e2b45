"""Tiny videos, made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt


def write_video(
    path: Path, frames: Sequence[npt.NDArray[np.uint8]], *, codec: str = "mp4v", rate: float = 10
) -> Path:
    """Write frames (H, W, 3) RGB with even sides."""
    height, width = frames[0].shape[:2] if frames else (48, 70)
    file = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), rate, (width, height))
    assert file.isOpened()
    for frame in frames:
        file.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    file.release()
    return path


def halves(count: int, *, noise: int = 20, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Frames of 48 x 70 pixels: dark at the left, bright at the right, with noise of their own."""
    generator = np.random.default_rng(seed)
    bright = np.zeros((48, 70, 3), dtype=np.int64)
    bright[:, 35:] = 150
    noises = generator.integers(0, noise, size=(count, 48, 70, 3))
    return [(40 + bright + each).astype(np.uint8) for each in noises]
