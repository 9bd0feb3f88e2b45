"""Copies of files: every byte, holes as holes, and errors in one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import StorageError
from retrieval.store import copying
from retrieval.store.copying import allocated_bytes, copy_file, copy_folder

MEGABYTE = 1 << 20


def sparse(path: Path, pieces: dict[int, bytes], size: int) -> Path:
    """A file of ``size`` bytes, holes but for the pieces at their places."""
    with path.open("wb") as file:
        for start, piece in pieces.items():
            file.seek(start)
            file.write(piece)
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        ({}, 0),
        ({}, 3 * MEGABYTE),
        ({0: b"at the start"}, 12),
        ({0: b"at the start"}, 2 * MEGABYTE + 5),
        ({MEGABYTE + 1: b"inside", 3 * MEGABYTE - 4: b"last"}, 3 * MEGABYTE),
        ({0: bytes(range(256)) * 12_000}, 256 * 12_000),
    ],
)
@pytest.mark.parametrize("told", [True, False], ids=["holes", "no-holes"])
def test_a_copy_has_the_same_bytes(
    pieces: dict[int, bytes], size: int, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sparse(tmp_path / "source", pieces, size)
    if not told:
        monkeypatch.delattr(os, "SEEK_DATA", raising=False)
    (tmp_path / "target").write_bytes(b"longer than it was" * MEGABYTE)
    copy_file(source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_a_system_that_cannot_seek_holes_gives_a_plain_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "SEEK_DATA"):
        pytest.skip("this system tells nothing of holes")
    source = sparse(tmp_path / "source", {MEGABYTE: b"inside"}, 2 * MEGABYTE)
    seek = os.lseek

    def refusing(descriptor: int, place: int, how: int) -> int:
        if how == os.SEEK_DATA:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return seek(descriptor, place, how)

    monkeypatch.setattr(os, "lseek", refusing)
    copy_file(source, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_holes_of_a_folder_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "one" / "below").mkdir(parents=True)
    sparse(tmp_path / "one" / "a", {8 * MEGABYTE: b"x"}, 32 * MEGABYTE)
    sparse(tmp_path / "one" / "below" / "b", {}, 32 * MEGABYTE)
    if allocated_bytes(tmp_path / "one") > MEGABYTE or not hasattr(os, "SEEK_DATA"):
        pytest.skip(f"the file system of {tmp_path} has no holes")
    copy_folder(tmp_path / "one", tmp_path / "two")
    assert allocated_bytes(tmp_path / "two") == allocated_bytes(tmp_path / "one")
    for name in ("a", "below/b"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_dates_come_along_where_they_are_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "photo.jpg"
    source.write_bytes(b"photo")
    os.utime(source, (1e9, 1e9))
    copy_file(source, tmp_path / "new")
    copy_file(source, tmp_path / "dated", dated=True)
    assert (tmp_path / "new").stat().st_mtime > 1.5e9
    assert (tmp_path / "dated").stat().st_mtime == 1e9


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"missing cannot be read to copy it \(No such file"):
        copy_file(tmp_path / "missing", tmp_path / "target")
    with pytest.raises(StorageError, match=r"missing cannot be read to copy it"):
        copy_folder(tmp_path / "missing", tmp_path / "folder")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "is full"), (errno.EDQUOT, "is full"), (errno.EIO, "fails"), (errno.EROFS, "cannot be")],
)
def test_what_cannot_be_written_leaves_nothing(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_bytes(b"some bytes")
    copy = copying._copy

    def failing(file: Any, out: Any, source: Path) -> None:
        copy(file, out, source)
        if source.name == "b":
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(copying, "_copy", failing)
    with pytest.raises(StorageError, match=says):
        copy_folder(tmp_path / "one", tmp_path / "two")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["a"]
