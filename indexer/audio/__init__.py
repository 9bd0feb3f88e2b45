"""Recordings on disk, read through soundfile (libsndfile)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import AudioError, MissingExtraError
from retrieval.store.paths import special_kind

#: A recording whose loudest sample is below this (full scale is 1) is silent.
SILENCE = 1e-4
#: Seconds that a recording has at least: one window of a spectrogram.
SHORTEST = 0.025


@dataclass(frozen=True, eq=False)
class Recording:
    """Sound in one channel."""

    samples: npt.NDArray[np.float32]
    """(n,), full scale is 1."""
    rate: int
    """Samples a second."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def at(self, rate: int) -> Recording:
        """The same sound at another rate."""
        if rate == self.rate:
            return self
        from scipy.signal import resample_poly

        common = gcd(rate, self.rate)
        resampled = resample_poly(self.samples, rate // common, self.rate // common)
        return Recording(resampled.astype(np.float32), rate)


def read_recording(path: str | Path) -> Recording:
    """A recording, its channels averaged.

    Raises AudioError for a file that cannot be read, is shorter than :data:`SHORTEST`, silent, or holds
    numbers that are none; MissingExtraError without soundfile.
    """
    soundfile = _soundfile()
    if (special := special_kind(path)) is not None:
        raise AudioError(f"{path} is {special}, where a recording was expected; save it as a file first")
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError) as error:
        reason = "it is not there" if not Path(path).exists() else " ".join(str(error).split())
        raise AudioError(
            f"{path} cannot be read as a recording ({reason}); expected wav, flac, ogg or aiff"
        ) from error
    mono = samples.mean(axis=1)
    if len(mono) < SHORTEST * rate:
        raise AudioError(
            f"{path} has {len(mono)} samples at {rate} a second, expected at least {SHORTEST} s; "
            "give a longer recording or leave it out"
        )
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds samples that are no numbers; save it again or leave it out")
    if float(np.abs(mono).max()) < SILENCE:
        raise AudioError(f"{path} is silent; give a recording of a sound, or leave it out")
    return Recording(np.ascontiguousarray(mono, dtype=np.float32), int(rate))


def _soundfile() -> Any:
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            "recordings need the package soundfile: pip install 'mycelia[audio]'"
        ) from error
