"""Re-ranking against brute force over the true similarity, on every engine that can."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import retrieval.engines.rerank as rerank_module
from retrieval import (
    Cosine,
    Filter,
    GradientProduct,
    IndexSettings,
    Manifest,
    PatchIndex,
    create_index,
    open_index,
    read_manifest,
    write_manifest,
)
from retrieval.edit.convert import convert_index
from retrieval.engines.faiss_types import choose_factory
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.engines.rerank import ROWS, quantise
from retrieval.errors import ConfigError, IndexDamagedError, StorageError
from retrieval.similarity import Reranked, Similarity, similarity_from_json

N, WEIGHT, WIDTHS = 300, 0.5, (24, 16, 17)
PRODUCT = GradientProduct(*WIDTHS, weight=WEIGHT)
#: 8 bits a number, rounded: what that may change in a similarity of these widths.
ROUNDING = 0.01

Array = npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def triples(rows: int, seed: int) -> npt.NDArray[np.float64]:
    """Rows [e | g | a] near a few centres, each part of length one."""
    rng, centres = np.random.default_rng(seed), np.random.default_rng(0)
    parts = []
    for width in WIDTHS:
        middle = centres.standard_normal((12, width))
        parts.append(unit(middle[rng.integers(12, size=rows)] + 0.6 * rng.standard_normal((rows, width))))
    return np.concatenate(parts, axis=1)


def truth(queries: npt.NDArray[np.float64], rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(cos e + w cos g cos a) / (1 + w) of every query and row."""
    e, g, a = (
        np.einsum("qd,nd->qn", queries[:, part], rows[:, part])
        for part in (slice(0, 24), slice(24, 40), slice(40, 57))
    )
    return (e + WEIGHT * g * a) / (1 + WEIGHT)


def whole(last: npt.NDArray[np.float64], *, separate: bool) -> Array:
    """Rows as an index takes them; what is searched by is the embedding, or its first half alone."""
    first = unit(last[:, :12])
    return (np.hstack([first, last]) if separate else last).astype(np.float32)


def similarity_of(candidates: int, *, separate: bool) -> Reranked:
    return Reranked(Cosine(12 if separate else 24), PRODUCT, candidates, separate)


