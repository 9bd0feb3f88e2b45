"""Neighbours without the query's own image or group, against a full sort in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from indexer.datasets import Sample
from indexer.datasets.labels import NoLabels
from indexer.images import make_geometry
from segmentation.tuning import leave_out
from segmentation.tuning.leave_out import neighbors_left_out
from segmentation.tuning.rows import Bank, Parts, Query

IMAGES, EACH = 6, 7
GROUPS = np.array([0, 1, 0, 2, 1, 2])
ALONE = np.arange(IMAGES)
CPU = torch.device("cpu")


def random_parts(rows: int, count: int, seed: int) -> Parts:
    generator = torch.Generator().manual_seed(seed)
    return tuple(F.normalize(torch.randn(rows, 8, generator=generator), dim=-1).half() for _ in range(count))


def make_bank(parts: Parts) -> Bank:
    labels = np.random.default_rng(0).integers(0, 256, (IMAGES * EACH, 3)).astype(np.uint8)
    return Bank(parts, labels, np.repeat(ALONE, EACH))


def make_query(parts: Parts, image: int = 2) -> Query:
    geometry = make_geometry((32, 32), (32, 32), fit="stretch")
    return Query(image, Sample("q", Path("q.png"), NoLabels(Path("q.png"))), parts, geometry)


def similarity(query: Parts, bank: Parts, weight: float) -> np.ndarray:
    cosines = [q.float().numpy() @ b.float().numpy().T for q, b in zip(query, bank, strict=True)]
    gradient = np.prod(cosines[1:], axis=0)
    return (cosines[0] + weight * gradient) / (1 + weight)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_they_are_the_nearest_rows_of_other_groups(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leave_out, "CHUNK", 10)
    bank, query = make_bank(random_parts(IMAGES * EACH, count, 1)), make_query(random_parts(5, count, 2))
    weights = [0.0] if count == 1 else [0.0, 0.3, 2.0]
    found = neighbors_left_out(query, bank, [GROUPS, ALONE], weights, 9, device=CPU)
    for codes, of_rule in zip([GROUPS, ALONE], found, strict=True):
        allowed = codes[bank.images] != codes[query.image]
        for weight, near in zip(weights, of_rule, strict=True):
            expected = np.where(allowed, similarity(query.parts, bank.parts, weight), -np.inf)
            order = np.argsort(-expected, axis=1)[:, :9]
            assert near.ids.tolist() == order.tolist()
            assert np.allclose(near.similarities, np.take_along_axis(expected, order, axis=1), atol=1e-5)
            assert np.array_equal(near.labels, bank.labels[order])


def test_a_twin_in_the_own_group_never_votes() -> None:
    bank = make_bank(random_parts(IMAGES * EACH, 2, 3))
    for image in (0, 2):  # the query is image 2, of the same group as image 0: both hold exact twins of it
        for part, own in zip(bank.parts, random_parts(EACH, 2, 4), strict=True):
            part[image * EACH : (image + 1) * EACH] = own
    query = make_query(random_parts(EACH, 2, 4))
    ((grouped,), (alone,)) = neighbors_left_out(query, bank, [GROUPS, ALONE], [1.0], 100, device=CPU)
    assert not set(grouped.ids.ravel().tolist()) & {*range(EACH), *range(2 * EACH, 3 * EACH)}
    assert grouped.similarities.max() < 0.99
    # without groups the twin of the other image is there, and the own one still is not
    assert alone.ids[:, 0].tolist() == list(range(EACH))
    assert not set(alone.ids.ravel().tolist()) & set(range(2 * EACH, 3 * EACH))


def test_rows_that_are_missing_are_marked() -> None:
    bank, query = make_bank(random_parts(IMAGES * EACH, 1, 5)), make_query(random_parts(3, 1, 6))
    ((near,),) = neighbors_left_out(query, bank, [GROUPS], [0.0], 100, device=CPU)
    allowed = int((GROUPS[bank.images] != GROUPS[2]).sum())
    assert (near.ids[:, :allowed] >= 0).all()
    assert (near.ids[:, allowed:] == -1).all() and np.isneginf(near.similarities[:, allowed:]).all()
    assert not near.labels[:, allowed:].any()
