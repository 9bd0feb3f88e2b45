"""Many labelled patches -> fewer prototypes that stand for them. Arrays in, arrays out.

Rows are first cut into *cells*: one dominant class each, and neighbours in feature space (k-means on a
sample). Each cell is given a number of prototypes by the importance of its rows, which is larger for rare
classes, and Lloyd's k-means merges its rows into them. Distance counts label as well as feature,

    |x - x'|^2 + label_scale^2 |l - l'|^2        x: unit vector, l: soft label that sums to 1

so that a mixed patch of a class border merges with patches of the same mixture and never vanishes in its
neighbourhood's majority. Importance of a row is sum_c l_c f_c^-p, f_c: the class's share of the bank, where p
is one number for how many prototypes there are, and another for how much they count
(``retrieval.edit.compact``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

#: Passes of k-means: within a cell, where more change little, and over the sample that places the cells.
MERGE_PASSES, CELL_PASSES = 6, 10

#: Rows compared with all centres at a time.
_CHUNK = 8192


@dataclass(frozen=True)
class Prototypes:
    """Unit ``vectors`` (m, D), ``labels`` (m, C) that sum to 1, ``multiplicity`` (m,), all float32.

    ``central`` (m,) int64 is each prototype's nearest member, as a position in the rows given.
    """

    vectors: Tensor
    labels: Tensor
    multiplicity: Tensor
    central: npt.NDArray[np.int64]


def rarity(mass: npt.NDArray[np.float64], exponent: float) -> npt.NDArray[np.float64]:
    """How much each class counts by its mass in the bank: (C,) -> (C,), 1 for a class that is all of it."""
    shares = mass / max(float(mass.sum()), 1e-12)
    counts: npt.NDArray[np.float64] = np.where(shares > 0, np.maximum(shares, 1e-12) ** -exponent, 0.0)
    return counts


def share_out(
    importance: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], total: int
) -> npt.NDArray[np.int64]:
    """Prototypes of each cell, about ``total`` in all: by importance, at least 1, at most the cell's rows."""
    budget = np.minimum(1, sizes)
    full = budget == sizes
    while not full.all():
        left = max(total - int(sizes[full].sum()), 0)
        wanted = np.rint(importance * (left / max(float(importance[~full].sum()), 1e-300)))
        budget = np.where(full, sizes, np.clip(wanted, 1, sizes)).astype(np.int64)
        if ((budget == sizes) == full).all():
            break
        full = budget == sizes
    return budget


def lloyd(
    points: Tensor, k: int, *, passes: int, generator: torch.Generator, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """k-means from random points: (n, D) float32 -> the centre of each point (n,) int64, centres (k, D).

    A centre that loses all its points is set on a random one; after the last pass some may have none.
    ``weights`` (n,) count points several times.
    """
    centres = points[torch.randperm(len(points), generator=generator)[:k]].clone()
    counted = torch.ones(len(points)) if weights is None else weights
    nearest = nearest_centres(points, centres)
    for _ in range(passes):
        sums = torch.zeros_like(centres).index_add_(0, nearest, points * counted[:, None])
        mass = torch.zeros(len(centres)).index_add_(0, nearest, counted)
        centres = sums / mass.clamp(min=1e-12)[:, None]
        empty = mass == 0
        if empty.any():
            fresh = torch.randint(len(points), (int(empty.sum()),), generator=generator)
            centres[empty] = points[fresh]
        nearest = nearest_centres(points, centres)
    return nearest, centres


def nearest_centres(points: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre (k, D) of each point (n, D), (n,) int64."""
    norms = centres.square().sum(dim=1)
    found = torch.empty(len(points), dtype=torch.int64)
    for start in range(0, len(points), _CHUNK):
        rows = slice(start, start + _CHUNK)
        found[rows] = torch.addmm(norms, points[rows], centres.T, alpha=-2).argmin(dim=1)
    return found


def make_prototypes(
    vectors: Tensor,
    labels: Tensor,
    counts: Tensor,
    worth: Tensor,
    k: int,
    *,
    label_scale: float,
    generator: torch.Generator,
) -> Prototypes:
    """At most ``k`` prototypes of rows: vectors (n, D), labels (n, C) that sum to 1, both float32.

    ``counts`` (n,) says how many patches a row stands for, which weighs the means; ``worth`` (n,) is what
    it adds to its prototype's weight. A prototype's vector is its members' mean direction.
    """
    nearest = torch.arange(len(vectors))
    if k < len(vectors):
        points = torch.cat([vectors, label_scale * labels], dim=1)
        found, _ = lloyd(points, k, passes=MERGE_PASSES, generator=generator, weights=counts)
        nearest = torch.from_numpy(np.unique(found.numpy(), return_inverse=True)[1])  # leaves out empty ones
    size = int(nearest.max()) + 1

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(size, *values.shape[1:]).index_add_(0, nearest, values)

    means = F.normalize(summed(vectors * counts[:, None]), dim=1)
    shares = F.normalize(summed(labels * counts[:, None]), p=1.0, dim=1)
    fit = (vectors * means[nearest]).sum(dim=1)
    order = np.lexsort((-fit.numpy(), nearest.numpy()))
    first = np.unique(nearest.numpy()[order], return_index=True)[1]
    return Prototypes(means, shares, summed(worth), order[first].astype(np.int64))
