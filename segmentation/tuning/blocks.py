"""The embeddings of several blocks of a part of the memory, from one pass of each image through the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.features.cut import Cut
from indexer.features.fungi import FungiExtractor
from indexer.recipe import override_recipe
from segmentation.tuning.described import NO_REDUCTION_KEYS, Described, Memory
from segmentation.tuning.reduced import FoldSums, Reducer
from segmentation.tuning.rows import collect


def describe_blocks(memory: Memory, blocks: Sequence[int], *, measured: bool) -> dict[int, Described]:
    """Each block's patches as :meth:`Described.of` has them without gradients.

    ``blocks`` are two or more numbers, rising; the deepest decides what a pass costs. Raises as
    :func:`rows.collect`.
    """
    chosen = ",".join(str(block) for block in blocks)
    overrides = [f"backbone.blocks=[{chosen}]", f"backbone.block={blocks[-1]}", "features.kind=embeddings"]
    extractor = FungiExtractor.create(override_recipe(memory.recipe, [*overrides, *NO_REDUCTION_KEYS]))
    width = extractor.embedding_width // len(blocks)

    def describe(images: Tensor | Cut) -> tuple[Tensor, ...]:
        (joined,) = extractor.feature_parts(images)  # unit vectors side by side, as one unit vector
        return torch.split(joined * len(blocks) ** 0.5, width, dim=-1)

    sums = [FoldSums(memory.rules, len(memory.dataset.classes)) for _ in blocks]
    bank, queries = collect(
        extractor,
        memory.dataset,
        memory.queries,
        total=memory.total,
        sums=_EachBlock(sums) if measured else None,
        progress=memory.progress,
        describe=describe,
        label=f"blocks {chosen}: embeddings",
    )
    found = {}
    for place, (block, its_sums) in enumerate(zip(blocks, sums, strict=True)):
        own = replace(bank, parts=bank.parts[place : place + 1])
        asked = [replace(query, parts=query.parts[place : place + 1]) for query in queries]
        found[block] = Described(memory, extractor, own, {1: asked}, Reducer(own, its_sums))
    return found


class _EachBlock:
    """Gives the patches of an image, a part a block, to the sums of each block."""

    def __init__(self, sums: Sequence[FoldSums]) -> None:
        self._sums = sums

    def add(
        self, image: int, parts: Sequence[npt.NDArray[np.float32]], shares: npt.NDArray[np.float64]
    ) -> None:
        """As :meth:`FoldSums.add`, of as many parts as there are blocks."""
        for sums, part in zip(self._sums, parts, strict=True):
            sums.add(image, [part], shares)
