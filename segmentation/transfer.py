"""Label transfer: from the neighbours of a patch to its class distribution. Pure functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from retrieval.errors import ConfigError
from retrieval.neighbors import NO_NEIGHBOR, Neighbors

#: Labels widened to float32 at a time, in numbers: what bounds the memory of a transfer.
CHUNK = 16_000_000


def vote_shares(neighbors: Neighbors, *, temperature: float) -> npt.NDArray[np.float32]:
    """How much each neighbour's label counts: softmax(similarity / temperature) over the neighbours.

    A row that stands for w patches counts as if it were there w times: its term of the softmax is
    ``w exp(similarity / temperature)``. Returns (Q, K) float32; each row sums to 1. A missing
    neighbour (id -1) weighs 0, and a query without any neighbour has a row of zeros. Raises
    ConfigError for a temperature that is not positive. Source: Balazevic et al., NeurIPS 2023,
    section 3 (cross-attention over the memory); what a row stands for is ours.
    """
    if not temperature > 0:
        raise ConfigError(f"the temperature is {temperature}, but it has to be above 0 (0.02 is usual)")
    valid = neighbors.ids != NO_NEIGHBOR
    if neighbors.k == 0:
        return np.zeros(neighbors.ids.shape, dtype=np.float32)
    scaled = np.where(valid, neighbors.similarities.astype(np.float64), -np.inf) / temperature
    if neighbors.multiplicity is not None:
        scaled += np.log(neighbors.multiplicity, where=valid, out=np.zeros_like(scaled))
    peak = scaled.max(axis=1, keepdims=True)
    shares = np.exp(scaled - np.where(np.isfinite(peak), peak, 0.0))
    total = shares.sum(axis=1, keepdims=True)
    return (shares / np.where(total > 0, total, 1.0)).astype(np.float32)


def blend_labels(labels: npt.NDArray[np.uint8], votes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The class distribution of each query: its neighbours' soft labels, each with its share of the vote.

    ``label(q) = sum_i vote_i l_i`` with every ``l_i`` scaled to sum 1 first (labels are stored as bytes,
    and their rounding must not favour anyone): labels (Q, K, C) uint8, votes (Q, K) -> (Q, C) float32.
    Each row sums to 1, or is all zeros where a query has no neighbour.
    """
    queries, k, classes = labels.shape
    blended = np.zeros((queries, classes), dtype=np.float32)
    step = max(1, CHUNK // max(1, k * classes))
    for start in range(0, queries, step):
        rows = slice(start, start + step)
        mass = labels[rows].sum(axis=2, dtype=np.int64)  # (q, K)
        scale = votes[rows] / np.maximum(mass, 1)
        part = torch.from_numpy(scale.astype(np.float32))[:, None, :]  # (q, 1, K)
        soft = torch.from_numpy(np.ascontiguousarray(labels[rows])).to(torch.float32)  # (q, K, C)
        blended[rows] = torch.bmm(part, soft)[:, 0].numpy()
    total = blended.sum(axis=1, keepdims=True)
    np.divide(blended, total, out=blended, where=total > 0)
    return blended
