"""A folder that is made beside its place and appears there whole, synced, or not at all."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import IndexBusyError, IndexExistsError
from retrieval.store.files import storage_errors, sync_folder, sync_tree
from retrieval.store.lock import Lock
from retrieval.store.manifest import has_manifest, is_index
from retrieval.store.paths import leads_nowhere, real_path

#: Ending of what a new folder is about to replace.
_OLD = ".old"

#: The purpose in the name of a workspace whose result is in place.
_DONE = "done"


def check_free(out: Path) -> None:
    """Raise IndexExistsError unless ``out`` is nothing or an empty folder, and in no other index.

    What a build that was killed in its last step left beside a finished index goes.
    """
    check_end(out)
    check_outside(out)
    if out.is_dir() and has_manifest(out):
        with contextlib.suppress(OSError):
            for left in _left(out, _DONE):
                shutil.rmtree(left, ignore_errors=True)
        raise IndexExistsError(f"{out} holds an index already; choose another --out or delete it first")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise IndexExistsError(f"{out} exists and is no index; choose another --out")


def check_end(out: Path) -> None:
    """Raise IndexExistsError where ``out`` is a link that ends nowhere: nothing can be made at its end."""
    if leads_nowhere(out):
        raise IndexExistsError(
            f"{out} is a link that leads nowhere or in a circle; delete it or choose another --out"
        )


def check_outside(out: Path) -> None:
    """Raise IndexExistsError where ``out`` would lie inside an index, whose files are its own."""
    for folder in real_path(out).parents:
        if is_index(folder):
            raise IndexExistsError(
                f"{out} lies inside the index {folder}, whose files are its own; choose another --out"
            )


@contextmanager
def staging(out: Path, purpose: str, *, replace: bool = False) -> Iterator[Path]:
    """A new, empty folder beside ``out`` that takes its place when the block ends well, and goes when not.

    ``purpose`` (a word) is in the folder's name; what a killed run with the same purpose left beside
    ``out`` is deleted. ``replace`` puts it in the place of a folder that is there. Raises
    IndexExistsError where ``out`` is taken, IndexBusyError where another process makes it, StorageError.
    """
    out = _named(out)
    with reserved(out, replace=replace):
        _tidy(out, purpose)
        folder = out.with_name(f"{out.name}.{purpose}-{secrets.token_hex(4)}")
        try:
            with storage_errors(out.parent):
                folder.mkdir()
            yield folder
            publish(folder, out, replace=replace)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def workspace(out: Path, folder: Path, result: str) -> Iterator[None]:
    """The right to work in ``folder`` on what will be ``out``; the folder survives errors.

    When the block has ended well, the subfolder ``result`` takes the name ``out``, and the rest goes.
    Raises as :func:`staging` does.
    """
    with reserved(out):
        _take_up(out, folder, result)
        with storage_errors(out.parent):
            folder.mkdir(exist_ok=True)
        yield
        done = out.with_name(f"{out.name}.{_DONE}-{secrets.token_hex(4)}")
        with storage_errors(out.parent):
            folder.replace(done)  # first: a folder half deleted must not be taken for a build's
        try:
            publish(done / result, out)
        except BaseException:
            with contextlib.suppress(OSError):  # the next build takes it up from there
                if (done / result).exists():
                    done.replace(folder)
            raise
        shutil.rmtree(done, ignore_errors=True)


def _take_up(out: Path, folder: Path, result: str) -> None:
    """Make a workspace again of one that was killed before its result had its name; others go."""
    for left in _left(out, _DONE):
        if (left / result).is_dir() and not folder.exists():
            with storage_errors(out.parent):
                left.replace(folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def reserved(out: Path, *, replace: bool = False) -> Iterator[None]:
    """``out`` for this process alone: every command that makes something there excludes the others."""
    out = _named(out)
    if not replace:
        check_free(out)
    with storage_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(f"make {out}", wait=0)
    except IndexBusyError:
        raise IndexBusyError(
            f"another process is making {out} right now; wait for it or choose another --out"
        ) from None
    try:
        if not replace:
            check_free(out)  # once more: whoever had the lock until now may have finished
        yield
    finally:
        lock.release()


def publish(folder: Path, out: Path, *, replace: bool = False) -> None:
    """Sync all of ``folder`` and give it the name ``out``, in the place of what is there with ``replace``.

    Raises StorageError; ``out`` is then what it was before, or the new folder, whole.
    """
    with storage_errors(out.parent):
        sync_tree(folder)
        if not (replace and out.exists()):
            if out.is_dir():
                out.rmdir()  # empty, as check_free saw
            folder.replace(out)
            sync_folder(out.parent)
            return
        old = folder.with_name(folder.name + _OLD)
        out.rename(old)
        try:
            folder.replace(out)
        except BaseException:
            old.rename(out)
            raise
        sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(out: Path, purpose: str) -> None:
    """Delete what killed runs with this purpose left; what one had put aside to replace comes back."""
    for path in _left(out, purpose):
        if path.name.endswith(_OLD) and not out.exists():
            path.rename(out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _left(out: Path, purpose: str) -> list[Path]:
    """What runs with this purpose have put beside ``out``."""
    name = re.compile(rf"{re.escape(out.name)}\.{purpose}-[0-9a-f]{{8}}({re.escape(_OLD)})?")
    return sorted(path for path in out.parent.iterdir() if name.fullmatch(path.name))


def _named(out: Path) -> Path:
    """The same place by a path that ends in its name, which ``.`` and ``..`` do not."""
    return out if out.name not in ("", "..") else real_path(out)
