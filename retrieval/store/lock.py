"""One at a time: a lock that processes and threads wait for."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from filelock import FileLock, Timeout

from retrieval.errors import IndexBusyError
from retrieval.store.files import storage_errors

#: Seconds that a change of an index waits for another.
WAIT = 60.0

logger = logging.getLogger("mycelia")


class Lock:
    """A lock file that is there while somebody has it; held by this object, whichever thread asks."""

    def __init__(self, path: Path) -> None:
        """``path`` is the lock's file; its folder has to exist when the lock is taken."""
        self.path = path
        self._lock = FileLock(path, thread_local=False)

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return bool(self._lock.is_locked)

    def acquire(self, what: str, *, wait: float = WAIT) -> None:
        """Take the lock to do ``what`` (a phrase for messages), waiting for whoever has it.

        Waiting is said to the logger ``mycelia``. Raises IndexBusyError after ``wait`` seconds,
        StorageError where the file cannot be written.
        """
        with storage_errors(self.path.parent):
            try:
                self._lock.acquire(timeout=0)
                return
            except Timeout:
                pass
            if wait > 0:
                logger.info("waiting for another process to %s (%.0f s at most)", what, wait)
            try:
                self._lock.acquire(timeout=wait)
            except Timeout:
                raise IndexBusyError(
                    f"another process began to {what} and has not finished after {wait:.0f} s; "
                    "wait for it, or stop it, and run the command again"
                ) from None

    def release(self) -> None:
        """Give the lock back and take its file away; does nothing where it is not held."""
        if self.held:
            # Before the release: whoever opened this file meanwhile finds it unlinked and opens a new one.
            with contextlib.suppress(OSError):
                self.path.unlink()
            self._lock.release()
