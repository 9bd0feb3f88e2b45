"""Confidence that agrees with how often masks are right: one temperature on the class shares of a pixel.

Source: temperature scaling, *On Calibration of Modern Neural Networks* (Guo, Pleiss, Sun, Weinberger; ICML
2017), section 4.2; :mod:`segmentation.temperature`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED
from segmentation.pixels import PixelShares
from segmentation.scoring.reliability import Reliability
from segmentation.temperature import normaliser, power

#: The temperatures tried: eight to a doubling.
TAUS = 2.0 ** (np.arange(-24, 41) / 8)

#: Pixels of an image that the fit looks at, about: those of a raster.
SAMPLE = 20_000


@dataclass(frozen=True)
class Calibration:
    """The temperature that fits best, and what it does on the pixels that it was fitted on."""

    tau: float
    pixels: int
    nll: float
    """Mean negative log-likelihood of the true class, in nats."""
    nll_shares: float
    """The same of the shares as they are (tau = 1)."""
    ece: float
    """Expected calibration error in 0..1."""
    ece_shares: float

    @property
    def at_limit(self) -> bool:
        """Whether no temperature tried was too low, or none too high: the best may lie outside."""
        return self.tau in (TAUS[0], TAUS[-1])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "tau": self.tau,
            "pixels": self.pixels,
            "nll": self.nll,
            "nll_shares": self.nll_shares,
            "ece": self.ece,
            "ece_shares": self.ece_shares,
        }


class CalibrationFit:
    """Sums over images for each temperature of :data:`TAUS`; no pixel is kept."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._nll = np.zeros(len(TAUS))
        self._pixels = 0
        self._tables = [Reliability(classes) for _ in TAUS]

    def add(self, pixels: PixelShares, truth: npt.NDArray[np.int32]) -> None:
        """Take in an image: its shares, and its true class columns (H, W) with -1 for unlabelled."""
        every = max(1, round(float(np.sqrt(truth.size / SAMPLE))))
        for strip in pixels.strips(every=every):
            true = truth[strip.rows, ::every].ravel()
            labelled = true != UNLABELLED
            values = strip.values.reshape(len(strip.present), -1)[:, labelled].astype(np.float64)
            self._add(values, strip.present, true[labelled])

    def _add(
        self, values: npt.NDArray[np.float64], present: npt.NDArray[np.intp], true: npt.NDArray[np.int32]
    ) -> None:
        if not true.size:
            return
        best, winner = _winners(values, present)
        own = _own(values, present, true)
        self._pixels += true.size
        for number, tau in enumerate(TAUS):
            total = normaliser(values, tau, self._classes)
            self._nll[number] += float(np.log(total / power(own, tau)).sum())
            self._tables[number].add(true, winner, (power(best, tau) / total).astype(np.float32))

    def best(self) -> Calibration | None:
        """The temperature of the smallest negative log-likelihood; None where no pixel was labelled."""
        if self._pixels == 0:
            return None
        chosen, plain = int(self._nll.argmin()), int(np.flatnonzero(TAUS == 1.0)[0])
        return Calibration(
            tau=float(TAUS[chosen]),
            pixels=self._pixels,
            nll=float(self._nll[chosen] / self._pixels),
            nll_shares=float(self._nll[plain] / self._pixels),
            ece=self._tables[chosen].ece,
            ece_shares=self._tables[plain].ece,
        )


def _winners(
    values: npt.NDArray[np.float64], present: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    if not len(present):  # no patch has a neighbour
        return np.zeros(values.shape[1]), np.zeros(values.shape[1], dtype=np.int32)
    return values.max(axis=0), present[values.argmax(axis=0)].astype(np.int32)


def _own(
    values: npt.NDArray[np.float64], present: npt.NDArray[np.intp], true: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Each pixel's share of its true class, 0 for a class that is not present: (P, n) -> (n,)."""
    own = np.zeros(len(true))
    for row, column in zip(values, present, strict=True):
        np.copyto(own, row, where=true == column)
    return own
