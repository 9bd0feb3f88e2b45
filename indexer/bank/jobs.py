"""The work of a memory bank, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.datasets import Sample


@dataclass(frozen=True)
class BankJob:
    """One image in one augmentation epoch; ``number`` is its image number in the index."""

    number: int
    epoch: int
    sample: Sample


def jobs_of(samples: Sequence[Sample], epochs: int) -> list[BankJob]:
    """Every image in every epoch, epoch by epoch."""
    return [
        BankJob(epoch * len(samples) + i, epoch, sample)
        for epoch in range(epochs)
        for i, sample in enumerate(samples)
    ]
