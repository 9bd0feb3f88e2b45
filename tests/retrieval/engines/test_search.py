"""Exact search against a float64 reference, and every engine against the exact one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import Cosine, Filter, GradientProduct, IndexSettings, Manifest, PatchIndex, create_index
from retrieval.engines import exact_search as exact_module
from retrieval.errors import ConfigError

FILTERS = [
    None,
    Filter(images=[2, 3, 99]),
    Filter(not_images={0, 1}),
    Filter(not_classes=[1, 2]),
    Filter(images=range(4), not_images=[3], not_classes=[0]),
    Filter(images=[]),
]


def reference(bank: Any, filter: Filter | None, removed: tuple[int, ...] = ()) -> np.ndarray:
    """Cosines (Q, N) in float64, -inf where a row may not be returned."""
    scores = bank.queries.astype(np.float64) @ bank.vectors.astype(np.float64).T
    wanted = filter or Filter()
    for row, (image, _, _) in enumerate(bank.patches):
        allowed = wanted.images is None or image in wanted.images
        allowed = allowed and image not in wanted.not_images and image not in removed
        if not allowed or int(bank.labels[row].argmax()) in wanted.not_classes:
            scores[:, row] = -np.inf
    return scores


@pytest.mark.parametrize("filter", FILTERS, ids=str)
@pytest.mark.parametrize("removed", [(), (2, 5)], ids=["all", "removed"])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_search_equals_the_reference(
    tmp_path: Path,
    settings: IndexSettings,
    build: Callable[..., PatchIndex],
    bank: Any,
    filter: Filter | None,
    removed: tuple[int, ...],
    k: int,
) -> None:
    scores = reference(bank, filter, removed)
    with build(tmp_path / "index", settings) as index:
        for image in removed:
            index.remove(image)
        found = index.search(bank.queries, k, filter=filter)
    assert found.ids.shape == found.similarities.shape == (12, k)
    assert found.labels.shape == (12, k, 4)
    assert (len(found), found.k) == (12, k)
    # By score, since engines may order ties differently.
    expected = np.full((12, k), -np.inf)
    best = -np.sort(-scores, axis=1)[:, :k]
    expected[:, : best.shape[1]] = best
    np.testing.assert_allclose(found.similarities, expected, atol=1e-5)
    missing = found.ids == -1
    np.testing.assert_array_equal(missing, np.isneginf(expected))
    assert not found.labels[missing].any()
    rows = np.nonzero(~missing)
    np.testing.assert_allclose(scores[rows[0], found.ids[rows]], found.similarities[rows], atol=1e-5)
    np.testing.assert_array_equal(found.labels[rows], bank.labels[found.ids[rows]])
    assert all(len(set(ids[ids >= 0])) == (ids >= 0).sum() for ids in found.ids)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "IVF8,PQ16x4fs,Refine(SQfp16)", "PQ16x4fs,RFlat", "HNSW16"])
def test_approximate_types_honour_filters(
    tmp_path: Path, build: Callable[..., PatchIndex], bank: Any, factory: str
) -> None:
    pytest.importorskip("faiss")
    settings = IndexSettings(engine="faiss", factory=factory)
    with build(tmp_path / "index", settings) as index:
        index.remove(3)
        found = index.search(bank.queries, 10, filter=Filter(not_images=[4], not_classes=[0]))
    scores = reference(bank, Filter(not_images=[4], not_classes=[0]), (3,))
    assert (found.ids >= 0).all()
    assert np.isfinite(np.take_along_axis(scores, found.ids, axis=1)).all()
    best = -np.sort(-scores, axis=1)[:, :10]
    recall = (found.similarities >= best[:, -1:] - 1e-3).mean()
    assert recall > 0.9


def test_quantised_search_finds_the_neighbours(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(1)
    rows, width = 6000, 64
    vectors = rng.standard_normal((50, width))[rng.integers(50, size=rows)] + 0.5 * rng.standard_normal(
        (rows, width)
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    queries = vectors[::100]
    settings = IndexSettings(engine="faiss", factory="IVF64,PQ32x4fs,Refine(SQfp16)")
    with create_index(
        tmp_path / "index", manifest(Cosine(width)), rows=rows, sample=vectors[:3000], settings=settings
    ) as index:
        index.add(vectors, np.zeros((rows, 4), np.uint8), np.zeros((rows, 3), np.int32))
        index.flush()
        found = index.search(queries, 30)
        assert index.manifest.engine == {
            "kind": "faiss",
            "factory": "IVF64,PQ32x4fs,Refine(SQfp16)",
            "nprobe": 64,
            "k_factor": None,
        }
    threshold = -np.sort(-(queries @ vectors.T), axis=1)[:, 29:30]
    assert (found.similarities >= threshold - 1e-3).mean() > 0.9


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float16", 2e-3)])
def test_gradient_product_equals_numpy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manifest: Callable[..., Manifest],
    dtype: str,
    tolerance: float,
) -> None:
    monkeypatch.setattr(exact_module, "_BANK_CHUNK", 64)
    monkeypatch.setattr(exact_module, "_QUERY_CHUNK", 7)
    rng = np.random.default_rng(2)
    similarity = GradientProduct(embedding=12, gradient=8, activation=9, weight=0.5)

    def triples(count: int) -> np.ndarray:
        parts = [rng.standard_normal((count, width)) for width in (12, 8, 9)]
        return np.concatenate([p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts], axis=1)

    bank, queries = triples(200), triples(20)
    e, g, a = ((queries[:, s] @ bank[:, s].T) for s in (slice(12), slice(12, 20), slice(20, 29)))
    expected = (e + 0.5 * g * a) / 1.5
    settings = IndexSettings.model_validate({"engine": "exact", "dtype": dtype})
    with create_index(tmp_path / "index", manifest(similarity), rows=200, settings=settings) as index:
        index.add(bank.astype(np.float32), np.zeros((200, 4), np.uint8), np.zeros((200, 3), np.int32))
        found = index.search(queries.astype(np.float32), 9)
        assert index.similarity == similarity
    np.testing.assert_allclose(found.similarities, -np.sort(-expected, axis=1)[:, :9], atol=tolerance)


def test_equal_similarities_come_in_the_order_of_ids(
    tmp_path: Path, manifest: Callable[..., Manifest]
) -> None:
    vectors = np.tile(np.eye(1, 32, dtype=np.float32), (6, 1))
    settings = IndexSettings(engine="exact")
    with create_index(tmp_path / "index", manifest(), rows=6, settings=settings) as index:
        index.add(vectors, np.zeros((6, 4), np.uint8), np.zeros((6, 3), np.int32))
        found = index.search(vectors[:2], 8)
    np.testing.assert_array_equal(found.ids, [[0, 1, 2, 3, 4, 5, -1, -1]] * 2)


def test_empty_index_has_no_neighbours(
    tmp_path: Path, settings: IndexSettings, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with create_index(tmp_path / "index", manifest(), rows=0, settings=settings) as index:
        assert len(index) == 0
        found = index.search(bank.queries, 3, filter=Filter(not_images=[1]))
        assert (found.ids == -1).all() and np.isneginf(found.similarities).all() and not found.labels.any()
        assert index.remove(0) == 0


def test_unlabelled_rows_have_no_dominant_class(
    tmp_path: Path, settings: IndexSettings, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with create_index(tmp_path / "index", manifest(), rows=5, settings=settings) as index:
        index.add(bank.vectors[:5], np.zeros((5, 4), np.uint8), bank.patches[:5])
        found = index.search(bank.queries, 5, filter=Filter(not_classes=[0]))
    assert (found.ids >= 0).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda index, bank: index.search(bank.queries[:, :-1], 3),
        lambda index, bank: index.search(bank.queries[0], 3),
        lambda index, bank: index.search(bank.queries, 0),
        lambda index, bank: index.search(bank.queries * np.nan, 3),
        lambda index, bank: index.add(bank.vectors * np.inf, bank.labels, bank.patches),
        lambda index, bank: index.add(bank.vectors, bank.labels[:, :-1], bank.patches),
        lambda index, bank: index.add(bank.vectors, bank.labels, bank.patches[:-1]),
        lambda index, bank: index.patches(np.array([300])),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path,
    settings: IndexSettings,
    build: Callable[..., PatchIndex],
    bank: Any,
    call: Callable[[PatchIndex, Any], object],
) -> None:
    with build(tmp_path / "index", settings) as index:
        with pytest.raises(ConfigError):
            call(index, bank)
        assert len(index) == 300
        index.flush()
