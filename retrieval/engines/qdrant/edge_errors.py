"""What Qdrant Edge raises, plain exceptions told apart by their text, as errors of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import IndexDamagedError, StorageError

#: What the system may say of a disk, in Edge's errors: full, over a quota, failing, forbidden.
_DISK = (
    *("No space left", "Permission denied", "Read-only file system", "Input/output error", "File too large"),
    *(f"os error {number})" for number in (5, 13, 27, 28, 30, 122)),
)


@contextmanager
def edge_errors(folder: Path) -> Iterator[None]:
    """Turn what Edge raises of its shard in ``folder`` into StorageError, or IndexDamagedError."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise  # not Edge's
        text = " ".join(str(error).split())
        if any(sign in text for sign in _DISK):
            text = re.sub(r".*: ([^:]*\(os error \d+\)).*", r"\1", text)  # less the path of each layer
            raise StorageError(
                f"Qdrant Edge cannot write {folder} ({text}); free some space, check the disk "
                "or make the folder writable, and run the command again (what was committed is unchanged)"
            ) from error
        raise IndexDamagedError(
            f"Qdrant Edge cannot use {folder} ({text[-300:]}); restore it from a copy or build the "
            "index again"
        ) from error
