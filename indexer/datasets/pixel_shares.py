"""What share of the pixels each class takes, over a sample of a data set's masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexer.datasets.base import Dataset
from retrieval.errors import DataError

#: Masks that are read, at most, where nobody says otherwise.
SAMPLE = 50


@dataclass(frozen=True)
class PixelShares:
    """Shares in 0..1 of all pixels of the masks that were read; together with ``unlabelled`` they are 1."""

    shares: tuple[float, ...]
    """Of each class, in column order."""
    images: tuple[int, ...]
    """In how many of the masks that were read each class occurs, in column order."""
    unlabelled: float
    read: int
    """Masks that were read; those that cannot be read are left out."""
    total: int
    """Images of the data set."""


def pixel_shares(dataset: Dataset, *, limit: int = SAMPLE) -> PixelShares:
    """Read at most ``limit`` masks, spread evenly over the data set, and count their pixels.

    Masks that are missing or cannot be read are passed over: whoever uses them will say so. Never raises.
    """
    counts = np.zeros(len(dataset.classes) + 1, dtype=np.int64)  # the last one: unlabelled, column -1
    images = np.zeros(len(dataset.classes), dtype=np.int64)
    read = 0
    for position in spread(len(dataset), limit):
        try:
            columns = dataset.read_mask(dataset.samples[position])
        except DataError:
            continue
        found = np.bincount((columns % len(counts)).ravel(), minlength=len(counts))
        counts += found
        images += found[:-1] > 0
        read += 1
    shares = (counts / max(int(counts.sum()), 1)).tolist()
    return PixelShares(tuple(shares[:-1]), tuple(images.tolist()), shares[-1], read, len(dataset))


def spread(count: int, limit: int) -> list[int]:
    """At most ``limit`` of the numbers 0..count-1, spread evenly, the first and the last among them."""
    if count <= limit:
        return list(range(count))
    return sorted({round(step * (count - 1) / max(limit - 1, 1)) for step in range(limit)})
