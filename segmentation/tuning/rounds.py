"""Successive halving: many settings on few images, few on all; each unit's own choice knows nothing of it.

Three rounds. *Blocks*: every block, on a part of the images, with a few vectors that stand for all.
*Vectors*: the best block, on the whole memory and some queries: weights, metrics, widths, shrinkage, one
changed at a time. *Finals*: the leaders on all queries, and with them what costs more: refined masks and
shifted passes.

The procedure is followed once with all units (groups, or images alone), and once without each of them: what
it would have carried on without the unit is carried on too. So the expectation can score each unit under a
choice no round of which has seen it (:mod:`.expectation`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segmentation.tuning.scoring import Tally, miou_of
from segmentation.tuning.settings import NO_REDUCTION, Grid, Reduction, Setting, Vector

#: Vectors, and k and T of each, that a view of the units sends to the finals.
LEADERS, PAIRS = 2, 2


@dataclass(frozen=True, eq=False)
class Scored:
    """The settings of a round, and their tallies."""

    name: str
    settings: tuple[Setting, ...]
    tally: Tally
    """(S, U, C, 2), over the units."""

    def scores(self, unit: int | None) -> npt.NDArray[np.float64]:
        """mIoU (S,) of all units, or of all but one; -1 where nothing occurs."""
        total = self.tally.sum(axis=1)
        if unit is not None:
            total = total - self.tally[:, unit]
        return np.nan_to_num(miou_of(total), nan=-1.0)


def views(units: int) -> list[int | None]:
    """All units, and all but each one, which is named."""
    return [None, *range(units)]


def block_settings(grid: Grid) -> list[Setting]:
    """Of the first round: each block with every weight, and with the middle metric."""
    found: list[Setting] = []
    for block in grid.blocks:
        found += of_vectors(grid, _plain_vectors(grid, block) + _centre_vectors(grid, block))
    return found


def vector_settings(
    grid: Grid, block: int, *, plain: Iterable[float], joined: Iterable[float]
) -> list[Setting]:
    """Of the second round: a block's vectors as they are, with every metric, and with metric and gradient.

    ``plain`` are gradient weights without a metric, ``joined`` those with the middle one.
    """
    vectors = [vector for vector in _plain_vectors(grid, block) if vector.weight in plain]
    vectors += [Vector(block, min(grid.weights), reduction) for reduction in grid.reductions]
    if grid.centre is not None:
        vectors += [Vector(block, weight, grid.centre) for weight in joined if weight]
    return of_vectors(grid, dict.fromkeys(vectors))


def of_vectors(grid: Grid, vectors: Iterable[Vector]) -> list[Setting]:
    """Every k and T of some vectors."""
    return [setting for vector in vectors for setting in grid.of(vector)]


def best_of_blocks(scored: Scored, unit: int | None) -> tuple[int, set[float]]:
    """The best block in a view, and of its weights the best gradient's and the lowest."""
    scores = scored.scores(unit)
    block = scored.settings[int(scores.argmax())].block
    plain = [
        (float(score), setting.weight)
        for score, setting in zip(scores, scored.settings, strict=True)
        if setting.block == block and setting.weight and setting.reduction == NO_REDUCTION
    ]
    return block, {max(plain)[1]} if plain else set()


def finalists(grid: Grid, scored: Scored, unit: int | None) -> list[Setting]:
    """What a view sends to the finals: its leaders, refined too, and the first with shifted passes."""
    scores = scored.scores(unit)
    order = np.argsort(-scores, kind="stable")
    pairs: dict[Vector, list[Setting]] = {}
    for setting in (scored.settings[number] for number in order):
        pairs.setdefault(setting.vector, []).append(setting)
    found: list[Setting] = []
    for place, best in enumerate(list(pairs.values())[:LEADERS]):
        shifts = grid.shifts if place == 0 else [1]
        found += [
            replace(setting, shifts=n, refine=refine)
            for n in shifts for refine in grid.refines
            for setting in best[: PAIRS if n == 1 else 1]
        ]  # fmt: skip
    return found


def in_views(
    units: int, chosen: Callable[[int | None], Sequence[Setting]]
) -> tuple[list[Setting], npt.NDArray[np.bool_]]:
    """The settings that any view chose, without repeats, and which view chose which: (1 + units, S) bool."""
    found = [chosen(unit) for unit in views(units)]
    settings = list(dict.fromkeys(setting for of_view in found for setting in of_view))
    places = {setting: place for place, setting in enumerate(settings)}
    allowed = np.zeros((len(found), len(settings)), dtype=bool)
    for view, of_view in enumerate(found):
        allowed[view, [places[setting] for setting in of_view]] = True
    return settings, allowed


def _plain_vectors(grid: Grid, block: int) -> list[Vector]:
    if NO_REDUCTION not in grid.reductions:
        return []
    return [Vector(block, weight) for weight in grid.weights]


def _centre_vectors(grid: Grid, block: int) -> list[Vector]:
    centre: Reduction | None = grid.centre
    return [] if centre is None else [Vector(block, min(grid.weights), centre)]
