"""Neighbours of an image's patches among the rows of other images, or of other groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.engines.exact_search import in_order, merge_nearest
from retrieval.neighbors import NO_NEIGHBOR, Neighbors
from segmentation.tuning.rows import Bank, Query, channels, mix

#: Rows of the bank compared at a time.
CHUNK = 8192


@dataclass
class Nearest:
    """The best ``k`` rows so far of every query: similarities and positions, (Q, k) each."""

    best: Tensor
    where: Tensor
    k: int

    @classmethod
    def none(cls, queries: int, k: int, device: torch.device) -> Nearest:
        """Of no row yet."""
        where = torch.empty(queries, 0, dtype=torch.int64, device=device)
        return cls(torch.empty(queries, 0, device=device), where, k)

    def update(self, similarities: Tensor, start: int) -> None:
        """Look at more rows, from position ``start`` on: (Q, n), -inf for those that are left out."""
        self.best, self.where = merge_nearest(self.best, self.where, similarities, start=start, k=self.k)

    def neighbors(self, labels: npt.NDArray[np.uint8]) -> Neighbors:
        """What was found, nearest first, with its labels of (N, C) uint8."""
        best, where = (found.cpu().numpy() for found in in_order(self.best, self.where))
        found = labels[where]
        missing = np.isneginf(best)
        found[missing] = 0
        return Neighbors(np.where(missing, NO_NEIGHBOR, where), best, found)


@torch.inference_mode()
def neighbors_left_out(
    query: Query,
    bank: Bank,
    out: Sequence[npt.NDArray[np.int64]],
    weights: Sequence[float],
    k: int,
    *,
    device: torch.device,
) -> list[list[Neighbors]]:
    """The ``k`` nearest rows of each patch for every rule of ``out`` and every gradient weight.

    A rule is the group of each image, (images,) int64: the rows of all images in the query's group
    are left out. The similarity matrix of the image is made once, chunk by chunk. Returns a list a
    rule of a list a weight; fewer than ``k`` rows are padded as :class:`Neighbors` says.
    """
    ours = tuple(part.to(device).float() for part in query.parts)
    hidden = [torch.from_numpy(codes[bank.images] == codes[query.image]).to(device) for codes in out]
    tops = [[Nearest.none(len(ours[0]), k, device) for _ in weights] for _ in out]
    for start in range(0, len(bank), CHUNK):
        rows = slice(start, start + CHUNK)
        embedding, gradient = channels(ours, tuple(part[rows].to(device).float() for part in bank.parts))
        masks = [mask[rows] for mask in hidden]
        for number, weight in enumerate(weights):
            similarities = mix(embedding, gradient, weight)
            for top, mask in zip(tops, masks, strict=True):
                top[number].update(_without(similarities, mask), start)
    return [[top.neighbors(bank.labels) for top in of_rule] for of_rule in tops]


@torch.inference_mode()
def nearest_left_out(
    vectors: Tensor,
    rows: Tensor,
    labels: npt.NDArray[np.uint8],
    hidden: npt.NDArray[np.bool_],
    k: int,
    *,
    device: torch.device,
) -> Neighbors:
    """The ``k`` nearest of ``rows`` (N, D) to ``vectors`` (Q, D), float32, that are not ``hidden`` (N,)."""
    ours, mask = vectors.to(device), torch.from_numpy(hidden)
    top = Nearest.none(len(ours), k, device)
    for start in range(0, len(rows), CHUNK):
        here = mask[start : start + CHUNK]
        if not bool(here.all()):
            similarities = ours @ rows[start : start + CHUNK].to(device).T
            top.update(_without(similarities, here.to(device)), start)
    return top.neighbors(labels)


def _without(similarities: Tensor, hidden: Tensor) -> Tensor:
    return similarities.masked_fill(hidden, -torch.inf) if bool(hidden.any()) else similarities
