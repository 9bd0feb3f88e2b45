"""What settings cost: milliseconds an image, measured in the run, and bytes a patch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from retrieval.neighbors import Neighbors
from segmentation.tuning.described import Described, embeddings_alone
from segmentation.tuning.leave_out import nearest_left_out
from segmentation.tuning.reduced import reduced
from segmentation.tuning.rows import joined
from segmentation.tuning.settings import Setting, Vector

Key = TypeVar("Key")

#: How often each piece is timed, in turn with the others; the median counts.
REPEATS = 3
#: Bytes of a stored number: float16.
BYTES = 2


@dataclass(frozen=True)
class Cost:
    """Of one image, in milliseconds; of one patch of the memory, in bytes."""

    features: float
    search: float
    """Of all its patches among all rows of the bank, by an exact scan."""
    labels: float
    """From neighbours to pixels, refinement included."""
    patch_bytes: int

    @property
    def total(self) -> float:
        """Milliseconds an image."""
        return self.features + self.search + self.labels


#: Rows of a bank that are searched to see how long all would take, about.
_ROWS = 32_768

#: Measures what some settings cost, with the blocks that they are of.
Meter = Callable[[Mapping[int, Described], Sequence[Setting]], dict[Setting, Cost]]


def measure(blocks: Mapping[int, Described], settings: Sequence[Setting]) -> dict[Setting, Cost]:
    """What each setting costs: its pieces timed, the same piece once for all settings that have it.

    n x n shifted passes count as n x n times the features and the search of one; k is the largest.
    """
    k = max(setting.k for setting in settings)
    features: dict[tuple[int, bool], Callable[[], object]] = {}
    search: dict[Vector, Callable[[], object]] = {}
    labels: dict[tuple[int, int, str], Callable[[], object]] = {}
    widths: dict[Vector, int] = {}
    for setting in settings:
        block, vector = blocks[setting.block], setting.vector
        features.setdefault((setting.block, bool(setting.weight)), _describing(block, bool(setting.weight)))
        if vector not in search:
            search[vector], widths[vector] = _searching(block, vector, k)
        key = setting.block, setting.shifts, setting.refine
        labels.setdefault(key, _labelling(block, setting, k))
    describing, searching, labelling = _timed(features), _timed(search), _timed(labels)
    return {
        s: Cost(
            describing[s.block, bool(s.weight)] * s.shifts**2,
            searching[s.vector] * s.shifts**2 * _step(blocks[s.block]),
            labelling[s.block, s.shifts, s.refine],
            BYTES * widths[s.vector],
        )
        for s in settings
    }


def _timed(pieces: Mapping[Key, Callable[[], object]]) -> dict[Key, float]:
    """Milliseconds of each piece, after one run that does not count."""
    spent: dict[Key, list[float]] = {key: [] for key in pieces}
    for _ in range(1 + REPEATS):
        for key, piece in pieces.items():
            start = time.perf_counter()
            piece()
            spent[key].append(1000 * (time.perf_counter() - start))
    return {key: float(np.median(times[1:])) for key, times in spent.items()}


def _describing(block: Described, gradients: bool) -> Callable[[], object]:
    extractor = block.extractor if gradients else embeddings_alone(block.extractor)
    image, _ = block.memory.dataset.read(block.queries[1][0].sample)

    def describe() -> object:
        pixels, _ = extractor.prepare(image)
        return [part.cpu() for part in extractor.feature_parts(pixels[None])]

    return describe


def _searching(block: Described, vector: Vector, k: int) -> tuple[Callable[[], object], int]:
    """The search of an image's patches in some of the bank's rows, and the width of its vectors."""
    query, device, weight = block.queries[1][0], block.extractor.backbone.device, vector.weight
    some = slice(None, None, _step(block))
    parts, labels = tuple(part[some] for part in block.bank.parts), block.bank.labels[some]
    nothing = np.zeros(len(labels), dtype=bool)
    if vector.reduction.kind != "none":
        fold = block.reducer.folds_of(0, block.queries[1])[0]
        fitted = block.reducer.fit(0, fold, weight, vector.reduction)
        rows = reduced(parts, weight, fitted)

        def search() -> object:
            ours = reduced(query.parts, weight, fitted)
            return nearest_left_out(ours, rows, labels, nothing, k, device=device)

        return search, rows.shape[1]
    product = weight and len(parts) == 3  # embedding, gradient and activation side by side
    rows = (torch.cat(parts, dim=1) if product else joined(parts, weight)).float()
    ours = (torch.cat(query.parts, dim=1) if product else joined(query.parts, weight)).float()
    return lambda: nearest_left_out(ours, rows, labels, nothing, k, device=device), rows.shape[1]


def _step(block: Described) -> int:
    """Every how many rows one is searched to see how long all would take."""
    return max(1, len(block.bank) // _ROWS)


def _labelling(block: Described, setting: Setting, k: int) -> Callable[[], object]:
    """From neighbours to the mask at the photo's own size; which neighbours does not matter to the time."""
    query = block.seen(setting.shifts)[0]
    scene = block.scene(query, photo=True, pixels=2**62)
    bank, generator = block.bank, np.random.default_rng(0)
    ids = generator.integers(0, len(bank), (len(query.parts[0]), min(k, len(bank))))
    near = Neighbors(ids, generator.random(ids.shape, dtype=np.float32), bank.labels[ids])
    transfer = block.memory.recipe.transfer.model_copy(update={"refine": setting.refine})
    scene = replace(scene, truth=np.full_like(scene.truth, -1))

    def label() -> object:
        return scene.confusion(scene.shares(near, temperature=setting.temperature), transfer)

    return label
