"""A part of a data set's images: a share or a number of them, drawn by a seed, or those that a file lists."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from indexer.datasets.base import Dataset, Sample, parse_ids
from indexer.seeds import generator_for
from retrieval.errors import ConfigError

_DRAW = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?:@(\d+))?")


@dataclass(frozen=True)
class Draw:
    """How many images are drawn, and by which seed."""

    count: int | None = None
    share: float | None = None
    seed: int = 0

    def of(self, images: int) -> int:
        """How many of so many images; a share is rounded, halves up, and gives one image at least."""
        if self.share is None:
            return min(self.count or 0, images)
        return min(max(1, math.floor(self.share * images + 0.5)), images)


def parse_draw(text: str) -> Draw | None:
    """``0.2`` (a share), ``10`` (a number), each with ``@SEED``; None for anything else, such as a file.

    Raises ConfigError for a share outside 0..1, or a number below 1.
    """
    match = _DRAW.fullmatch(text.strip())
    if match is None:
        return None
    number, seed = match[1], int(match[2] or 0)
    try:
        value = float(number)
    except ValueError:  # 1.2.3: a file may be called so
        return None
    if re.fullmatch(r"[-+]?\d+", number):
        if int(number) < 1:
            raise ConfigError(f"a subset of {number} images was asked for; give 1 or more, or a share")
        return Draw(count=int(number), seed=seed)
    if not 0 < value <= 1:
        raise ConfigError(
            f"a subset of {number} was asked for; give a share above 0 and up to 1.0, or a whole number"
        )
    return Draw(share=value, seed=seed)


def draw_samples(samples: Sequence[Sample], count: int, *, seed: int) -> list[Sample]:
    """``count`` of the samples, in their order: those with the smallest random numbers.

    A sample's number is a function of the seed and its id alone, so that a smaller choice is part of a larger
    one, and images added to a data set push out as few as they have to.
    """
    draws = {sample.id: generator_for(seed, "images", sample.id).random() for sample in samples}
    chosen = set(sorted(draws, key=draws.__getitem__)[:count])
    return [sample for sample in samples if sample.id in chosen]


def take_subset(dataset: Dataset, subset: str | Path) -> Dataset:
    """The samples that ``subset`` asks for: a share or a number as :func:`parse_draw`, or a file of ids.

    Raises ConfigError for a share or number out of range, DatasetError for a file that is missing or names an
    image that is not there.
    """
    draw = parse_draw(subset) if isinstance(subset, str) else None
    if draw is None:
        return dataset.select(parse_ids(Path(subset)))
    chosen = draw_samples(dataset.samples, draw.of(len(dataset)), seed=draw.seed)
    return replace(dataset, samples=tuple(chosen))
