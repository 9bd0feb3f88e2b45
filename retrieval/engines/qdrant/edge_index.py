"""An index whose vectors are in the embedded Qdrant engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.engines.embedded import EmbeddedIndex
from retrieval.engines.qdrant.edge import EdgeEngine
from retrieval.engines.vector_engine import Hits
from retrieval.neighbors import Filter


class EdgeIndex(EmbeddedIndex):
    """A PatchIndex on Qdrant Edge, which filters by payload index; one process at a time."""

    _engine: EdgeEngine

    forks = False

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""
        self._check_open()
        self._begin_change()
        self._engine.hide(self._rows.live_of(image).tolist())
        return super().remove(image)

    def relabel(self, classes: ClassMap, columns: npt.NDArray[np.int64]) -> None:
        """Take other classes; see ``PatchIndex``. Columns that move are written anew for filters."""
        super().relabel(classes, columns)
        if (columns != np.arange(len(columns))).any():
            live = self._rows.live()
            self._engine.set_classes(live, self._rows.dominant(live))

    def _find(self, queries: npt.NDArray[np.float32], k: int, filter: Filter | None) -> Hits:
        return self._engine.search_where(queries, k, filter or Filter())
