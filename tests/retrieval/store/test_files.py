"""Files that are written whole, and what is said where they cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from retrieval import (
    ImageRecord,
    read_images,
    write_images,
)
from retrieval.errors import (
    IndexDamagedError,
    StorageError,
)
from retrieval.store.files import atomic_write, storage_errors

RECORDS = [
    ImageRecord(0, "a", "photos/a\u2028b.jpg", "ab" * 32, 480, 640, 30),
    ImageRecord(1, "b", "photos/b.jpg", "cd" * 32, 10, 20, 30, removed=True),
]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_atomic_write_keeps_the_old_file(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match=str(tmp_path)), atomic_write(path) as file:
        file.write(b"new")
        raise OSError(number, os.strerror(number))
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"old"
    with pytest.raises(StorageError, match="fails"), atomic_write(path) as file:
        raise OSError(errno.EIO, "input or output error")
    with pytest.raises(OSError, match="odd"), atomic_write(path) as file:
        raise OSError(errno.EDOM, "odd")


def test_something_else_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="folder cannot be written"),
        atomic_write(tmp_path / "folder") as file,
    ):
        file.write(b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    for place in ("file", "file/below"):
        with pytest.raises(StorageError, match=f"{place} cannot be written"), storage_errors(tmp_path):
            (tmp_path / place).mkdir()


def test_bad_image_record_is_named_by_its_line(tmp_path: Path) -> None:
    path = write_images(tmp_path, RECORDS)
    assert read_images(tmp_path) == RECORDS
    path.write_bytes(path.read_bytes() + b'{"number": 3}\n')
    with pytest.raises(IndexDamagedError, match="line 3"):
        read_images(tmp_path)
    write_images(tmp_path, [])
    assert read_images(tmp_path) == []
