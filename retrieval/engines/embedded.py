"""An index in a folder of this machine: a row store, a vector engine and a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.base import IndexBase
from retrieval.engines.vector_engine import Hits, VectorEngine
from retrieval.errors import ConfigError
from retrieval.neighbors import Filter, Neighbors, Rows
from retrieval.store.files import pending_path
from retrieval.store.manifest import Manifest, commit
from retrieval.store.records import IMAGES, ImageRecord, write_images
from retrieval.store.rows import RowStore


class EmbeddedIndex(IndexBase):
    """A PatchIndex whose vectors live in this process (exact or FAISS); see ``PatchIndex``.

    Made by ``create_index`` and ``open_index``. One process may change an index at a time; any
    number may read it.
    """

    def __init__(self, folder: Path, manifest: Manifest, rows: RowStore, engine: VectorEngine) -> None:
        super().__init__(folder, manifest)
        self._rows = rows
        self._engine = engine

    def __len__(self) -> int:
        return len(self._rows) - self._rows.removed

    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        *,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Append rows; returns their ids (n,) int64. Raises ConfigError or StorageError, adding none."""
        self._check_rows(vectors, labels, patches, weights)
        count = len(vectors)
        first = len(self._rows)
        self._rows.append(labels, patches, weights)
        try:
            self._engine.add(vectors)
        except BaseException:
            self._rows.keep(first)
            raise
        return np.arange(first, first + count, dtype=np.int64)

    def describe(self, images: Sequence[ImageRecord]) -> None:
        """Needs nothing here: the records come with :meth:`flush`."""

    def search(self, queries: npt.NDArray[np.float32], k: int, *, filter: Filter | None = None) -> Neighbors:
        """The ``k`` nearest live rows of queries (Q, D) float32 that ``filter`` lets through."""
        self._check_queries(queries, k)
        if filter is not None and filter.datasets is not None:
            here = self._manifest.dataset.get("name") in filter.datasets
            filter = replace(filter, images=filter.images if here else ())
        similarities, ids = self._find(queries, k, filter)
        return Neighbors(ids, similarities, self._rows.labels(ids), self._rows.weights(ids))

    def stream(self, *, batch: int = 4096) -> Iterator[Rows]:
        """All live rows by rising id, ``batch`` or fewer at a time."""
        for start in range(0, len(self._rows), batch):
            ids = self._rows.live(start, start + batch)
            if ids.size:
                yield Rows(
                    ids,
                    self._engine.vectors(ids),
                    self._rows.labels(ids),
                    self._rows.patches(ids),
                    self._rows.weights(ids),
                )

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row and grid column of rows: (...) int64 -> (..., 3) int32; -1 for the id -1."""
        wanted = np.asarray(ids, dtype=np.int64)
        if wanted.size and wanted.max() >= len(self._rows):
            raise ConfigError(
                f"there is no row {wanted.max()}: the index has the rows 0..{len(self._rows) - 1}"
            )
        return self._rows.patches(wanted)

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""
        return self._rows.remove(image)

    def flush(self, *, images: Sequence[ImageRecord] | None = None) -> None:
        """Write everything to the folder, the manifest last; ``images`` replaces ``images.jsonl`` with it.

        After a crash at any moment the folder holds either the old index or the new one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        staged = [*self._engine.stage(), *self._rows.stage()]
        if images is not None:
            write_images(self.folder, images, name=pending_path(Path(IMAGES)).name)
            staged.append(self.folder / IMAGES)
        counts: dict[str, int] = {
            **self._manifest.counts,
            "rows": len(self._rows),
            "removed": self._rows.removed,
        }
        engine: dict[str, Any] = self._engine.parameters
        manifest = replace(self._manifest, counts=counts, engine=engine, labels=self._rows.layout)
        self._manifest = commit(self.folder, manifest, staged)
        self._engine.committed()
        self._rows.committed()

    def close(self) -> None:
        """Release memory and files; what was not flushed is dropped."""
        self._engine.close()
        self._rows.close()

    def _find(self, queries: npt.NDArray[np.float32], k: int, filter: Filter | None) -> Hits:
        """Similarities and ids (Q, k) of the nearest live rows; replaced where an engine filters itself."""
        return self._engine.search(queries, k, self._rows.allowed(filter))
