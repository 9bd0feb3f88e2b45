"""A committed folder of Qdrant Edge is opened by second names of its files, so that nothing happens to it.

Edge repairs what it cannot load: where a disk fails or is full while it opens a payload index, it deletes
that index and begins another, even if all that was asked for is to read. What it deletes or puts in the
place of a file under a second name (a hard link) leaves the file there under its first.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from retrieval.store.files import PARTIAL, storage_errors

#: The folder of the second names, in that of the index; there only while the index is open.
OPENED = f"edge-open{PARTIAL}"

#: What systems say that have no hard links, or not for everyone.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}


def linked(folder: Path) -> Path:
    """A folder beside ``folder`` with second names of all its files; ``folder`` where there can be none.

    One that is there already goes first. Raises StorageError for a disk that is full or fails.
    """
    target = folder.with_name(OPENED)
    unlink(folder.parent)
    with storage_errors(folder.parent):
        target.mkdir()
        for path in sorted(folder.rglob("*")):  # a folder comes before what is in it
            place = target / path.relative_to(folder)
            if path.is_dir():
                place.mkdir()
                continue
            try:
                os.link(path, place)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                unlink(folder.parent)
                return folder
    return target


def unlink(folder: Path) -> None:
    """Take the second names of an index's folder away."""
    shutil.rmtree(folder / OPENED, ignore_errors=True)


def listing(folder: Path) -> dict[str, int]:
    """Bytes of every file below a folder, by path; to open it dates them anew."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }
