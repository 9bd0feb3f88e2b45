"""A scan with rounded numbers finds what comparing everything finds, and no row that is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segmentation.tuning import scan
from segmentation.tuning.rows import Parts
from segmentation.tuning.scan import BankScan, low_precision

DTYPES = [torch.bfloat16, torch.float32]
ROWS, QUERIES = 1500, 40


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", 256)
    monkeypatch.setattr(scan, "QUERIES", 16)


def clustered(rows: int, widths: tuple[int, ...], seed: int, spread: float = 0.5) -> Parts:
    """Unit vectors around a few centres, float16."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for place, width in enumerate(widths):
        centres = torch.randn(12, width, generator=torch.Generator().manual_seed(90 + place))
        near = centres[torch.randint(0, 12, (rows,), generator=generator)]
        noise = spread * torch.randn(rows, width, generator=generator)
        parts.append(F.normalize(near + noise, dim=1).half())
    return tuple(parts)


def similarities(query: Parts, bank: Parts, weight: float) -> np.ndarray:
    cosines = [q.double().numpy() @ b.double().numpy().T for q, b in zip(query, bank, strict=True)]
    return cosines[0] if weight == 0 else (cosines[0] + weight * cosines[1]) / (1 + weight)


def widened(parts: Parts) -> Parts:
    return tuple(part.float() for part in parts)


def assert_nearest(
    found: tuple[np.ndarray, np.ndarray], expected: np.ndarray, hidden: np.ndarray, k: int
) -> None:
    """Ties count as equal: similarities are compared, and that each is the one of its row."""
    best, where = found
    assert best.shape == where.shape == (len(expected), k)
    assert not hidden[where].any()
    assert all(len(set(row)) == k for row in where.tolist())
    assert np.allclose(best, np.take_along_axis(expected, where, axis=1), atol=1e-6)
    allowed = np.where(hidden, -np.inf, expected)
    assert np.allclose(np.sort(best, axis=1), np.sort(allowed, axis=1)[:, -k:], atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("widths", "weight"), [((24,), 0.0), ((24, 40), 0.0), ((24, 40), 0.5)])
@pytest.mark.parametrize("k", [1, 9, 30])
def test_it_finds_what_comparing_everything_finds(
    dtype: torch.dtype, widths: tuple[int, ...], weight: float, k: int
) -> None:
    bank, query = clustered(ROWS, widths, 1), clustered(QUERIES, widths, 2)
    searched = BankScan(bank, weight, dtype=dtype)
    expected = similarities(query, bank, weight)
    for seed in (3, 4):  # another group each time: what was left out before is there again
        hidden = np.repeat(np.random.default_rng(seed).random(30) < 0.3, ROWS // 30)
        found = searched.nearest(widened(query), hidden, k)
        assert_nearest((found.best.numpy(), found.where.numpy()), expected, hidden, k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_scan_proves_nearly_all_by_itself(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, query = clustered(ROWS, (24,), 1), clustered(QUERIES, (24,), 2)
    searched, again = BankScan(bank, 0, dtype=dtype), []
    real = searched._compare_all
    monkeypatch.setattr(
        searched, "_compare_all", lambda *given: again.append(len(given[0][0])) or real(*given)
    )
    searched.nearest(widened(query), np.zeros(ROWS, bool), 9)
    assert sum(again) <= QUERIES // 10


@pytest.mark.parametrize("dtype", DTYPES)
def test_twins_in_the_own_group_never_vote(dtype: torch.dtype) -> None:
    query = clustered(QUERIES, (24,), 2)
    bank = (clustered(ROWS, (24,), 1)[0].clone(),)
    groups = np.arange(ROWS) // 100
    for group in (4, 11):
        bank[0][group * 100 : group * 100 + QUERIES] = query[0]
    searched = BankScan(bank, 0, dtype=dtype)
    both = searched.nearest(widened(query), np.isin(groups, (4, 11)), 9)
    one = searched.nearest(widened(query), groups == 4, 9)
    assert float(both.best.max()) < 0.999
    twins = np.take_along_axis(one.where.numpy(), one.best.numpy().argmax(axis=1)[:, None], axis=1)
    assert twins.ravel().tolist() == list(range(1100, 1100 + QUERIES))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shown", [0, 5, 40])
def test_where_nearly_all_is_left_out_the_rest_is_found(dtype: torch.dtype, shown: int) -> None:
    bank, query = clustered(ROWS, (24,), 1), clustered(QUERIES, (24,), 2)
    hidden = np.ones(ROWS, bool)
    hidden[700 : 700 + shown] = False
    found = BankScan(bank, 0, dtype=dtype).nearest(widened(query), hidden, 9)
    near = found.neighbors(np.ones((ROWS, 3), np.uint8))
    count = min(9, shown)
    assert (near.ids[:, count:] == -1).all() and not near.labels[:, count:].any()
    expected = np.sort(similarities(query, bank, 0)[:, 700 : 700 + shown], axis=1)[:, ::-1][:, :count]
    assert np.allclose(near.similarities[:, :count], expected, atol=1e-6)
    assert ((near.ids[:, :count] >= 700) & (near.ids[:, :count] < 700 + shown)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [0.0, 1e-3])
def test_a_bank_that_hardly_differs_is_compared_with_care(
    dtype: torch.dtype, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MOST_LEFT", 100)
    bank, query = clustered(ROWS, (24,), 1, spread), clustered(QUERIES, (24,), 2, spread)
    hidden = np.arange(ROWS) < 200
    found = BankScan(bank, 0, dtype=dtype).nearest(widened(query), hidden, 9)
    expected = similarities(query, bank, 0)
    assert_nearest((found.best.numpy(), found.where.numpy()), expected, hidden, 9)


def test_a_small_bank_is_compared_at_once() -> None:
    bank, query = clustered(20, (24,), 1), clustered(QUERIES, (24,), 2)
    found = BankScan(bank, 0).nearest(widened(query), np.zeros(20, bool), 30)
    near = found.neighbors(np.ones((20, 3), np.uint8))
    assert near.ids.shape == (QUERIES, 20)
    expected = np.sort(similarities(query, bank, 0), axis=1)[:, ::-1]
    assert np.allclose(near.similarities, expected, atol=1e-6)


def test_the_numbers_are_those_that_the_processor_is_fast_with(monkeypatch: pytest.MonkeyPatch) -> None:
    for pays, expected in [(False, torch.float32), (True, torch.bfloat16)]:
        monkeypatch.setattr(scan, "bfloat16_product_pays", lambda pays=pays: pays)
        assert low_precision() is expected
