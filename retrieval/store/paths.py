"""Paths as they come: links that lead in a circle, names that are no text, things that are no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import ConfigError

#: What a path may name besides a file and a folder; reading some of these never ends.
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def real_path(path: str | Path) -> Path:
    """The absolute path with links followed, as ``Path.resolve``; one that leads in a circle stays as it is.

    ``Path.resolve`` raises RuntimeError there before Python 3.13.
    """
    return Path(os.path.realpath(path))


def special_kind(path: str | Path) -> str | None:
    """``a pipe``, ``a socket`` or ``a device`` where ``path`` is one, or None. Never raises or waits."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), None)


def leads_nowhere(path: Path) -> bool:
    """Whether ``path`` is a link without an end: to what is not there, or in a circle."""
    return path.is_symlink() and not path.exists()


@contextmanager
def text_path(path: Path, *, new: bool = False) -> Iterator[str]:
    """A name of the file ``path`` that is text, for libraries that take no other; good within the block.

    Where its name is no text, the system's own name of the opened file, or of its opened folder, stands for
    it. Raises OSError, and ConfigError where there is no such name, as of a ``new`` file.
    """
    if _text_or_none(str(path)) is not None:
        yield str(path)
        return
    ending = _text_or_none(path.name)
    if new and ending is None:
        raise ConfigError(f"the name of {path} is not UTF-8, which is needed here; choose another")
    opened = os.open(path if ending is None else path.parent, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        place = next((p for p in (f"/proc/self/fd/{opened}", f"/dev/fd/{opened}") if Path(p).exists()), None)
        if place is None:
            raise ConfigError(f"the name of {path} is not UTF-8, which is needed here; choose another")
        yield place if ending is None else f"{place}/{ending}"
    finally:
        os.close(opened)


def _text_or_none(name: str) -> str | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return name
