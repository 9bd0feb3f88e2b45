"""What a reader keeps of a collection's rows, so that a search need not bring it with every hit."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from retrieval.engines.qdrant.payload import State
from retrieval.store.label_file import DENSE_CLASSES, ENTRIES, pack_labels, unpack_labels

_Number = TypeVar("_Number", np.int64, np.uint8)

#: Key, number of the row and row id.
_ROW_BYTES = 8 + 4 + 8


@dataclass(frozen=True)
class KeyedRows:
    """Rows by the keys of their points: ``keys`` (n,) uint64, rising and distinct, ``ids`` (n,) int64 (row
    ids, which say image and position), ``labels`` (n, C) uint8."""

    keys: npt.NDArray[np.uint64]
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)


def bytes_per_row(classes: int) -> int:
    """Bytes that one row takes in a table: 20, and a byte a class or, above 32 classes, 16 (24 above 256)."""
    return _ROW_BYTES + _label_bytes(classes)


class LabelTable:
    """Row ids and soft labels of points, by the 64-bit keys of their ids; it grows with what is asked for.

    ``state`` is that of the collection when the rows were read. Labels are kept as a label file
    keeps them; one of more classes than that keeps exactly is left out, so that it is asked for again.
    Any number of threads may use a table. Two points of one key are taken for one: the chance is
    N^2 / 2^65 of N rows, 3e-6 at ten million.
    """

    def __init__(self, classes: int, state: State | None) -> None:
        self.classes = classes
        self.state = state
        self._runs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]] = []
        self._ids: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._labels: npt.NDArray[np.uint8] = np.empty((0, _label_bytes(classes)), dtype=np.uint8)
        self._count = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return self._count

    @property
    def is_of_a_change(self) -> bool:
        """Whether rows were being written, so that nothing here would hold."""
        return self.state is not None and self.state.changing

    def find(
        self, keys: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Whether keys (n,) are known (n,), and their row ids (n,) int64 and labels (n, C) uint8 if so."""
        with self._lock:
            runs, ids, labels = list(self._runs), self._ids, self._labels
        if not runs:
            empty = np.zeros((len(keys), self.classes), dtype=np.uint8)
            return np.zeros(len(keys), dtype=bool), np.full(len(keys), -1, dtype=np.int64), empty
        known = np.zeros(len(keys), dtype=bool)
        rows = np.zeros(len(keys), dtype=np.int64)
        for run, numbers in runs:
            place = np.minimum(np.searchsorted(run, keys), len(run) - 1)
            here = run[place] == keys
            rows[here] = numbers[place[here]]
            known |= here
        return known, ids[rows], self._wide(labels[rows])

    def add(self, rows: KeyedRows) -> None:
        """Take rows; those that are known stay as they are."""
        packed, exact = self._packed(rows.labels)
        with self._lock:
            for run, _ in self._runs:
                place = np.minimum(np.searchsorted(run, rows.keys), len(run) - 1)
                exact &= run[place] != rows.keys
            if not exact.any():
                return
            start = self._count
            self._count += int(exact.sum())
            self._ids = _grown(self._ids, self._count)
            self._labels = _grown(self._labels, self._count)
            self._ids[start : self._count] = rows.ids[exact]
            self._labels[start : self._count] = packed[exact]
            self._runs.append((rows.keys[exact], np.arange(start, self._count, dtype=np.uint32)))
            while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) >= len(self._runs[-2][0]):
                self._runs[-2:] = [_merged(*self._runs[-2:])]

    def _packed(self, labels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Labels as they are kept, and which of them (n,) lose nothing by it."""
        if not _is_sparse(self.classes):
            return labels, np.ones(len(labels), dtype=bool)
        packed = pack_labels(labels, ENTRIES)
        return packed, (self._wide(packed) == labels).all(axis=1)

    def _wide(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return unpack_labels(labels, self.classes, ENTRIES) if _is_sparse(self.classes) else labels


def _is_sparse(classes: int) -> bool:
    return classes > DENSE_CLASSES


def _label_bytes(classes: int) -> int:
    if not _is_sparse(classes):
        return classes
    return ENTRIES * (2 if classes <= 256 else 3)


def _grown(array: npt.NDArray[_Number], count: int) -> npt.NDArray[_Number]:
    """The array, or a copy with room for half as much again; what was handed out stays as it was."""
    if count <= len(array):
        return array
    larger = np.zeros((max(count, len(array) * 3 // 2), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def _merged(
    one: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]],
    other: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    keys, numbers = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(keys, kind="stable")
    return keys[order], numbers[order]
