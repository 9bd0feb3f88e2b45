"""``labels.npy``: soft labels of rows, a byte for every class or, where classes are many, the few there are.

==========  ====================  ==========================================================================
kind        shape of the file     a row
==========  ====================  ==========================================================================
``dense``   (N, C) uint8          the soft label times 255, one byte a class
``sparse``  (N, 2 E) uint8        C <= 256: E class columns, then their E weights
``sparse``  (N, 3 E) uint8        C > 256: E class columns (two bytes each, little-endian), then E weights
==========  ====================  ==========================================================================

The columns of a sparse row are distinct and come by falling weight, equal ones by rising column. A label of
more than E classes loses all but its E largest shares, which are scaled to the sum that the label had:
nothing is lost up to E classes in a patch, and above that the smallest shares (with E = 8, at most a
ninth of the label each).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.store.commit import IndexFiles
from retrieval.store.row_file import RowFile

LABELS = "labels.npy"

#: Up to this many classes a byte for every class is small enough.
DENSE_CLASSES = 32

#: Classes that a sparse row keeps.
ENTRIES = 8

#: Dominant class of a row without any label.
NO_CLASS = -1

#: Rows widened at a time.
_CHUNK = 1 << 16


class LabelFile:
    """The soft labels of the rows 0..N-1, (N, C) uint8 to everyone, whatever the file looks like.

    Grows and is committed as a ``RowFile`` does; no more than the rows asked for is ever widened.
    """

    def __init__(self, files: IndexFiles, classes: int, entries: int | None) -> None:
        """``entries`` classes of a row are kept, or all when None. Use :meth:`create` or :meth:`open`."""
        self.classes = classes
        self._entries = entries
        self.file = RowFile(files, LABELS, (_row_bytes(classes, entries),), np.uint8)

    @classmethod
    def create(cls, files: IndexFiles, classes: int) -> LabelFile:
        """An empty file: sparse for more than DENSE_CLASSES classes, where that is smaller."""
        sparse = classes > DENSE_CLASSES and _row_bytes(classes, ENTRIES) < classes
        return cls(files, classes, ENTRIES if sparse else None)

    @classmethod
    def open(cls, files: IndexFiles, classes: int, layout: Mapping[str, Any]) -> LabelFile:
        """Open the file whose :attr:`layout` is given; raises IndexDamagedError when it does not fit."""
        labels = cls(files, classes, _entries_of(layout, files.folder))
        labels.file = RowFile.open(files, LABELS, (_row_bytes(classes, labels._entries),), np.uint8)
        return labels

    @property
    def layout(self) -> dict[str, Any]:
        """What the manifest says of the file: its kind and, when sparse, the entries of a row."""
        if self._entries is None:
            return {"kind": "dense"}
        return {"kind": "sparse", "entries": self._entries}

    def __len__(self) -> int:
        return len(self.file)

    def append(self, labels: npt.NDArray[Any]) -> None:
        """Append soft labels (n, C) uint8."""
        if self._entries is None:
            self.file.append(labels)
            return
        if labels.shape[1:] != (self.classes,):
            raise ValueError(f"labels of {labels.shape[1:]} classes do not fit an index of {self.classes}")
        for start in range(0, len(labels), _CHUNK):
            self.file.append(pack_labels(labels[start : start + _CHUNK], self._entries))

    def read(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Soft labels of rows: ids (...) -> (..., C) uint8, 0 for the id -1."""
        if len(self) == 0:
            return np.zeros((*ids.shape, self.classes), dtype=np.uint8)
        stored: npt.NDArray[np.uint8] = np.asarray(self.file.array()[np.maximum(ids, 0)])
        found = stored if self._entries is None else unpack_labels(stored, self.classes, self._entries)
        found[ids < 0] = 0
        return found

    def dominant(self, start: int) -> npt.NDArray[np.int32]:
        """Column of the largest soft label of the rows from ``start`` on, (n,) int32; -1 without any."""
        stored = self.file.array()
        parts = [np.empty(0, dtype=np.int32)]
        for first in range(start, len(self), _CHUNK):
            rows = stored[first : first + _CHUNK]
            if self._entries is None:
                parts.append(dominant_columns(rows))
            else:
                columns, weights = _split(rows, self.classes, self._entries)
                parts.append(np.where(weights[:, 0] > 0, columns[:, 0], NO_CLASS).astype(np.int32))
        return np.concatenate(parts)


def dominant_columns(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    """Column of the largest soft label, the first of equals: (n, C) uint8 -> (n,) int32; -1 without any."""
    best: npt.NDArray[np.int32] = labels.argmax(axis=1).astype(np.int32)
    best[~labels.any(axis=1)] = NO_CLASS
    return best


def pack_labels(labels: npt.NDArray[np.uint8], entries: int) -> npt.NDArray[np.uint8]:
    """The E = ``entries`` largest shares of soft labels, as sparse rows: (n, C) -> (n, 2 E or 3 E), C > E."""
    wide = labels.astype(np.int32)
    classes = wide.shape[1]
    keys = wide * classes + np.arange(classes - 1, -1, -1, dtype=np.int32)  # equal shares: the first column
    columns = np.argpartition(-keys, entries - 1, axis=1)[:, :entries]
    weights = np.take_along_axis(wide, columns, axis=1)
    total, kept = wide.sum(axis=1), weights.sum(axis=1)
    weights = np.rint(weights * (total / np.maximum(kept, 1))[:, None]).clip(0, 255).astype(np.int32)
    order = np.argsort(columns - weights * classes, axis=1)
    columns, weights = (np.take_along_axis(part, order, axis=1) for part in (columns, weights))
    packed = columns.astype(_column_type(classes)).view(np.uint8).reshape(len(labels), -1)
    return np.concatenate([packed, weights.astype(np.uint8)], axis=1)


def unpack_labels(rows: npt.NDArray[np.uint8], classes: int, entries: int) -> npt.NDArray[np.uint8]:
    """The inverse of :func:`pack_labels`: (..., 2 or 3 E) uint8 -> (..., C) uint8."""
    labels = np.zeros((*rows.shape[:-1], classes), dtype=np.uint8)
    columns, weights = _split(rows, classes, entries)
    np.put_along_axis(labels, columns, weights, axis=-1)
    return labels


def _split(
    rows: npt.NDArray[np.uint8], classes: int, entries: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Columns and weights (..., E) of sparse rows."""
    packed = np.ascontiguousarray(rows[..., :-entries])
    return packed.view(_column_type(classes)).astype(np.int64), rows[..., -entries:]


def _column_type(classes: int) -> np.dtype[Any]:
    return np.dtype(np.uint8 if classes <= 256 else "<u2")


def _row_bytes(classes: int, entries: int | None) -> int:
    return classes if entries is None else entries * (_column_type(classes).itemsize + 1)


def _entries_of(layout: Mapping[str, Any], folder: Path) -> int | None:
    kind, entries = layout.get("kind"), layout.get("entries")
    if kind == "dense":
        return None
    if kind == "sparse" and isinstance(entries, int) and entries > 0:
        return entries
    raise IndexDamagedError(f"the manifest in {folder} describes its labels as {dict(layout)!r}; {REPAIR}")
