"""A change of an index becomes visible in one step.

The files of a state are never overwritten: a change writes new ones under names of their own
(``labels.g3.npy``), or rows behind those that a state has of a growing file, syncs them, and then replaces
``manifest.json``, which names them all and says how far each one goes. A reader sees
the old manifest or the new one, and writes nothing. Files that no manifest names any more are swept
after the step, or, where a crash prevented that, after the next one that names a file of that name. A
reader whose files were swept before it opened them starts again with the newer manifest
(``retrieval.folder``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from retrieval.errors import IndexFileError, StorageError
from retrieval.store.blocks import block_digests, sum_of_blocks
from retrieval.store.files import atomic_write, sha256_file, storage_errors, sync_folder
from retrieval.store.layout import FEATURES, IMAGES, MANIFEST, THUMBS
from retrieval.store.manifest import (
    FORMAT,
    PENDING,
    FileEntry,
    Manifest,
    encode_manifest,
    has_manifest,
    read_manifest,
)

#: What a change did: the new file of a name, or None where the name is no part of the index any more.
Changes = Mapping[str, Path | None]

#: The name of a version: what comes before its number, and the suffix.
_VERSION = re.compile(r"(.+)\.g\d+(\.[^./]+)")


class IndexFiles:
    """Where the files of an index lie in its present state, and where a change puts their next versions."""

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        """The files that ``manifest`` lists; None for an index that is being made."""
        self.folder = folder
        self._entries: dict[str, FileEntry] = {} if manifest is None else dict(manifest.files)
        self._generation = 0 if manifest is None else manifest.generation + 1
        self._written: set[str] = set()
        self._growing: set[str] = set()
        self._is_spent = False

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """The files of the present state."""
        return list(self._entries)

    @property
    def generation(self) -> int:
        """The number of the state that the next commit makes; 0 for the first."""
        return self._generation

    def entry(self, name: str) -> FileEntry | None:
        """What the present state says of a file."""
        return self._entries.get(name)

    def grow(self, name: str) -> None:
        """Sum up a file block by block, since rows are appended to it."""
        self._check_not_spent()
        self._growing.add(name)

    def current(self, name: str) -> Path:
        """Where a file of the present state lies, or would lie."""
        entry = self._entries.get(name)
        return self.folder / (name if entry is None else entry.path or name)

    def next(self, name: str) -> Path:
        """Where the next version of a file is written; what lies there is of no state.

        Raises StorageError after a commit whose outcome is not known.
        """
        self._check_not_spent()
        path = PurePosixPath(name)
        if self._generation:
            path = path.with_name(f"{path.stem}.g{self._generation}{path.suffix}")
        self._written.add(path.as_posix())
        return self.folder / path

    def commit(self, manifest: Manifest, changes: Changes) -> Manifest:
        """Make the state that ``changes`` leads to the index's, in one step; the manifest as it was written.

        The changed files have to be complete and synced. Checksums of the others are taken over. After
        a StorageError the old state or the new one is there, whole; where it is the new one, these
        files take no further change.
        """
        self._check_not_spent()
        with storage_errors(self.folder):
            kept = self._entries if self._generation else self._attached()
            entries = {name: entry for name, entry in kept.items() if name not in changes}
            entries |= {name: self._entry(name, path) for name, path in changes.items() if path is not None}
            complete = replace(manifest, files=entries, format=FORMAT, generation=self._generation)
            sync_folder(self.folder)  # the new names, before the manifest that relies on them
            try:
                with atomic_write(self.folder / MANIFEST) as file:
                    file.write(encode_manifest(complete))
            except BaseException:
                self._is_spent = self._is_committed()
                raise
        self._sweep(complete)
        self._entries, self._generation = dict(entries), complete.generation + 1
        self._written.clear()
        return complete

    def discard(self) -> None:
        """Delete what was written for a change and never committed."""
        if self._written and (listed := self._listed_on_disk()) is not None:
            for name in self._written - listed:
                _delete(self.folder / name)
        self._written.clear()

    def _check_not_spent(self) -> None:
        if self._is_spent:
            raise StorageError(
                f"the last change of {self.folder} could not be completed, though its files are in place; "
                "check the disk, and open the index again"
            )

    def _is_committed(self) -> bool:
        """Whether the manifest on disk is that of the state in the making, or cannot be read."""
        try:
            return has_manifest(self.folder) and read_manifest(self.folder).generation == self._generation
        except (IndexFileError, OSError):
            return True

    def _attached(self) -> dict[str, FileEntry]:
        """What was put into the folder of a new index, besides rows and vectors."""
        paths = [self.folder / FEATURES, self.folder / IMAGES, *sorted((self.folder / THUMBS).glob("*"))]
        names = {path.relative_to(self.folder).as_posix(): path for path in paths if path.is_file()}
        return {name: self._entry(name, path) for name, path in names.items()}

    def _entry(self, name: str, path: Path) -> FileEntry:
        place = path.relative_to(self.folder).as_posix()
        where, size, known = None if place == name else place, path.stat().st_size, self._entries.get(name)
        before = known if known is not None and known.blocks is not None and known.path == where else None
        if name not in self._growing and before is None:
            return FileEntry(size, sha256_file(path), where)
        same = before if name in self._growing else None  # by hand: summed up anew
        digests = block_digests(path, size, *(() if same is None else (same.blocks or (), same.bytes)))
        return FileEntry(size, sum_of_blocks(digests), where, digests)

    def _listed_on_disk(self) -> set[str] | None:
        """Where the files of the state on disk lie; None where that cannot be told."""
        try:
            files = read_manifest(self.folder).files if has_manifest(self.folder) else {}
        except IndexFileError:
            return None
        return {entry.path or name for name, entry in files.items()}

    def _sweep(self, manifest: Manifest) -> None:
        """Delete the files of earlier states: those known, and those that a crash left."""
        kept = {entry.path or name for name, entry in manifest.files.items()}
        known = {entry.path or name for name, entry in self._entries.items()} | self._written
        for folder in {PurePosixPath(name).parent for name in (MANIFEST, *manifest.files)}:
            for path in (self.folder / folder).glob("*"):
                place = (folder / path.name).as_posix()
                if place in kept:
                    continue
                name = place.removesuffix(PENDING)
                version = _VERSION.fullmatch(name)
                base = name if version is None else version[1] + version[2]
                if place in known or base in manifest.files or place == MANIFEST + PENDING:
                    _delete(path)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest with the checksums of the files it lists as they are now; returns it with them.

    Raises StorageError.
    """
    changes: dict[str, Path | None] = {name: manifest.place(folder, name) for name in manifest.files}
    return IndexFiles(folder, manifest).commit(manifest, changes)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # in use on Windows: a later change sweeps it
        path.unlink()
