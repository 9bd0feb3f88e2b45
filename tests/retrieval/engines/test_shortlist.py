"""Exact search by a bfloat16 copy of the bank finds what float32 over all rows finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.engines import exact_search, shortlist
from retrieval.engines.exact_search import ExactEngine
from retrieval.similarity import Cosine, DirectSimilarity, GradientProduct
from retrieval.store.commit import IndexFiles

K = 5
#: Engines to close behind a test.
opened: list[ExactEngine] = []
THREE = GradientProduct(16, 12, 8, 0.5)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """bfloat16 is taken to pay, and some hundred rows are a large bank of several parts."""
    monkeypatch.setattr(exact_search, "bfloat16_product_pays", lambda: True)
    monkeypatch.setattr(exact_search, "_FEWEST_QUERIES", 1)
    monkeypatch.setattr(shortlist, "_ROWS", 1000)
    monkeypatch.setattr(shortlist, "_QUERIES", 7)
    yield
    while opened:
        opened.pop().close()


def unit(vectors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)


def rows_of(kind: str, count: int, width: int, seed: int) -> npt.NDArray[np.float32]:
    """Vectors as they come: spread, about one mean, in tight clusters, with one large number, doubled."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(count, width))
    if kind == "about a mean":
        noise = noise * 0.3 + rng.normal(size=width) * 2
    elif kind == "clusters":
        noise = noise * 0.01 + rng.normal(size=(10, width))[rng.integers(10, size=count)]
    elif kind == "spikes":
        noise = noise * 0.05
        noise[np.arange(count), rng.integers(width, size=count)] += 3
    elif kind == "doubles":
        noise = noise[rng.integers(max(1, count // 4), size=count)]
    return unit(noise)


def filled(
    folder: Path, similarity: DirectSimilarity, rows: npt.NDArray[np.float32], dtype: str = "float32"
) -> ExactEngine:
    folder.mkdir(exist_ok=True)
    engine = ExactEngine.create(IndexFiles(folder, None), similarity, dtype=dtype)
    engine.add(rows)
    opened.append(engine)
    return engine


def agrees(
    engine: ExactEngine,
    queries: npt.NDArray[np.float32],
    allowed: npt.NDArray[np.bool_] | None = None,
    k: int = K,
) -> None:
    """What the engine finds is as similar, row by row, as the best of all rows in float64."""
    similarities, ids = engine.search(queries, k, allowed)
    stored = torch.from_numpy(engine.vectors(np.arange(len(engine)))).double()
    exact = engine._similarity.compare(torch.from_numpy(queries).double(), stored).numpy()
    if allowed is not None:
        exact[:, ~allowed] = -np.inf
    best = -np.sort(-exact, axis=1)[:, :k]
    np.testing.assert_allclose(similarities, best, atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(exact, ids, axis=1), best, atol=2e-6)
    assert all(len(set(found)) == k for found in ids.tolist()), "a row was found twice"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["spread", "about a mean", "clusters", "spikes", "doubles"]),
    count=st.integers(500, 2600),
    width=st.sampled_from([1, 3, 24, 64]),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 1000),
)
def test_nothing_is_missed(
    tmp_path_factory: pytest.TempPathFactory, kind: str, count: int, width: int, dtype: str, seed: int
) -> None:
    engine = filled(tmp_path_factory.mktemp("bank"), Cosine(width), rows_of(kind, count, width, seed), dtype)
    agrees(engine, rows_of(kind, 20, width, seed + 1))
    assert engine._shortlist is not None and len(engine._shortlist) == count


@pytest.mark.parametrize("kind", ["spread", "about a mean", "clusters"])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_missed_by_three_products(tmp_path: Path, kind: str, seed: int) -> None:
    def parts(count: int, seed: int) -> npt.NDArray[np.float32]:
        widths = (THREE.embedding, THREE.gradient, THREE.activation)
        return np.hstack([rows_of(kind, count, w, seed + 10 * n) for n, w in enumerate(widths)])

    engine = filled(tmp_path, THREE, parts(2100, seed))
    agrees(engine, parts(30, seed + 100))


