"""Row weights: stored when there are any, kept by everything that moves rows, absent otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import IndexSettings, Manifest, PatchIndex, create_index, open_index
from retrieval.edit.convert import convert_index
from retrieval.engines.exact_search import ExactEngine
from retrieval.engines.qdrant.settings import MEMORY, QdrantSettings
from retrieval.errors import ConfigError, IndexDamagedError, StorageError
from retrieval.store.commit import write_manifest
from retrieval.store.manifest import FORMAT, FileEntry, read_manifest
from retrieval.store.rows import MULTIPLICITY

EXACT = IndexSettings(engine="exact", dtype="float32")
ENGINES = [EXACT, IndexSettings(engine="faiss"), IndexSettings(engine="qdrant")]
COUNTS = np.linspace(0.5, 40, 300).astype(np.float32)


@pytest.mark.parametrize("settings", ENGINES, ids=lambda settings: settings.engine)
def test_weights_are_found_streamed_removed_and_converted(
    tmp_path: Path, bank: Any, manifest: Callable[..., Manifest], settings: IndexSettings
) -> None:
    pytest.importorskip({"faiss": "faiss", "qdrant": "qdrant_edge"}.get(settings.engine, "torch"))
    with create_index(tmp_path / "a", manifest(), rows=300, settings=settings) as index:
        index.add(bank.vectors[:200], bank.labels[:200], bank.patches[:200], multiplicity=COUNTS[:200])
        index.flush()
    with open_index(tmp_path / "a") as index:
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:], multiplicity=COUNTS[200:])
        index.remove(4)
        index.flush()
    convert_index(tmp_path / "a", tmp_path / "b", settings=EXACT)
    live = bank.patches[:, 0] != 4
    for folder in (tmp_path / "a", tmp_path / "b"):
        with open_index(folder, verify=True) as index:
            blocks = list(index.stream(batch=70))
            np.testing.assert_array_equal(np.concatenate([b.multiplicity for b in blocks]), COUNTS[live])
            found = index.search(bank.vectors[live][:9], 271)
            assert found.multiplicity is not None and found.multiplicity.dtype == np.float32
            np.testing.assert_array_equal(found.multiplicity[:, 0], COUNTS[live][:9])
            assert (found.multiplicity[found.ids < 0] == 0).all() and (found.ids < 0).any()


def test_rows_before_and_after_weighted_ones_stand_for_one_patch(
    tmp_path: Path, bank: Any, manifest: Callable[..., Manifest]
) -> None:
    with create_index(tmp_path / "a", manifest(), rows=300, settings=EXACT) as index:
        index.add(bank.vectors[:100], bank.labels[:100], bank.patches[:100])
        assert index.search(bank.queries, 3).multiplicity is None
        index.add(
            bank.vectors[100:200], bank.labels[100:200], bank.patches[100:200], multiplicity=COUNTS[:100]
        )
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:])
        index.flush()
    stored = np.load(tmp_path / "a" / MULTIPLICITY, allow_pickle=False)
    np.testing.assert_array_equal(stored, np.concatenate([np.ones(100), COUNTS[:100], np.ones(100)]))


def test_weights_of_one_are_no_file(tmp_path: Path, bank: Any, manifest: Callable[..., Manifest]) -> None:
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / MULTIPLICITY, COUNTS[:7])  # what a killed build left
    with create_index(tmp_path / "a", manifest(), rows=300, settings=EXACT) as index:
        index.add(bank.vectors, bank.labels, bank.patches, multiplicity=np.ones(300, np.float32))
        index.flush()
    with open_index(tmp_path / "a", verify=True) as index:
        assert MULTIPLICITY not in index.manifest.files
        assert (
            next(index.stream()).multiplicity is None and index.search(bank.queries, 3).multiplicity is None
        )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(299, np.float32), r"weights of shape \(300,\), got \(299,\)"),
        (np.zeros(300, np.float32), "finite numbers above 0"),
        (np.full(300, np.nan, np.float32), "finite numbers above 0"),
        (np.full(300, np.inf, np.float32), "finite numbers above 0"),
    ],
)
def test_impossible_weights_are_refused(
    tmp_path: Path, bank: Any, manifest: Callable[..., Manifest], weights: np.ndarray, message: str
) -> None:
    with create_index(tmp_path / "a", manifest(), rows=300, settings=EXACT) as index:
        with pytest.raises(ConfigError, match=message):
            index.add(bank.vectors, bank.labels, bank.patches, multiplicity=weights)
        assert len(index) == 0


def test_weights_that_do_not_belong_to_the_rows_are_refused(
    tmp_path: Path, build: Callable[..., PatchIndex]
) -> None:
    with build(tmp_path / "a", EXACT) as index:
        index.flush()
    np.save(tmp_path / "a" / MULTIPLICITY, COUNTS[:-1])
    manifest = read_manifest(tmp_path / "a")
    write_manifest(
        tmp_path / "a", replace(manifest, files={**manifest.files, MULTIPLICITY: FileEntry(0, "")})
    )
    with pytest.raises(IndexDamagedError, match="299 weights"):
        open_index(tmp_path / "a")


def test_rows_that_were_not_added_leave_no_weights(
    tmp_path: Path, bank: Any, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ExactEngine, vectors: object) -> None:
        raise StorageError("the disk is full")

    rows = bank.vectors[:9], bank.labels[:9], bank.patches[:9]
    with create_index(tmp_path / "a", manifest(), rows=9, settings=IndexSettings(engine="exact")) as index:
        index.add(*rows)
        with monkeypatch.context() as patched, pytest.raises(StorageError):
            patched.setattr(ExactEngine, "add", fail)
            index.add(*rows, multiplicity=np.full(9, 2, np.float32))
        index.flush()
        assert index.search(bank.queries, 3).multiplicity is None
    assert not list((tmp_path / "a").glob("weights*"))


def test_a_server_takes_no_weights(tmp_path: Path, bank: Any, manifest: Callable[..., Manifest]) -> None:
    pytest.importorskip("qdrant_client")
    server = QdrantSettings(url=MEMORY, collection="toy")
    chosen = IndexSettings(engine="qdrant", qdrant=server)
    with create_index(tmp_path / "a", manifest(), rows=300, settings=chosen) as index:
        rows = bank.vectors[:50], bank.labels[:50], bank.patches[:50]
        index.add(*rows, multiplicity=np.ones(50, np.float32))
        assert len(index) == 50
        with pytest.raises(ConfigError, match="no row weights"):
            index.add(*rows, multiplicity=COUNTS[:50])
    with create_index(tmp_path / "b", manifest(), rows=300, settings=EXACT) as index:
        index.add(bank.vectors, bank.labels, bank.patches, multiplicity=COUNTS)
        index.flush()
    with pytest.raises(ConfigError, match="no row weights"):
        convert_index(tmp_path / "b", tmp_path / "c", settings=chosen)
    assert not (tmp_path / "c").exists()


def test_an_index_of_the_first_format_is_written_in_the_present_one(
    tmp_path: Path, bank: Any, build: Callable[..., PatchIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.store.commit.FORMAT", 1)
        with build(tmp_path / "a", EXACT, rows=200) as index:
            index.flush()
    assert read_manifest(tmp_path / "a").format == 1
    with open_index(tmp_path / "a") as index:
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:], multiplicity=COUNTS[200:])
        index.flush()
    assert read_manifest(tmp_path / "a").format == FORMAT == 4
    with open_index(tmp_path / "a", verify=True) as index:
        assert index.search(bank.vectors[299:], 1).multiplicity == pytest.approx(COUNTS[299])
