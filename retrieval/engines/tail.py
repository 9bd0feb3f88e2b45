"""Rows that came after an engine's file was written, searched one by one until they are many."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from retrieval.engines.exact_search import ExactEngine, in_order
from retrieval.engines.vector_engine import Hits, VectorEngine
from retrieval.similarity import Cosine
from retrieval.store.commit import Changes, IndexFiles
from retrieval.store.row_file import RowFile

TAIL = "tail.npy"

#: An engine of so few rows is written anew with each change.
SMALL_ROWS = 65_536

#: Rows of the tail at most, or this share of the engine's rows where that is more.
TAIL_ROWS, TAIL_SHARE = 16_384, 1 / 32


class TailEngine:
    """Another engine, whose file is written anew when many rows have come, and in ``tail.npy`` those since.

    The tail (n, D) float32 grows in its place, so that adding an image to a large index writes the rows of
    the image alone. It is searched exactly, and its rows' ids are those after the engine's.
    """

    def __init__(
        self, files: IndexFiles, inner: VectorEngine, tail: ExactEngine, width: int, device: str
    ) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._files = files
        self._inner = inner
        self._tail = tail
        self._width = width
        self._device = device
        self._new = False
        self._dropped = False

    @classmethod
    def create(cls, files: IndexFiles, inner: VectorEngine, width: int, *, device: str = "cpu") -> TailEngine:
        """Around an empty engine, which takes all rows until it is stored."""
        engine = cls(files, inner, _empty(files, width, device), width, device)
        engine._new = True
        return engine

    @classmethod
    def open(cls, files: IndexFiles, inner: VectorEngine, width: int, *, device: str = "cpu") -> TailEngine:
        """Around a stored engine; raises IndexDamagedError where ``tail.npy`` does not fit."""
        tail = _empty(files, width, device)
        if TAIL in files:
            tail = ExactEngine.open(files, Cosine(width), dtype="float32", device=device, name=TAIL)
        return cls(files, inner, tail, width, device)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the engine inside."""
        return self._inner.parameters

    def __len__(self) -> int:
        return len(self._inner) + len(self._tail)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D) float32."""
        most = max(TAIL_ROWS, int(len(self._inner) * TAIL_SHARE))
        if not self._new and len(self._inner) >= SMALL_ROWS and len(self._tail) + len(vectors) <= most:
            self._tail.add(vectors)
            return
        late = self._tail.vectors(np.arange(len(self._tail), dtype=np.int64))
        self._inner.add(np.concatenate([late, vectors]))
        if len(late):
            self._tail.close()
            self._tail, self._dropped = _empty(self._files, self._width, self._device), True

    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The ``k`` nearest rows of every query, (Q, k) each."""
        first = len(self._inner)
        early, late = (None, None) if allowed is None else (allowed[:first], allowed[first:])
        similarities, ids = self._inner.search(queries, k, early)
        if len(self._tail) == 0:
            return similarities, ids
        more, where = self._tail.search(queries, min(k, len(self._tail)), late)
        best, found = in_order(
            torch.from_numpy(np.hstack([similarities, more])),
            torch.from_numpy(np.hstack([ids, np.where(where < 0, -1, where + first)])),
        )
        return best[:, :k].numpy(), found[:, :k].numpy()

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The stored vectors of rows: (n,) int64 -> (n, D) float32."""
        late = ids >= len(self._inner)
        found = np.empty((len(ids), self._width), dtype=np.float32)
        if not late.all():
            found[~late] = self._inner.vectors(ids[~late])
        if late.any():
            found[late] = self._tail.vectors(ids[late] - len(self._inner))
        return found

    def stage(self) -> Changes:
        """Complete what changed in both parts."""
        changes: dict[str, Any] = dict(self._inner.stage())
        if self._dropped:
            changes[TAIL] = None
        return {**changes, **(self._tail.stage() if len(self._tail) else {})}

    def committed(self) -> None:
        """What was staged is stored now."""
        self._inner.committed()
        if len(self._tail):
            self._tail.committed()
        self._new = self._dropped = False

    def close(self) -> None:
        """Release memory and files."""
        self._inner.close()
        self._tail.close()


def _empty(files: IndexFiles, width: int, device: str) -> ExactEngine:
    return ExactEngine(RowFile(files, TAIL, (width,), np.float32), Cosine(width), "float32", device)
