"""A change of an index becomes visible in one step.

The files of a state are never overwritten: a change writes new ones under names of their own
(``labels.g3.npy``), syncs them, and then replaces ``manifest.json``, which names them all. A reader sees
the old manifest or the new one, and writes nothing. Files that no manifest names any more are swept
after the step, or, where a crash prevented that, after the next one; a reader whose files were swept
before it opened them starts again with the newer manifest (``retrieval.folder``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from retrieval.errors import IndexFileError
from retrieval.store.files import atomic_write, sha256_file, storage_errors, sync_folder
from retrieval.store.manifest import (
    FORMAT,
    MANIFEST,
    PENDING,
    FileEntry,
    Manifest,
    encode_manifest,
    has_manifest,
    read_manifest,
)

#: Files and folders that whoever makes an index puts beside the engine's and the rows' own.
FEATURES, IMAGES, THUMBS = "features.safetensors", "images.jsonl", "thumbs"

#: What a change did: the new file of a name, or None where the name is no part of the index any more.
Changes = Mapping[str, Path | None]


class IndexFiles:
    """Where the files of an index lie in its present state, and where a change puts their next versions."""

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        """The files that ``manifest`` lists; None for an index that is being made."""
        self.folder = folder
        self._entries: dict[str, FileEntry] = {} if manifest is None else dict(manifest.files)
        self._generation = 0 if manifest is None else manifest.generation + 1
        self._written: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """The files of the present state."""
        return list(self._entries)

    @property
    def generation(self) -> int:
        """The number of the state that the next commit makes; 0 for the first."""
        return self._generation

    def current(self, name: str) -> Path:
        """Where a file of the present state lies, or would lie."""
        entry = self._entries.get(name)
        return self.folder / (name if entry is None else entry.path or name)

    def next(self, name: str) -> Path:
        """Where the next version of a file is written; whatever lies there is of no use to anyone."""
        path = PurePosixPath(name)
        if self._generation:
            path = path.with_name(f"{path.stem}.g{self._generation}{path.suffix}")
        self._written.add(path.as_posix())
        return self.folder / path

    def commit(self, manifest: Manifest, changes: Changes) -> Manifest:
        """Make the state that ``changes`` leads to the index's, in one step; the manifest as it was written.

        The changed files have to be complete and synced. Checksums of the others are taken over.
        Raises StorageError; the old state is then intact.
        """
        with storage_errors(self.folder):
            kept = self._entries if self._generation else self._attached()
            entries = {name: entry for name, entry in kept.items() if name not in changes}
            entries |= {name: self._entry(name, path) for name, path in changes.items() if path is not None}
            complete = replace(manifest, files=entries, format=FORMAT, generation=self._generation)
            sync_folder(self.folder)  # the new names, before the manifest that relies on them
            with atomic_write(self.folder / MANIFEST) as file:
                file.write(encode_manifest(complete))
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

    def _attached(self) -> dict[str, FileEntry]:
        """What was put into the folder of a new index, besides rows and vectors."""
        paths = [self.folder / FEATURES, self.folder / IMAGES, *sorted((self.folder / THUMBS).glob("*"))]
        names = {path.relative_to(self.folder).as_posix(): path for path in paths if path.is_file()}
        return {name: self._entry(name, path) for name, path in names.items()}

    def _entry(self, name: str, path: Path) -> FileEntry:
        place = path.relative_to(self.folder).as_posix()
        return FileEntry(path.stat().st_size, sha256_file(path), None if place == name else place)

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
        old = {entry.path or name for name, entry in self._entries.items()}
        for name in (old | self._written) - kept:
            _delete(self.folder / name)
        for name in (MANIFEST, *manifest.files):
            path = PurePosixPath(name)
            if len(path.parts) > 1:
                continue
            left = [self.folder / (name + PENDING), *self.folder.glob(f"{path.stem}.g[0-9]*{path.suffix}")]
            if name != MANIFEST:
                left.append(self.folder / name)
            for leftover in left:
                if leftover.name not in kept:
                    _delete(leftover)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest with the checksums of the files it lists, and of attached ones, as they are now.

    Use it after changing files that the index itself does not hold (features, thumbnails). Returns it
    with the checksums. Raises StorageError.
    """
    files = IndexFiles(folder, manifest)
    names: Iterable[str] = {**manifest.files, **files._attached()}
    present = {name: manifest.files[name].path if name in manifest.files else None for name in names}
    changes: dict[str, Path | None] = {name: folder / (path or name) for name, path in present.items()}
    return files.commit(manifest, changes)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # in use on Windows: a later change sweeps it
        path.unlink()
