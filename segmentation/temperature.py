"""One temperature on the class shares of pixels, which makes them agree with how often masks are right.

Source: temperature scaling, *On Calibration of Modern Neural Networks* (Guo, Pleiss, Sun, Weinberger; ICML
2017), section 4.2. The logits are the logarithms of the shares; their floor is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.floating]

#: Smallest share that calibration knows: without it a share of 1 would stay 1 at any temperature.
FLOOR = 1e-4


class Winners(NamedTuple):
    """What some rows of a photo's pixels show."""

    columns: npt.NDArray[np.int32]
    """(r, W) class columns; the first of equal classes wins."""
    confidence: npt.NDArray[np.float32]
    """(r, W) in 0..1: the winner's share, calibrated where there is a temperature."""
    peaks: npt.NDArray[np.float32]
    """(n,) the largest share of each class that is watched, calibrated alike."""


def calibrated(share: Floats, values: Floats, tau: float | None, classes: int) -> npt.NDArray[np.float32]:
    """A class's share (...) of pixels as a part of all classes' terms, in 0..1; as it is where tau is None.

    ``values`` (P, ...) are the shares of the classes that are present, of ``classes`` in all. A pixel without
    any share gets 0.
    """
    if tau is None:
        return share.astype(np.float32, copy=False)
    known = values.any(axis=0)
    return np.where(known, power(share, tau) / normaliser(values, tau, classes), 0).astype(np.float32)


def raise_peaks(
    peaks: npt.NDArray[np.float32],
    watched: Sequence[int],
    values: Floats,
    present: npt.NDArray[np.intp],
    tau: float | None,
    classes: int,
) -> None:
    """Take the largest calibrated shares of watched classes in ``values`` (P, ...) into ``peaks`` (n,)."""
    for number, column in enumerate(watched):
        share = share_of(column, values, present)
        peaks[number] = calibrated(share, values, tau, classes).max(initial=peaks[number])


def share_of(column: int, values: Floats, present: npt.NDArray[np.intp]) -> Floats:
    """A class's share (...) in ``values`` (P, ...) of the classes ``present`` (P,); 0 where it is not."""
    found = np.flatnonzero(present == column)
    return values[found[0]] if found.size else np.zeros(values.shape[1:], values.dtype)


def power(share: Floats, tau: float) -> Floats:
    """``max(share, FLOOR) ** (1 / tau)``: a class's term before normalisation."""
    values = torch.from_numpy(np.ascontiguousarray(share))  # several times as fast as numpy's power
    result: Floats = values.clamp(min=FLOOR).pow_(1 / tau).numpy()
    return result


def normaliser(values: Floats, tau: float, classes: int) -> Floats:
    """The sum of all classes' terms: shares (P, ...) of the present ones -> (...)."""
    total: Floats = power(values, tau).sum(axis=0) + (classes - len(values)) * FLOOR ** (1 / tau)
    return total
