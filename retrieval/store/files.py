"""Files that survive a crash: written under another name, synced, then renamed into place."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import StorageError

#: Ending of a file that is still being written; whoever finds one after a crash may delete it.
PARTIAL = ".part"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
#: Something of another kind stands in the way: a file where a folder should be, or the reverse.
_OCCUPIED = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}

#: The disk, or the server that has it, does not do what it was asked to; not all systems know all of these.
_FAILED = {
    getattr(errno, name)
    for name in ("EIO", "ENXIO", "ENODEV", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EREMOTEIO", "EHOSTDOWN")
    if hasattr(errno, name)
}


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write in ``folder`` into StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"the disk that holds {folder} is full; free some space and run the command again "
                "(what was there before is unchanged)"
            ) from error
        if error.errno in _FORBIDDEN:
            raise StorageError(
                f"{folder} cannot be written ({os.strerror(error.errno)}); "
                "change its permissions or choose another folder"
            ) from error
        if error.errno in _OCCUPIED:
            place = error.filename2 or error.filename or folder
            raise StorageError(
                f"{place} cannot be written ({os.strerror(error.errno)}); choose another name"
            ) from error
        if error.errno in _FAILED:
            raise StorageError(
                f"the disk that holds {folder} fails ({os.strerror(error.errno or 0)}); check the disk, "
                "and then what is there with `mycelia index verify`"
            ) from error
        raise


def is_unreadable(error: OSError) -> bool:
    """Whether the system refused to read a file that is there, rather than to write one."""
    path = error.filename
    return (
        error.errno in _FORBIDDEN
        and path is not None
        and os.path.lexists(path)
        and not os.access(path, os.R_OK)
    )


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces ``path`` when the block ends well, and leaves it alone otherwise.

    The bytes are synced to the disk before the rename. Raises StorageError for a full disk or a
    folder that cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    with storage_errors(path.parent):
        try:
            with partial.open("wb") as file:
                yield file
                sync_file(file)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_file(file: BinaryIO) -> None:
    """Force what was written to ``file`` onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force the renames in ``folder`` onto the disk, where the system can (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force every file below ``folder``, and all folders with their names, onto the disk."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            # a copy of a read-only file is read-only, and only Windows asks for more than that
            descriptor = os.open(Path(root) / name, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
