"""The embedded Qdrant engine on a disk without room: a sentence with numbers, and the index as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("qdrant_edge")

from retrieval import IndexSettings, PatchIndex, open_index
from retrieval.edit.convert import convert_index
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import StorageError
from retrieval.store.copying import allocated_bytes
from retrieval.store.room import check_disk, free_bytes, in_units

from ..retrieval.conftest import bank, build

__all__ = ["bank", "build"]

EDGE = IndexSettings(engine="qdrant", qdrant=QdrantSettings(threads=1))


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``free(megabytes)``: what every file system has free from now on."""

    def make(megabytes: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, megabytes * 10**6))

    return make


@pytest.fixture
def stored(tmp_path: Path, build: Callable[..., PatchIndex]) -> Path:
    with build(tmp_path / "index", EDGE) as index:
        index.flush()
    return tmp_path / "index"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """``small_disk(megabytes)``: a file system in memory, of that size; skips where none can be mounted."""
    mounted: list[Path] = []

    def make(megabytes: int) -> Path:
        place = tmp_path / f"disk{megabytes}"
        place.mkdir()
        mount = shutil.which("mount")
        command = [str(mount), "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(place)]
        if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here (that takes root)")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_room_is_that_of_the_folder_that_is_there(tmp_path: Path) -> None:
    there = free_bytes(tmp_path)
    assert there is not None and abs(there - shutil.disk_usage(tmp_path).free) < 10**9
    assert free_bytes(tmp_path / "not" / "yet" / "there") is not None


def test_the_numbers_are_said(tmp_path: Path, free: Callable[[int], None]) -> None:
    free(7)
    check_disk(tmp_path, 7e6, "this")
    with pytest.raises(StorageError, match=r"this takes about 2\.5 GB of disk, and 7 MB are free"):
        check_disk(tmp_path, 2.5e9, "this")
    assert [in_units(n) for n in (0, 7e3, 812e6, 12e9)] == ["0 kB", "7 kB", "812 MB", "12.0 GB"]


def test_a_disk_that_does_not_tell_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: Any) -> Any:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(shutil, "disk_usage", unknown)
    check_disk(tmp_path, 1e18, "this")


def test_a_new_index_is_refused_before_anything_is_written(
    tmp_path: Path, stored: Path, free: Callable[[int], None]
) -> None:
    free(127)
    with pytest.raises(StorageError, match=r"writing 300 vectors .* 128 MB .* 127 MB are free .*faiss"):
        convert_index(stored, tmp_path / "new", settings=EDGE)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["index"]
    free(129)
    assert convert_index(stored, tmp_path / "new", settings=EDGE) == 300


def test_a_change_is_refused_and_the_index_goes_on(
    stored: Path, bank: Any, free: Callable[[int], None]
) -> None:
    rows = bank.vectors[:5], bank.labels[:5], bank.patches[:5]
    with open_index(stored) as index:
        free(60)
        with pytest.raises(StorageError, match="5 vectors"):
            index.add(*rows)
        assert index.remove(3) == 30
        with pytest.raises(StorageError, match=r"copied first, takes about 6\d MB"):
            index.flush()
    with open_index(stored, verify=True) as index:
        assert len(index) == 300
        free(70)
        index.add(*rows)
        free(60)
        with pytest.raises(StorageError, match="305 vectors"):
            index.flush()  # the graph is built on a copy
    with open_index(stored, verify=True) as index:
        assert len(index) == 300 and [path.name for path in stored.glob("edge.*")] == ["edge.1"]


def test_a_change_copies_no_holes(stored: Path) -> None:
    before = allocated_bytes(stored / "edge.1")
    if before > 10 * 2**20 or not hasattr(os, "SEEK_DATA"):
        pytest.skip("this file system fills holes, or does not tell where they are")
    with open_index(stored) as index:
        assert index.remove(3) == 30
        index.flush()
    assert allocated_bytes(stored / "edge.2") < 2 * before + 2**20


CONVERT = """
import sys
from segmentation.cli import main
sys.argv[0] = "mycelia"
main()
"""


@pytest.mark.parametrize("megabytes", [8, 60, 100])
def test_the_command_ends_with_one_sentence_on_a_small_disk(
    megabytes: int, stored: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(megabytes)
    command = [sys.executable, "-c", CONVERT, "index", "convert", str(stored), "--to", "qdrant"]
    done = subprocess.run([*command, "--out", str(disk / "new")], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: writing 300 vectors with Qdrant Edge"), done.stderr
    assert [path.name for path in disk.iterdir() if not path.name.startswith(".")] == []


def test_an_index_on_a_disk_that_is_just_large_enough(
    stored: Path, small_disk: Callable[[int], Path]
) -> None:
    """Memory file systems fill holes: 52 MB of each shard are there at once."""
    disk = small_disk(150)
    assert convert_index(stored, disk / "new", settings=EDGE) == 300
    with open_index(disk / "new") as index:
        index.remove(3)
        with pytest.raises(StorageError, match="copied first"):
            index.flush()
    with open_index(disk / "new", verify=True) as index:
        assert len(index) == 300
