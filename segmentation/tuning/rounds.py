"""Successive halving: many settings on few images, few on all; each unit's own choice knows nothing of it.

Three rounds. *Blocks*: every block's embeddings, on a part of the images.
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
from segmentation.tuning.settings import NO_REDUCTION, Grid, Setting, Vector

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
    """Of the first round: each block's embeddings, as they are and with the middle metric."""
    kinds = [kind for kind in (NO_REDUCTION, grid.centre) if kind in grid.reductions]
    return of_vectors(grid, [Vector(block, 0.0, kind) for block in grid.blocks for kind in kinds])


def vector_settings(grid: Grid, block: int) -> list[Setting]:
    """Of the second round: a block's vectors as they are with every gradient weight, those of the lowest with
    every metric, and the middle weight's with the middle metric.
    """
    vectors = [Vector(block, weight) for weight in grid.weights if NO_REDUCTION in grid.reductions]
    vectors += [Vector(block, min(grid.weights), reduction) for reduction in grid.reductions]
    if grid.centre is not None and grid.middle_weight is not None:
        vectors.append(Vector(block, grid.middle_weight, grid.centre))
    return of_vectors(grid, dict.fromkeys(vectors))


def of_vectors(grid: Grid, vectors: Iterable[Vector]) -> list[Setting]:
    """Every k and T of some vectors."""
    return [setting for vector in vectors for setting in grid.of(vector)]


def best_block(scored: Scored, unit: int | None) -> int:
    """The best block in a view."""
    return scored.settings[int(scored.scores(unit).argmax())].block


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