def test_rows_that_are_not_allowed_are_not_found(tmp_path: Path) -> None:
    rows = rows_of("about a mean", 2100, 24, 0)
    engine, queries = filled(tmp_path, Cosine(24), rows), rows_of("about a mean", 20, 24, 1)
    allowed = np.random.default_rng(2).random(2100) < 0.7
    agrees(engine, queries, allowed)
    assert engine._shortlist is not None
    agrees(engine, queries, np.arange(2100) < 40)  # few: no candidates are sought


@pytest.mark.parametrize(("count", "k"), [(4097, 1), (5001, 1), (9001, 5), (33, 1)])
@pytest.mark.parametrize("kind", ["spread", "clusters", "doubles"])
def test_a_row_that_is_asked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int, k: int
) -> None:
    """Few rows are near, and what fills up the last block is none of them."""
    monkeypatch.setattr(shortlist, "_ROWS", 131_072)
    rows = rows_of(kind, count, 64, 0)
    agrees(filled(tmp_path, Cosine(64), rows), rows[::400], k=k)


def test_rows_that_come_later_are_found(tmp_path: Path) -> None:
    rows, queries = rows_of("clusters", 2600, 24, 0), rows_of("clusters", 20, 24, 1)
    engine = filled(tmp_path, Cosine(24), rows[:1500])
    agrees(engine, queries)
    engine.add(rows[1500:])
    agrees(engine, queries)
    assert engine._shortlist is not None and len(engine._shortlist) == 2600


def test_a_query_like_no_row_is_answered(tmp_path: Path) -> None:
    """All similarities alike, or negative: candidates tell nothing, and all rows are compared."""
    rows = rows_of("about a mean", 1500, 24, 0)
    engine = filled(tmp_path, Cosine(24), rows)
    agrees(engine, np.vstack([-rows[:5], np.zeros((2, 24), np.float32), rows[:5]]))


def test_small_banks_few_queries_and_slow_processors_ask_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, queries = filled(tmp_path, Cosine(8), rows_of("spread", 600, 8, 0)), rows_of("spread", 9, 8, 1)
    agrees(engine, queries, k=50)  # more than the bank has for so many
    monkeypatch.setattr(exact_search, "_FEWEST_QUERIES", 10)
    agrees(engine, queries)
    monkeypatch.setattr(exact_search, "_FEWEST_QUERIES", 1)
    monkeypatch.setattr(exact_search, "bfloat16_product_pays", lambda: False)
    agrees(engine, queries)
    monkeypatch.setattr(exact_search, "bfloat16_product_pays", lambda: True)
    monkeypatch.setattr(exact_search, "free_memory", lambda: 1000)
    agrees(engine, queries)
    assert engine._shortlist is None


def test_the_same_search_gives_the_same_bits(tmp_path: Path) -> None:
    engine = filled(tmp_path, Cosine(24), rows_of("doubles", 2100, 24, 0))
    queries = rows_of("doubles", 20, 24, 1)
    first, second = engine.search(queries, K, None), engine.search(queries, K, None)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_bound_is_above_what_is_left_out(tmp_path: Path) -> None:
    rows = torch.from_numpy(rows_of("about a mean", 3000, 64, 0))
    queries = torch.from_numpy(rows_of("about a mean", 50, 64, 1))
    copy = shortlist.Shortlist(Cosine(64))
    copy.update(rows)
    found = copy.search(queries, 20, None)
    rest = (queries @ rows.T).scatter(1, found.ids, -torch.inf)
    assert (rest.amax(dim=1) <= found.most).all()
    nearest = (queries @ rows.T).amax(dim=1)
    assert (found.most < nearest).float().mean() > 0.9, "a bound that proves nothing"
