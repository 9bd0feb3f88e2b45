"""The row store: what is known of every row of an index besides its vector."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.neighbors import Filter
from retrieval.store.commit import IndexFiles
from retrieval.store.files import atomic_write
from retrieval.store.label_file import LabelFile
from retrieval.store.row_file import RowFile

PATCHES, REMOVED, MULTIPLICITY = "patches.npy", "removed.npy", "weights.npy"

#: Rows whose labels are moved together.
_RELABELLED = 1 << 16


class RowStore:
    """Labels, positions, multiplicity and tombstones of the rows 0..N-1; a row's id is its position.

    ``labels.npy`` holds soft labels (``retrieval.store.label_file``), ``patches.npy`` (N, 3) int32 image
    number, grid row and grid column, ``weights.npy`` (N,) float32 how many patches a row stands
    for, ``removed.npy`` the ids of removed rows in rising order, int64. The first three are
    memory-mapped and only ever grow; without ``weights.npy`` every row stands for one patch.
    """

    def __init__(
        self,
        files: IndexFiles,
        labels: LabelFile,
        patches: RowFile,
        multiplicity: RowFile | None,
        removed: npt.NDArray[np.int64],
    ) -> None:
        self._files = files
        self._labels = labels
        self._patches = patches
        self._multiplicity = multiplicity
        self._multiple_from: int | None = None  # rows before those that made the file necessary
        self._removed = removed
        self._removed_changed = False
        self._dominant = np.empty(0, dtype=np.int32)

    @classmethod
    def create(cls, files: IndexFiles, classes: int) -> RowStore:
        """An empty store for ``classes`` columns; nothing is written before the first rows."""
        patches = RowFile(files, PATCHES, (3,), np.int32)
        store = cls(files, LabelFile.create(files, classes), patches, None, np.empty(0, dtype=np.int64))
        store._removed_changed = True
        return store

    @classmethod
    def open(cls, files: IndexFiles, classes: int, layout: Mapping[str, Any]) -> RowStore:
        """Open the files of an index; raises IndexDamagedError when they do not fit each other.

        ``layout`` is what the manifest says of the labels.
        """
        labels = LabelFile.open(files, classes, layout)
        patches = RowFile.open(files, PATCHES, (3,), np.int32)
        multiple = MULTIPLICITY in files
        multiplicity = RowFile.open(files, MULTIPLICITY, (), np.float32) if multiple else None
        removed = _read_removed(files.current(REMOVED))
        fits = len(labels) == len(patches) and (multiplicity is None or len(multiplicity) == len(patches))
        if not fits or (removed.size and not 0 <= removed[0] <= removed[-1] < len(labels)):
            raise IndexDamagedError(
                f"{files.folder} holds {len(labels)} labels, {len(patches)} patch positions, "
                f"{'no' if multiplicity is None else len(multiplicity)} weights and removed rows "
                f"that do not belong together; {REPAIR}"
            )
        return cls(files, labels, patches, multiplicity, removed)

    def __len__(self) -> int:
        """Rows ever added, removed ones included: the id of the next row."""
        return len(self._patches)

    @property
    def removed(self) -> int:
        """Number of removed rows."""
        return len(self._removed)

    @property
    def layout(self) -> dict[str, Any]:
        """What the manifest says of the labels: their kind."""
        return self._labels.layout

    def append(
        self,
        labels: npt.NDArray[Any],
        patches: npt.NDArray[Any],
        multiplicity: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Append labels (n, C) uint8, patches (n, 3) int32, multiplicity (n,); all or none of them."""
        before = len(self)
        try:
            self._labels.append(labels)
            self._patches.append(patches)
            self._append_multiplicity(before, len(patches), multiplicity)
        except BaseException:
            self.keep(before)
            raise

    def keep(self, rows: int) -> None:
        """Forget the rows after the first ``rows`` (undoes the last append)."""
        if self._multiplicity is not None and self._multiple_from is not None and rows <= self._multiple_from:
            self._multiplicity.close()  # the rows that made it necessary are gone
            self._multiplicity = self._multiple_from = None
        for file in self._row_files():
            file.keep(rows)
        self._dominant = self._dominant[:rows]

    def labels(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Soft labels of rows: ids (...) -> (..., C) uint8, 0 for the id -1."""
        return self._labels.read(ids)

    def multiplicity(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
        """How many patches rows stand for: ids (...) -> (...) float32, 0 for the id -1; None: all for one."""
        if self._multiplicity is None:
            return None
        if len(self._multiplicity) == 0:
            return np.zeros(ids.shape, dtype=np.float32)
        return np.where(ids < 0, np.float32(0), self._multiplicity.array()[np.maximum(ids, 0)])

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row, grid column of rows: ids (...) -> (..., 3) int32, -1 for the id -1."""
        stored = self._patches.array()
        if len(stored) == 0:
            return np.full((*ids.shape, 3), -1, dtype=np.int32)
        found: npt.NDArray[np.int32] = np.asarray(stored[np.maximum(ids, 0)])
        found[ids < 0] = -1
        return found

    def live(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.int64]:
        """Ids of the rows ``start`` to ``stop`` that are not removed, rising, (n,) int64."""
        ids = np.arange(start, len(self) if stop is None else min(stop, len(self)), dtype=np.int64)
        return ids[~np.isin(ids, self._removed)]

    def live_of(self, image: int) -> npt.NDArray[np.int64]:
        """Ids of an image number's live rows, rising, (n,) int64."""
        rows = np.flatnonzero(self._patches.array()[:, 0] == image).astype(np.int64)
        return np.setdiff1d(rows, self._removed, assume_unique=True)

    def remove(self, image: int) -> int:
        """Mark every live row of an image number as removed; returns how many that were."""
        fresh = self.live_of(image)
        if fresh.size:
            self._removed = np.sort(np.concatenate([self._removed, fresh]))
            self._removed_changed = True
        return int(fresh.size)

    def dominant(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Column of the largest soft label of rows: ids (n,) -> (n,) int32; -1 without any."""
        return self._dominant_classes()[ids]

    def relabel(self, columns: npt.NDArray[np.int64], classes: int) -> None:
        """Move the label columns (C,) to new ones of ``classes``; shares that meet are added.

        Comes before any row of the change, which it writes again. Raises StorageError.
        """
        old, self._labels = self._labels, LabelFile.create(self._files, classes)
        for start in range(0, len(old), _RELABELLED):
            ids = np.arange(start, min(start + _RELABELLED, len(old)), dtype=np.int64)
            self._labels.append(move_columns(old.read(ids), columns, classes))
        self._dominant = np.empty(0, dtype=np.int32)
        old.file.close()

    def allowed(self, filter: Filter | None) -> npt.NDArray[np.bool_] | None:
        """Rows a search may return, (N,) bool; None when it may return every row."""
        wanted = filter or Filter()
        if self.removed == 0 and wanted == Filter():
            return None
        allowed = np.ones(len(self), dtype=np.bool_)
        allowed[self._removed] = False
        images = self._patches.array()[:, 0]
        if wanted.images is not None:
            allowed &= np.isin(images, list(wanted.images))
        if wanted.not_images:
            allowed &= ~np.isin(images, list(wanted.not_images))
        if wanted.not_classes:
            allowed &= ~np.isin(self._dominant_classes(), list(wanted.not_classes))
        return allowed

    def stage(self) -> dict[str, Path]:
        """Complete what changed: names and files."""
        staged: dict[str, Path] = {}
        for file in self._row_files():
            staged |= file.stage()
        if self._removed_changed:
            staged[REMOVED] = self._files.next(REMOVED)
            content = io.BytesIO()  # NumPy's own stream of a file may lose the last bytes untold
            np.save(content, self._removed, allow_pickle=False)
            with atomic_write(staged[REMOVED]) as out:
                out.write(content.getbuffer())
        return staged

    def committed(self) -> None:
        """What was staged is stored now."""
        for file in self._row_files():
            file.committed()
        self._removed_changed = False
        self._multiple_from = None

    def close(self) -> None:
        """Release the files."""
        for file in self._row_files():
            file.close()

    def _row_files(self) -> list[RowFile]:
        files = [self._labels.file, self._patches]
        return files if self._multiplicity is None else [*files, self._multiplicity]

    def _append_multiplicity(
        self, before: int, count: int, multiplicity: npt.NDArray[np.float32] | None
    ) -> None:
        if multiplicity is None:
            multiplicity = np.ones(count, dtype=np.float32)
        if self._multiplicity is None:
            if (multiplicity == 1).all():
                return
            self._multiplicity = RowFile(self._files, MULTIPLICITY, (), np.float32)
            self._multiple_from = before
            self._multiplicity.append(np.ones(before, dtype=np.float32))
        self._multiplicity.append(multiplicity)

    def _dominant_classes(self) -> npt.NDArray[np.int32]:
        if len(self._dominant) < len(self):
            self._dominant = np.concatenate([self._dominant, self._labels.dominant(len(self._dominant))])
        return self._dominant


def move_columns(
    labels: npt.NDArray[np.uint8], columns: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.uint8]:
    """Soft labels (n, C) with column c moved to ``columns[c]`` of ``classes``; shares that meet are added."""
    if len(np.unique(columns)) == len(columns):
        moved = np.zeros((len(labels), classes), dtype=np.uint8)
        moved[:, columns] = labels
        return moved
    wide = np.zeros((len(labels), classes), dtype=np.int32)
    for column, new in enumerate(columns.tolist()):
        wide[:, new] += labels[:, column]
    return wide.clip(0, 255).astype(np.uint8)


def _read_removed(path: Path) -> npt.NDArray[np.int64]:
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexDamagedError(f"{path} cannot be read as an array ({error}); {REPAIR}") from error
    if stored.ndim != 1 or stored.dtype != np.int64:
        raise IndexDamagedError(
            f"{path} holds {stored.dtype} of shape {stored.shape}, expected a list of int64 row ids; {REPAIR}"
        )
    return np.asarray(stored)