BANK, QUERIES = triples(N, 1), triples(20, 2)
LABELS = np.random.default_rng(3).integers(0, 256, (N, 4)).astype(np.uint8)
PATCHES = np.stack([np.arange(N) // 30, np.arange(N) % 30 // 6, np.arange(N) % 6], axis=1).astype(np.int32)


@pytest.fixture(params=[False, True], ids=["embeddings", "separate"])
def separate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make(
    tmp_path: Path, manifest: Callable[..., Manifest], separate: bool
) -> Callable[[IndexSettings, int], PatchIndex]:
    """An index with the rows of BANK in uneven blocks, not flushed."""

    def build(settings: IndexSettings, candidates: int) -> PatchIndex:
        described = manifest(similarity_of(candidates, separate=separate))
        rows = whole(BANK, separate=separate)
        index = create_index(
            tmp_path / "index",
            described,
            rows=N,
            sample=rows[:, : described.similarity.coarse.width],
            settings=settings,
        )
        for start, stop in ((0, 1), (1, 170), (170, 170), (170, N)):
            index.add(rows[start:stop], LABELS[start:stop], PATCHES[start:stop])
        return index

    return build


@pytest.mark.parametrize("chunk", [1, 3000, 4 << 20])
def test_all_rows_as_candidates_is_brute_force(
    make: Any, settings: IndexSettings, separate: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank_module, "_CHUNK_BYTES", chunk)
    expected = truth(QUERIES, BANK)
    with make(settings, 10_000) as index:
        found = index.search(whole(QUERIES, separate=separate), 15)
    np.testing.assert_allclose(found.similarities, -np.sort(-expected, axis=1)[:, :15], atol=ROUNDING)
    own = np.take_along_axis(expected, found.ids, axis=1)
    np.testing.assert_allclose(found.similarities, own, atol=ROUNDING)
    assert (np.diff(found.similarities, axis=1) <= 0).all()
    np.testing.assert_array_equal(found.labels, LABELS[found.ids])


def test_only_the_candidates_are_ordered(make: Any, settings: IndexSettings, separate: bool) -> None:
    """The answer is the best 5 by the true similarity among the 20 nearest by the first vectors."""
    bank, queries = (whole(rows, separate=separate).astype(np.float64) for rows in (BANK, QUERIES))
    width = 12 if separate else 24
    nearest = np.argsort(-(queries[:, :width] @ bank[:, :width].T), axis=1)[:, :20]
    true = np.take_along_axis(truth(QUERIES, BANK), nearest, axis=1)
    expected = -np.sort(-true, axis=1)[:, :5]
    with make(settings, 20) as index:
        found = index.search(whole(QUERIES, separate=separate), 5)
    assert (np.sort(-truth(QUERIES, BANK), axis=1)[:, :5] + expected < -2 * ROUNDING).any(), "20 miss some"
    np.testing.assert_allclose(found.similarities, expected, atol=ROUNDING)
    assert all(np.isin(ids, allowed).all() for ids, allowed in zip(found.ids, nearest, strict=True))


def test_fewer_candidates_than_neighbours_still_gives_all(
    make: Any, settings: IndexSettings, separate: bool
) -> None:
    queries = whole(QUERIES, separate=separate)
    with make(settings, 2) as index:
        found = index.search(queries, 9)
        assert (found.ids >= 0).all()
        every = index.search(queries, N + 5)
    assert (every.ids[:, N:] == -1).all() and np.isneginf(every.similarities[:, N:]).all()
    assert (np.sort(every.ids[:, :N], axis=1) == np.arange(N)).all()


def test_filters_and_removed_images(make: Any, settings: IndexSettings, separate: bool) -> None:
    queries = whole(QUERIES, separate=separate)
    expected = truth(QUERIES, BANK)
    with make(settings, N) as index:
        index.remove(3)
        expected[:, PATCHES[:, 0] == 3] = -np.inf
        expected[:, PATCHES[:, 0] > 5] = -np.inf
        found = index.search(queries, 12, filter=Filter(images=range(6)))
        np.testing.assert_allclose(found.similarities, -np.sort(-expected, axis=1)[:, :12], atol=ROUNDING)
        few = index.search(queries, 40, filter=Filter(images=[5]))
        none = index.search(queries, 4, filter=Filter(images=[3]))
    assert (PATCHES[few.ids[:, :30], 0] == 5).all() and (few.ids[:, 30:] == -1).all()
    assert np.isneginf(few.similarities[:, 30:]).all() and not few.labels[:, 30:].any()
    assert (none.ids == -1).all() and np.isneginf(none.similarities).all()


def test_saved_reopened_and_grown(make: Any, settings: IndexSettings, separate: bool, tmp_path: Path) -> None:
    queries = whole(QUERIES, separate=separate)
    more = triples(40, 4)
    with make(settings, N + 40) as index:
        before = index.search(queries, 7)
        index.flush()
    stored = np.load(tmp_path / "index" / ROWS)
    assert stored.dtype == np.int8 and stored.shape == (N, sum(WIDTHS))
    with open_index(tmp_path / "index", verify=True) as index:
        assert index.similarity == similarity_of(N + 40, separate=separate)
        again = index.search(queries, 7)
        np.testing.assert_array_equal(again.ids, before.ids)
        np.testing.assert_array_equal(again.similarities, before.similarities)
        index.add(whole(more, separate=separate), LABELS[:40], PATCHES[:40])
        index.flush()
    with open_index(tmp_path / "index") as index:
        found = index.search(queries, 7)
    expected = -np.sort(-truth(QUERIES, np.concatenate([BANK, more])), axis=1)[:, :7]
    np.testing.assert_allclose(found.similarities, expected, atol=ROUNDING)


def test_candidates_may_be_chosen_at_opening(make: Any, separate: bool, tmp_path: Path) -> None:
    queries = whole(QUERIES, separate=separate)
    with make(IndexSettings(engine="exact"), 5) as index:
        index.flush()
    expected = -np.sort(-truth(QUERIES, BANK), axis=1)[:, :5]
    with open_index(tmp_path / "index", candidates=N) as index:
        found = index.search(queries, 5)
        assert index.manifest.similarity.candidates == 5, "the index itself stays as it was built"
    np.testing.assert_allclose(found.similarities, expected, atol=ROUNDING)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        open_index(tmp_path / "index", candidates=0)


def test_candidates_of_an_index_without_rows_to_rerank_by(
    tmp_path: Path, build: Callable[..., PatchIndex]
) -> None:
    with build(tmp_path / "plain", IndexSettings(engine="exact")) as index:
        index.flush()
    with pytest.raises(ConfigError, match="nothing to re-rank by"):
        open_index(tmp_path / "plain", candidates=60)


def test_conversion_keeps_the_order(make: Any, separate: bool, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    queries = whole(QUERIES, separate=separate)
    with make(IndexSettings(engine="exact", dtype="float32"), 40) as index:
        index.remove(4)
        index.flush()
        expected = index.search(queries, 10)
    here = tmp_path / "index"
    steps = [
        IndexSettings(engine="faiss", factory="IVF4,PQ4x4fs,Refine(Flat)", nprobe=4, k_factor=64),
        IndexSettings(engine="faiss"),
        IndexSettings(engine="exact", dtype="float32"),
    ]
    for number, settings in enumerate(steps):
        assert convert_index(here, tmp_path / str(number), settings=settings) == N - 30
        here = tmp_path / str(number)
        with open_index(here, verify=True) as index:
            found = index.search(queries, 10)
            assert index.manifest.similarity == similarity_of(40, separate=separate)
            np.testing.assert_allclose(found.similarities, expected.similarities, atol=2 * ROUNDING)


@pytest.mark.parametrize(
    "qdrant", [QdrantSettings(), QdrantSettings(url="http://127.0.0.1:9", collection="x")]
)
def test_qdrant_is_refused(tmp_path: Path, manifest: Callable[..., Manifest], qdrant: QdrantSettings) -> None:
    pytest.importorskip("qdrant_edge")
    settings = IndexSettings(engine="qdrant", qdrant=qdrant)
    with pytest.raises(ConfigError, match=r"Qdrant.* cannot re-rank .*index\.engine to faiss or exact"):
        create_index(tmp_path / "x", manifest(similarity_of(9, separate=False)), rows=1, settings=settings)


def test_vectors_come_back(make: Any, settings: IndexSettings, separate: bool) -> None:
    with make(settings, 9) as index:
        vectors = np.concatenate([block.vectors for block in index.stream(batch=100)])
    expected = whole(BANK, separate=separate)
    assert vectors.shape == expected.shape and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=ROUNDING)


def test_quantised_parts_keep_their_direction_at_any_scale() -> None:
    rows = triples(50, 5)
    scaled = rows * np.repeat([1e-6, 3e4, 1.0], WIDTHS)
    scaled[0, 24:40] = 0
    stored = quantise(scaled.astype(np.float32), PRODUCT)
    assert (stored[0, 24:40] == 0).all()
    for part in (slice(0, 24), slice(24, 40), slice(40, 57)):
        assert (np.abs(stored[1:, part]).max(axis=1) == 127).all()
        cosines = (unit(stored[1:, part].astype(np.float64)) * rows[1:, part]).sum(axis=1)
        assert cosines.min() > 0.9999


def test_a_part_of_zeros_is_like_nothing(manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    rows = whole(BANK[:3], separate=False)
    rows[1, 24:40] = 0  # no gradient: only its embedding counts
    settings = IndexSettings(engine="exact")
    with create_index(
        tmp_path / "x", manifest(similarity_of(3, separate=False)), rows=3, settings=settings
    ) as index:
        index.add(rows, LABELS[:3], PATCHES[:3])
        found = index.search(rows[:1], 3)
    expected = float(BANK[0, :24] @ BANK[1, :24]) / (1 + WEIGHT)
    assert found.similarities[0, found.ids[0] == 1] == pytest.approx(expected, abs=ROUNDING)


def test_a_failed_add_adds_nothing(make: Any, separate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = whole(BANK, separate=separate)
    with make(IndexSettings(engine="exact"), 30) as index:
        engine = index._engine

        def fail(vectors: Array) -> None:
            raise StorageError("full")

        monkeypatch.setattr(engine._inner, "add", fail)
        with pytest.raises(StorageError):
            index.add(rows[:5], LABELS[:5], PATCHES[:5])
        monkeypatch.undo()
        assert len(engine) == len(engine._inner) == len(index) == N
        index.add(rows[:1], LABELS[:1], PATCHES[:1])
        best = index.search(rows[:1], 2)
    assert best.ids.tolist() == [[0, N]]


@pytest.mark.parametrize("separate", [False, True], ids=["embeddings", "separate"])
@pytest.mark.parametrize("step", range(4))
def test_a_change_that_fails_midway_leaves_vectors_and_copies_together(
    make: Any, separate: bool, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = whole(QUERIES, separate=separate)
    with make(IndexSettings(engine="exact"), 30) as index:
        index.flush()
        expected = index.search(queries, 3)
    real, done = os.fsync, []

    def stop(descriptor: int) -> None:
        if len(done) == step:
            raise OSError(errno.EACCES, "denied")
        done.append(descriptor)
        real(descriptor)

    with open_index(tmp_path / "index") as index:
        index.add(whole(BANK, separate=separate)[:5], LABELS[:5], PATCHES[:5])
        monkeypatch.setattr(os, "fsync", stop)
        with pytest.raises(StorageError):
            index.flush()
        monkeypatch.undo()
    with open_index(tmp_path / "index", verify=True) as index:
        np.testing.assert_array_equal(index.search(queries, 3).ids, expected.ids)


def test_rows_that_do_not_belong_are_noticed(make: Any, tmp_path: Path) -> None:
    with make(IndexSettings(engine="exact"), 30) as index:
        index.flush()
    folder = tmp_path / "index"
    described = read_manifest(folder)
    np.save(folder / ROWS, np.load(folder / ROWS)[:-1])
    write_manifest(folder, described)
    with pytest.raises(IndexDamagedError, match=f"{ROWS} holds {N - 1} rows"):
        open_index(folder)


@pytest.mark.parametrize("similarity", [Cosine(5), PRODUCT, similarity_of(7, separate=True)])
def test_similarities_survive_json(similarity: Similarity) -> None:
    assert similarity_from_json(similarity.to_json()) == similarity


def test_unknown_similarity_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown similarity 'euclid'"):
        similarity_from_json({"kind": "euclid", "width": 4})


def test_large_banks_need_no_refinement_of_their_own(
    tmp_path: Path, manifest: Callable[..., Manifest]
) -> None:
    pytest.importorskip("faiss")
    assert choose_factory(200_000, 24, 5000, refine="none") == "IVF128,PQ24x4fs"
    described = manifest(similarity_of(60, separate=False))
    sample = triples(5000, 6)[:, :24].astype(np.float32)
    index = create_index(tmp_path / "x", described, rows=200_000, sample=sample, settings=IndexSettings())
    with index:
        rows = whole(BANK, separate=False)
        index.add(rows, LABELS, PATCHES)
        assert index._engine.parameters["factory"] == "IVF128,PQ24x4fs"  # type: ignore[attr-defined]
        found = index.search(rows, 1)
    assert (found.ids[:, 0] == np.arange(N)).mean() > 0.99


def test_width_counts_what_a_vector_holds() -> None:
    assert similarity_of(9, separate=True).width == 12 + sum(WIDTHS)
    assert similarity_of(9, separate=False).width == sum(WIDTHS)
