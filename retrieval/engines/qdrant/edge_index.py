"""An index whose vectors are in the embedded Qdrant engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engines.embedded import EmbeddedIndex
from retrieval.engines.qdrant.edge import EdgeEngine
from retrieval.engines.vector_engine import Hits
from retrieval.neighbors import Filter
from retrieval.store.manifest import Manifest
from retrieval.store.rows import RowStore


class EdgeIndex(EmbeddedIndex):
    """A PatchIndex on Qdrant Edge, which filters by payload index; one process at a time."""

    def __init__(self, folder: Path, manifest: Manifest, rows: RowStore, engine: EdgeEngine) -> None:
        super().__init__(folder, manifest, rows, engine)
        self._edge = engine

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""
        self._edge.hide(self._rows.live_of(image).tolist())
        return super().remove(image)

    def _find(self, queries: npt.NDArray[np.float32], k: int, filter: Filter | None) -> Hits:
        return self._edge.search_where(queries, k, filter or Filter())
