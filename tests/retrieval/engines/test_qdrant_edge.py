"""The embedded Qdrant engine: one opener, crash safety, its graph, limits and refusals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("qdrant_edge")

from filelock import FileLock

from retrieval import IndexSettings, Manifest, PatchIndex, create_index, open_index, read_manifest
from retrieval.engines.qdrant import edge
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.engines.qdrant.sizing import bytes_per_row
from retrieval.errors import ConfigError, IndexDamagedError, IndexFileError, MissingExtraError, StorageError
from retrieval.similarity import GradientProduct
from retrieval.store.commit import IndexFiles


def settings_of(**changes: Any) -> IndexSettings:
    return IndexSettings(engine="qdrant", qdrant=QdrantSettings(**{"threads": 1, **changes}))


@pytest.fixture
def stored(tmp_path: Path, build: Callable[..., PatchIndex]) -> Path:
    folder = tmp_path / "index"
    with build(folder, settings_of(datatype="float32")) as index:
        index.flush()
    return folder


def test_a_second_process_is_told_why(stored: Path) -> None:
    program = f"from retrieval import open_index; open_index({str(stored)!r})"
    with open_index(stored):
        with pytest.raises(IndexFileError, match="is open already"):
            open_index(stored)
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "IndexFileError" in second.stderr and "in another process" in second.stderr
    open_index(stored).close()


def test_opening_and_closing_changes_no_file(stored: Path) -> None:
    before = {
        path: path.read_bytes() for path in stored.rglob("*") if path.is_file() and path.suffix != ".part"
    }
    for _ in range(2):
        with open_index(stored, verify=True) as index:
            assert len(index) == 300
    after = {
        path: path.read_bytes() for path in stored.rglob("*") if path.is_file() and path.suffix != ".part"
    }
    assert after == before


def test_what_was_not_flushed_is_dropped(stored: Path, bank: Any) -> None:
    with open_index(stored) as index:
        index.add(bank.vectors[:5], bank.labels[:5], bank.patches[:5])
        assert index.remove(2) == 30
        assert len(index) == 275
    with open_index(stored, verify=True) as index:
        assert len(index) == 300
    assert [path.name for path in stored.glob("edge.*")] == ["edge.1"]


def test_a_crash_before_the_manifest_leaves_the_old_index(
    stored: Path, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    index = open_index(stored)
    index.add(bank.vectors[:5], bank.labels[:5], bank.patches[:5])
    with monkeypatch.context() as patch:
        patch.setattr(IndexFiles, "commit", crash)
        with pytest.raises(KeyboardInterrupt):
            index.flush()
    copy = stored.parent / "as the crash left it"
    shutil.copytree(stored, copy)
    index.close()
    assert (copy / "edge.2").is_dir()
    with open_index(copy, verify=True) as after:
        assert len(after) == 300 and (copy / "edge.2").is_dir()  # a reader deletes nothing
    with open_index(copy) as after:
        assert after.remove(7) == 30
        after.flush()
    assert [path.name for path in copy.glob("edge.*")] == ["edge.2"]
    with open_index(copy, verify=True) as after:
        assert len(after) == 270


def test_removed_rows_are_deleted_at_the_flush(stored: Path) -> None:
    with open_index(stored) as index:
        assert index.remove(7) == 30
        index.flush()
    assert [path.name for path in stored.glob("edge.*")] == ["edge.2"]
    with open_index(stored) as index:
        assert len(index) == 270 and index.manifest.counts["removed"] == 30


@pytest.mark.parametrize(
    ("quantization", "on_disk"),
    [("none", False), ("scalar", True), ("binary", False), ("product", False), ("turbo", False)],
)
def test_the_graph_finds_what_a_scan_finds(
    tmp_path: Path, manifest: Callable[..., Manifest], quantization: str, on_disk: bool
) -> None:
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((60, 32))
    vectors = (centres[rng.integers(60, size=800)] + 0.5 * rng.standard_normal((800, 32))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.full((800, 4), 60, dtype=np.uint8)
    place = np.arange(800, dtype=np.int32)
    patches = np.stack([place // 100, place % 100 // 10, place % 10], axis=1)
    chosen = settings_of(full_scan_threshold=10, quantization=quantization, on_disk=on_disk, oversampling=8.0)
    with create_index(tmp_path / "index", manifest(), rows=800, settings=chosen) as index:
        index.add(vectors, labels, patches)
        index.flush()
        shard = index._engine._shard  # type: ignore[attr-defined]
        assert shard.info().indexed_vectors_count == 800
        found = index.search(vectors[:50], 10).ids
    wanted = np.argsort(-(vectors[:50] @ vectors.T), axis=1, kind="stable")[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, wanted, strict=True)])
    assert recall > (0.8 if quantization in ("binary", "product") else 0.95)


def test_limits_of_the_recipe_hold(
    tmp_path: Path, manifest: Callable[..., Manifest], build: Callable[..., PatchIndex], bank: Any
) -> None:
    each = bytes_per_row(QdrantSettings(), 32)
    enough = int(each.memory * 20_000 / 1e6) + 1
    with pytest.raises(ConfigError, match="memory_limit"):
        create_index(tmp_path / "a", manifest(), rows=10**6, settings=settings_of(memory_limit=enough))
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match="disk_limit"):
        create_index(tmp_path / "b", manifest(), rows=10**6, settings=settings_of(disk_limit=1))
    with create_index(tmp_path / "c", manifest(), rows=10, settings=settings_of(memory_limit=1)) as index:
        many = np.tile(bank.vectors, (30, 1)), np.tile(bank.labels, (30, 1)), np.tile(bank.patches, (30, 1))
        with pytest.raises(ConfigError, match="memory_limit=1"):
            index.add(*many)
        assert len(index) == 0


def test_missing_vectors_are_damage(stored: Path) -> None:
    shutil.rmtree(stored / "edge.1")
    with pytest.raises(IndexDamagedError, match=r"edge\.1.* is missing"):
        open_index(stored)


def test_changed_vectors_are_damage(stored: Path) -> None:
    victim = next(
        path for path in sorted(stored.glob("edge.1/segments/*/vector_storage/**/*")) if path.is_file()
    )
    content = bytearray(victim.read_bytes())
    content[0] ^= 1
    victim.write_bytes(bytes(content))
    with pytest.raises(IndexDamagedError, match="checksum differs"):
        open_index(stored)


def test_points_of_another_number_are_damage(stored: Path) -> None:
    with open_index(stored) as index:
        engine = index._engine  # type: ignore[attr-defined]
        engine._delete([3])
        engine._shard.flush()
    manifest = read_manifest(stored)
    from retrieval import write_manifest

    write_manifest(stored, manifest)
    with pytest.raises(IndexDamagedError, match="holds 299 vectors, expected 300"):
        open_index(stored)


def test_a_full_disk_is_named(stored: Path, bank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise StorageError("the disk is full")

    with open_index(stored) as index:
        with monkeypatch.context() as patch:
            patch.setattr(edge, "copy_folder", full)
            with pytest.raises(StorageError, match="is full"):
                index.add(bank.vectors[:5], bank.labels[:5], bank.patches[:5])
        assert len(index) == 300 and (index.search(bank.queries, 5).ids >= 0).all()


def test_a_folder_that_cannot_be_written(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(StorageError, match="cannot be written"):
        open_index(stored)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("IO Error: No space left on device (os error 28)", StorageError), ("wrong magic", IndexDamagedError)],
)
def test_what_edge_says_becomes_ours(
    stored: Path, bank: Any, text: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def query_batch(self, batch: Any) -> Any:
            raise Exception(text)

    with open_index(stored) as index:
        engine = index._engine  # type: ignore[attr-defined]
        monkeypatch.setattr(engine, "_shard", Broken())
        with pytest.raises(kind):
            index.search(bank.queries, 3)
        monkeypatch.undo()


def test_a_similarity_that_is_no_product(tmp_path: Path, manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(ConfigError, match=r"index\.engine=exact"):
        create_index(
            tmp_path / "index", manifest(GradientProduct(8, 8, 9, 1.0)), rows=1, settings=settings_of()
        )


def test_the_extra_is_named(
    tmp_path: Path, manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_edge", None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[qdrant\]"):
        create_index(tmp_path / "index", manifest(), rows=1, settings=settings_of())
    assert issubclass(IndexDamagedError, IndexFileError) and edge.KIND_EDGE == "qdrant_edge"
