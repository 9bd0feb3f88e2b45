"""How an engine is chosen, and what is said when it cannot be had."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retrieval
from retrieval import (
    Cosine,
    Filter,
    GradientProduct,
    IndexSettings,
    Manifest,
    create_index,
)
from retrieval.engines import faiss_search, faiss_types
from retrieval.engines.faiss_types import choose_factory, reduced_width, training_rows
from retrieval.errors import ConfigError, MissingExtraError


@pytest.mark.parametrize(
    "rows, width, sample, factory",
    [
        (99_999, 768, 0, "Flat"),
        (100_000, 768, 60_000, "IVF1265,PQ384x4fs,Refine(SQfp16)"),
        (1_000_000, 384, 200_000, "IVF4000,PQ192x4fs,Refine(SQfp16)"),
        (1_000_000, 384, 39_000, "IVF1000,PQ192x4fs,Refine(SQfp16)"),
        (1_000_000, 384, 0, "IVF1,PQ192x4fs,Refine(SQfp16)"),
        (100_000, 63, 60_000, "IVF1265,PQ63x4fs,Refine(SQfp16)"),
        (100_000, 257, 60_000, "IVF1265,SQfp16"),
        (100_000, 769, 60_000, "IVF1265,SQfp16"),
        (100_000, 1, 60_000, "IVF1265,PQ1x4fs,Refine(SQfp16)"),
    ],
)
def test_type_is_chosen_by_size(rows: int, width: int, sample: int, factory: str) -> None:
    assert choose_factory(rows, width, sample) == factory


@pytest.mark.parametrize(
    "factory, rows, message",
    [
        ("IVF8,Nonsense", 300, "knows no index type"),
        ("IVF8,PQ7x4fs", 300, "IVF8,PQ7x4fs"),
        ("IVF500,Flat", 300, "cannot be trained on 300 vectors"),
        ("IVF8,Flat", 0, "cannot be trained on 0 vectors"),
    ],
)
def test_impossible_types_are_refused(
    tmp_path: Path, manifest: Callable[..., Manifest], bank: Any, factory: str, rows: int, message: str
) -> None:
    pytest.importorskip("faiss")
    settings = IndexSettings(engine="faiss", factory=factory)
    with pytest.raises(ConfigError, match=message):
        create_index(
            tmp_path / "index",
            manifest(),
            rows=300,
            sample=bank.vectors[:rows] if rows else None,
            settings=settings,
        )
    assert not (tmp_path / "index").exists()


def test_faiss_refuses_the_exact_gradient_similarity(
    tmp_path: Path, manifest: Callable[..., Manifest]
) -> None:
    pytest.importorskip("faiss")
    similarity = GradientProduct(4, 4, 5, 1.0)
    with pytest.raises(ConfigError, match=r"index\.engine=exact"):
        create_index(tmp_path / "index", manifest(similarity), rows=1, settings=IndexSettings(engine="faiss"))


@pytest.mark.parametrize("error", [ImportError("no faiss"), RuntimeError("libcuda.so not found")])
def test_missing_faiss_names_the_extra(
    tmp_path: Path, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingExtraError, match=r"mycelia\[faiss-cpu\]"):
        create_index(tmp_path / "index", manifest(), rows=1, settings=IndexSettings(engine="faiss"))


def test_resolved_parameters_are_kept(tmp_path: Path, manifest: Callable[..., Manifest], bank: Any) -> None:
    pytest.importorskip("faiss")
    settings = IndexSettings(engine="faiss", factory="IVF8,Flat", nprobe=3, k_factor=5)
    with create_index(tmp_path / "a", manifest(), rows=9, sample=bank.vectors, settings=settings) as index:
        index.add(bank.vectors, bank.labels, bank.patches)
        index.flush()
    expected = {"kind": "faiss", "factory": "IVF8,Flat", "nprobe": 3, "k_factor": 5}
    with retrieval.open_index(tmp_path / "a") as index:
        assert index.manifest.engine == expected
        index.remove(0)
        index.flush()
    assert retrieval.read_manifest(tmp_path / "a").engine == expected


class _Gpu:
    """Stands for FAISS on a GPU: copies are counted; a type named in ``refused`` has no such form."""

    def __init__(self, faiss: Any, *, refused: str = "") -> None:
        self._faiss, self._refused, self.copies = faiss, refused, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faiss, name)

    def get_num_gpus(self) -> int:
        return 1

    def StandardGpuResources(self) -> object:  # noqa: N802
        return object()

    def index_cpu_to_gpu(self, resources: object, device: int, index: Any) -> Any:
        if self._refused and self._refused in type(index).__name__:
            raise RuntimeError("not implemented on GPU")
        self.copies += 1
        return self._faiss.clone_index(index)


@pytest.mark.parametrize(
    ("device", "refused", "copies"), [("cpu", "", 0), ("cuda:0", "", 2), ("cuda", "Flat", 0)]
)
def test_faiss_searches_a_copy_on_the_gpu_and_stores_the_cpus_form(
    tmp_path: Path,
    manifest: Callable[..., Manifest],
    bank: Any,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    refused: str,
    copies: int,
) -> None:
    gpu = _Gpu(pytest.importorskip("faiss"), refused=refused)
    monkeypatch.setattr(faiss_search, "load_faiss", lambda: gpu)
    settings = IndexSettings(engine="faiss", factory="Flat")
    with create_index(tmp_path / "a", manifest(), rows=300, settings=settings) as index:
        index.add(bank.vectors[:200], bank.labels[:200], bank.patches[:200])
        index.flush()
    with retrieval.open_index(tmp_path / "a", device=device) as index:
        index.search(bank.vectors, 1)
        index.search(bank.vectors, 1)
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:])
        found = index.search(bank.vectors, 1)  # the copy has to know the new rows
        index.flush()
    assert gpu.copies == copies
    np.testing.assert_array_equal(found.ids[:, 0], np.arange(300))
    with retrieval.open_index(tmp_path / "a") as index:
        assert len(index) == 300


def test_int8_refinement_is_chosen_by_the_recipe(
    tmp_path: Path, manifest: Callable[..., Manifest], bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    assert choose_factory(50_000, 64, 0) == "Flat"
    assert choose_factory(50_000, 64, 0, refine="int8") == "SQ8"
    assert choose_factory(50_000, 64, 50_000, codes="int8") == "IVF894,SQ8"
    assert choose_factory(9_000, 64, 9_000, codes="int8") == "SQ8"
    assert choose_factory(1_000_000, 64, 160_000, refine="int8") == "IVF4000,PQ64x4fs,Refine(SQ8)"
    monkeypatch.setattr(faiss_types, "FLAT_ROWS", 100)
    monkeypatch.setattr(faiss_search, "FLAT_ROWS", 100)
    settings = IndexSettings(engine="faiss", refine="int8")
    with create_index(tmp_path / "a", manifest(), rows=300, sample=bank.vectors, settings=settings) as index:
        index.add(bank.vectors, bank.labels, bank.patches)
        index.flush()
        assert index.manifest.engine["factory"].endswith("Refine(SQ8)")
        found = index.search(bank.vectors, 10)
    itself = found.ids[:, 0] == np.arange(300)
    assert itself.mean() > 0.9
    np.testing.assert_allclose(found.similarities[itself, 0], 1, atol=0.05)


def test_candidates_are_found_in_the_directions_that_matter(
    tmp_path: Path, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    for module in (faiss_types, faiss_search):
        monkeypatch.setattr(module, "FLAT_ROWS", 100)
    rng = np.random.default_rng(0)
    shaped = rng.standard_normal((3000, 64)) * 0.8 ** np.arange(64)  # most of it in few directions
    turned = shaped @ np.linalg.qr(rng.standard_normal((64, 64)))[0]
    vectors = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
    labels, patches = np.full((3000, 4), 60, np.uint8), np.zeros((3000, 3), np.int32)
    patches[:, 0] = np.arange(3000) % 10
    folder, settings = tmp_path / "a", IndexSettings(engine="faiss")
    with create_index(folder, manifest(Cosine(64)), rows=3000, sample=vectors, settings=settings) as index:
        index.add(vectors, labels, patches)
        index.flush()
    truth = np.argsort(-(vectors[:200] @ vectors.T), axis=1)[:, :10]
    with retrieval.open_index(folder) as index:
        assert index.manifest.engine["factory"] == "SVD16,IVF76,PQ16x4fs,Refine(SQfp16)"
        found = index.search(vectors[:200], 10)
        near = index.search(vectors[:200], 10, filter=Filter(images=[3]))
        kept = next(index.stream(batch=3000)).vectors
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found.ids, truth, strict=True)]
    assert np.mean(hits) > 9.5
    np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-3)  # of whole vectors, not of what is cut
    np.testing.assert_allclose(kept, vectors, atol=1e-3)
    assert (near.ids % 10 == 3).all()


def test_vectors_whose_directions_all_matter_are_not_reduced() -> None:
    rng = np.random.default_rng(0)
    assert reduced_width(rng.standard_normal((4000, 64)).astype(np.float32)) is None
    assert reduced_width(np.empty((0, 64), np.float32)) is None


@pytest.mark.parametrize("factory", ["SVD32,Flat", "SVD0,Flat", "SVD8,Nonsense"])
def test_impossible_reductions_are_refused(
    tmp_path: Path, manifest: Callable[..., Manifest], bank: Any, factory: str
) -> None:
    pytest.importorskip("faiss")
    settings = IndexSettings(engine="faiss", factory=factory)
    with pytest.raises(ConfigError, match=r"correct index\.factory"):
        create_index(tmp_path / "a", manifest(), rows=300, sample=bank.vectors, settings=settings)


@pytest.mark.parametrize(
    ("rows", "trained"), [(500, 500), (100_000, 65_536), (1_000_000, 156_000), (10_240_000, 262_144)]
)
def test_the_training_sample_grows_with_the_bank_within_bounds(rows: int, trained: int) -> None:
    assert training_rows(rows) == trained


def test_exact_engine_stores_half_precision(
    tmp_path: Path, manifest: Callable[..., Manifest], bank: Any
) -> None:
    with create_index(tmp_path / "a", manifest(), rows=300, settings=IndexSettings(engine="exact")) as index:
        index.add(bank.vectors, bank.labels, bank.patches)
        index.flush()
        found = index.search(bank.vectors, 1)
    assert np.load(tmp_path / "a" / "vectors.npy").dtype == np.float16
    np.testing.assert_array_equal(found.ids[:, 0], np.arange(300))
    np.testing.assert_allclose(found.similarities, 1, atol=1e-3)


def test_exported_names_exist() -> None:
    assert sorted(retrieval.__all__) == retrieval.__all__
    assert all(hasattr(retrieval, name) for name in retrieval.__all__)


def test_a_quarter_of_the_directions_is_kept_where_few_hold_the_energy() -> None:
    rng = np.random.default_rng(0)
    vectors = 0.02 * rng.standard_normal((4000, 256)).astype(np.float32)
    vectors[:, 0] += 1
    assert reduced_width(vectors) == 64
