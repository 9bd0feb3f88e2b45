"""The row store: what is known of every row of an index besides its vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.files import atomic_write, pending_path
from retrieval.neighbors import Filter
from retrieval.row_file import RowFile

LABELS, PATCHES, REMOVED = "labels.npy", "patches.npy", "removed.npy"

#: Dominant class of a row without any label.
_NO_CLASS = -1

_CHUNK = 1 << 16


class RowStore:
    """Soft labels, patch positions and tombstones of the rows 0..N-1; a row's id is its position.

    ``labels.npy`` (N, C) uint8 holds soft labels times 255, ``patches.npy`` (N, 3) int32 holds
    image number, grid row and grid column, ``removed.npy`` the ids of removed rows in rising
    order, int64. The first two are memory-mapped and only ever grow.
    """

    def __init__(
        self, folder: Path, labels: RowFile, patches: RowFile, removed: npt.NDArray[np.int64]
    ) -> None:
        self._path = folder / REMOVED
        self._labels = labels
        self._patches = patches
        self._removed = removed
        self._removed_changed = False
        self._dominant = np.empty(0, dtype=np.int32)

    @classmethod
    def create(cls, folder: Path, classes: int) -> RowStore:
        """An empty store for ``classes`` columns; nothing is written before the first rows."""
        labels = RowFile(folder / LABELS, (classes,), np.uint8)
        store = cls(folder, labels, RowFile(folder / PATCHES, (3,), np.int32), np.empty(0, dtype=np.int64))
        store._removed_changed = True
        return store

    @classmethod
    def open(cls, folder: Path, classes: int) -> RowStore:
        """Open the files in ``folder``; raises IndexDamagedError when they do not fit each other."""
        labels = RowFile.open(folder / LABELS, (classes,), np.uint8)
        patches = RowFile.open(folder / PATCHES, (3,), np.int32)
        removed = _read_removed(folder / REMOVED)
        if len(labels) != len(patches) or (removed.size and not 0 <= removed[0] <= removed[-1] < len(labels)):
            raise IndexDamagedError(
                f"{folder} holds {len(labels)} labels, {len(patches)} patch positions and removed rows "
                f"that do not belong together; {REPAIR}"
            )
        return cls(folder, labels, patches, removed)

    def __len__(self) -> int:
        """Rows ever added, removed ones included: the id of the next row."""
        return len(self._patches)

    @property
    def removed(self) -> int:
        """Number of removed rows."""
        return len(self._removed)

    def append(self, labels: npt.NDArray[Any], patches: npt.NDArray[Any]) -> None:
        """Append labels (n, C) uint8 and patches (n, 3) int32; both or, after an error, neither."""
        before = len(self)
        try:
            self._labels.append(labels)
            self._patches.append(patches)
        except BaseException:
            self.keep(before)
            raise

    def keep(self, rows: int) -> None:
        """Forget the rows after the first ``rows`` (undoes the last append)."""
        self._labels.keep(rows)
        self._patches.keep(rows)
        self._dominant = self._dominant[:rows]

    def labels(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Soft labels of rows: ids (...) -> (..., C) uint8, 0 for the id -1."""
        stored = self._labels.array()
        if len(stored) == 0:
            return np.zeros((*ids.shape, stored.shape[1]), dtype=np.uint8)
        found: npt.NDArray[np.uint8] = np.asarray(stored[np.maximum(ids, 0)])
        found[ids < 0] = 0
        return found

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

    def stage(self) -> list[Path]:
        """Complete the pending files; returns the paths they will replace."""
        staged = [file.path for file in (self._labels, self._patches) if file.stage()]
        if self._removed_changed:
            with atomic_write(pending_path(self._path)) as out:
                np.save(out, self._removed, allow_pickle=False)
            staged.append(self._path)
        return staged

    def committed(self) -> None:
        """Forget the pending files: they have been renamed."""
        self._labels.committed()
        self._patches.committed()
        self._removed_changed = False

    def close(self) -> None:
        """Release the files."""
        self._labels.close()
        self._patches.close()

    def _dominant_classes(self) -> npt.NDArray[np.int32]:
        known = len(self._dominant)
        if known < len(self):
            labels = self._labels.array()
            starts = range(known, len(self), _CHUNK)
            fresh = [dominant_columns(labels[start : start + _CHUNK]) for start in starts]
            self._dominant = np.concatenate([self._dominant, *fresh])
        return self._dominant


def dominant_columns(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Column of the largest soft label, the first of equals: (n, C) uint8 -> (n,) int32; -1 without any."""
    best: npt.NDArray[np.int32] = labels.argmax(axis=1).astype(np.int32)
    best[~labels.any(axis=1)] = _NO_CLASS
    return best


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
