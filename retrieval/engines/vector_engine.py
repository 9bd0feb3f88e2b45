"""What an index asks of the thing that holds its vectors."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retrieval.store.commit import Changes

#: Similarities (Q, K) float32 and row ids (Q, K) int64, best first; -inf and -1 where there is none.
Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class VectorEngine(Protocol):
    """Vectors of the rows 0..N-1 and the search over them; labels and tombstones live elsewhere."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Plain data from which the engine can be opened again; ``kind`` names it."""

    def __len__(self) -> int:
        """Rows, removed ones included."""

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D); all of them or, after an error, none."""

    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The ``k`` nearest rows of queries (Q, D) among ``allowed`` (N,), or among all when None."""

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The stored vectors of live rows, as exact as the engine has them: (n,) int64 -> (n, D) float32."""

    def stage(self) -> Changes:
        """Complete what changed: new files by name, None for a name that is no part of the index any more."""

    def committed(self) -> None:
        """Called when the manifest that names them has been written."""

    def close(self) -> None:
        """Release memory and files."""
