"""Copies of files and folders: holes stay holes, and what goes wrong is one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import StorageError
from retrieval.store.files import storage_errors

#: Bytes read at a time.
_PIECE = 1 << 20


def copy_file(source: Path, target: Path, *, dated: bool = False) -> None:
    """Copy a file, over ``target`` where it is there; its dates and permissions only where ``dated``.

    Holes of a sparse file stay holes where the system tells where they are; else they are filled. Not synced.
    Raises StorageError, naming the file that cannot be read or the folder that cannot be written; nothing
    is left of ``target`` then.
    """
    with _readable(source):
        file = source.open("rb")
    with file:
        if target.exists() and os.path.samestat(os.fstat(file.fileno()), target.stat()):
            raise StorageError(f"{source} and {target} are one file; copy it to another place")
        try:
            with storage_errors(target.parent), target.open("wb") as out:
                _copy(file, out, source)
            if dated:
                with storage_errors(target.parent):
                    shutil.copystat(source, target)
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise


def copy_folder(source: Path, target: Path) -> None:
    """Copy all files below a folder into the new folder ``target``, links followed; see :func:`copy_file`.

    Raises StorageError at the first that cannot be copied; those before it are there then.
    """
    with storage_errors(target.parent):
        target.mkdir(parents=True)
    with _readable(source):
        entries = sorted(source.iterdir())
    for path in entries:
        copy = copy_folder if path.is_dir() else copy_file
        copy(path, target / path.name)


def allocated_bytes(folder: Path) -> int:
    """Bytes of disk that the files below a folder take, holes aside where the system tells."""
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process may be at work there
            if path.is_file():
                sizes.append(path.stat())
    return sum(found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size for found in sizes)


def _copy(file: BinaryIO, out: BinaryIO, source: Path) -> None:
    size = os.fstat(file.fileno()).st_size
    for start, stop in _data(file.fileno(), size):
        file.seek(start)
        out.seek(start)
        left = stop - start
        while left > 0:
            with _readable(source):
                piece = file.read(min(_PIECE, left))
            if not piece:
                break  # cut short meanwhile
            out.write(piece)
            left -= len(piece)
    out.truncate(size)


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Start and end of each stretch of a file that is no hole; all of it where that cannot be told."""
    if not hasattr(os, "SEEK_DATA"):
        yield 0, size
        return
    start = 0
    while start < size:
        try:
            start = os.lseek(descriptor, start, os.SEEK_DATA)
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # not: nothing but a hole is left
                yield start, size
            return
        yield start, stop
        start = stop


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(f"{path} cannot be read to copy it ({why}); check it and its disk") from error
