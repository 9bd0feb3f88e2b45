"""A build that cannot find room is refused before any work, with the numbers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from indexer.bank import build, room
from indexer.bank.build import build_index
from indexer.bank.jobs import jobs_of
from indexer.bank.room import need_of
from indexer.datasets import Dataset
from retrieval.errors import ConfigError, StorageError
from retrieval.store import room as store_room
from retrieval.store.room import check_memory, free_memory

from ..indexer.conftest import labelled_folder, tiny_extractor, tiny_recipe

__all__ = ["labelled_folder", "tiny_extractor", "tiny_recipe"]

Make = Callable[..., Any]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def leave(patch: pytest.MonkeyPatch, *, disk: int, memory: int) -> None:
    """So many bytes are free from now on."""
    patch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, disk))
    patch.setattr(store_room, "free_memory", lambda: memory)


def test_the_arithmetic(labelled_folder: Callable[..., Dataset], tiny_extractor: Make) -> None:
    """Six images share 48 patches: 8 rows each, of W numbers and 3 classes."""
    dataset = labelled_folder(6)
    jobs = jobs_of(dataset.samples, 1)
    extractor = tiny_extractor("index.engine=exact")
    width = extractor.similarity.width
    need = need_of(extractor, jobs, total=6, classes=3)
    assert need.rows == 48
    assert need.disk == 48 * (2 * width + 3 + 12) + 48 * (width + 12) + 2 * 6 * 4000
    assert need.memory == 48 * (2 * width + 3 + 12 + 4 * width)
    trained = need_of(tiny_extractor("index.engine=faiss"), jobs, total=6, classes=3)
    assert trained.disk == need.disk and trained.memory == need.memory + 48 * 4 * width + 48 * width


def test_it_is_no_more_than_a_build_takes(
    labelled_folder: Callable[..., Dataset],
    tiny_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is refused would not have fitted: parts and index are at least as large."""
    dataset, needs, taken = labelled_folder(6), [], []
    monkeypatch.setattr(room, "_THUMB", 0)

    def noting(*arguments: Any, **options: Any) -> Any:
        needs.append(need_of(*arguments, **options))
        return needs[-1]

    def assembled(*arguments: Any, **options: Any) -> int:
        rows = assemble(*arguments, **options)
        partial = tmp_path / "x.partial"
        taken.append(sum(path.stat().st_size for path in partial.rglob("*") if path.is_file()))
        return rows

    assemble = build._assemble
    monkeypatch.setattr(room, "need_of", noting)
    monkeypatch.setattr(build, "_assemble", assembled)
    recipe = tiny_recipe("index.engine=exact", "features.kind=embeddings")
    rows = build_index(dataset, tmp_path / "x", recipe=recipe).rows
    assert rows <= needs[0].rows and 0 < needs[0].disk < taken[0]


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_a_build_that_does_not_fit_is_refused_at_once(
    engine: str,
    labelled_folder: Callable[..., Dataset],
    tiny_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, recipe = labelled_folder(4), tiny_recipe(f"index.engine={engine}", "features.kind=embeddings")
    with monkeypatch.context() as patch:
        leave(patch, disk=1000, memory=10**12)
        with pytest.raises(
            StorageError, match=r"index of 48 rows of 64 numbers takes about .*bank\.max_patches"
        ):
            build_index(dataset, tmp_path / "x", recipe=recipe)
        leave(patch, disk=10**12, memory=1000)
        with pytest.raises(
            ConfigError, match=r"48 rows of 64 numbers takes at least \d+ kB of memory, and 1 kB"
        ):
            build_index(dataset, tmp_path / "x", recipe=recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    build_index(dataset, tmp_path / "x", recipe=recipe)


def test_what_is_there_already_need_not_fit_again(
    labelled_folder: Callable[..., Dataset],
    tiny_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, recipe = labelled_folder(4), tiny_recipe("index.engine=exact", "features.kind=embeddings")

    def stop(*arguments: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "_assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(dataset, tmp_path / "x", recipe=recipe)
    (tmp_path / "x.partial" / "thumbs" / "large.jpg").write_bytes(b"x" * 200_000)
    with monkeypatch.context() as patch:
        leave(patch, disk=1000, memory=10**12)
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert (tmp_path / "x" / "manifest.json").is_file()


def test_memory_is_asked_for_where_the_system_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    found = free_memory()
    assert found is None or 2**20 < found < 2**50
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert free_memory() == 2 * 2**20
    with pytest.raises(
        ConfigError, match=r"this takes at least 3 MB of memory, and 2 MB are free; .*, or rest"
    ):
        check_memory(3e6, "this", instead=", or rest")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "MemTotal: 9 kB\n")
    assert free_memory() is None
    check_memory(1e18, "this")
