"""An index in a folder of this machine: a row store, a vector engine and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.engines.base import IndexBase, write_attached
from retrieval.engines.spec import Creation, Opening
from retrieval.engines.vector_engine import Hits, VectorEngine
from retrieval.errors import (
    REPAIR,
    ConfigError,
    IndexBusyError,
    IndexDamagedError,
    IndexExistsError,
    IndexMismatchError,
)
from retrieval.index import PatchIndex
from retrieval.neighbors import Filter, Neighbors, Rows
from retrieval.progress import Progress
from retrieval.similarity import DirectSimilarity
from retrieval.store.commit import IndexFiles
from retrieval.store.files import storage_errors
from retrieval.store.layout import CHANGE_LOCK
from retrieval.store.lock import Lock
from retrieval.store.manifest import Manifest, has_manifest, manifest_stamp, read_manifest
from retrieval.store.records import ImageRecord
from retrieval.store.rows import RowStore

#: Opens a newer state of an index that is open.
Reopen = Callable[[Manifest], "PatchIndex"]


class EmbeddedIndex(IndexBase):
    """A PatchIndex whose vectors live in this process; see ``PatchIndex``.

    Made by ``create_index`` and ``open_index``. Any number of processes may read it. The first change
    takes the folder's lock, which is given back when it is flushed, or when the index is closed; a
    change of an index that another process has changed since it was opened is refused.
    """

    def __init__(
        self,
        files: IndexFiles,
        manifest: Manifest,
        rows: RowStore,
        engine: VectorEngine,
        *,
        lock: Lock | None = None,
        reopen: Reopen | None = None,
    ) -> None:
        """``lock`` is one that the caller holds and gives back; ``reopen`` opens a newer state."""
        super().__init__(files.folder, manifest)
        self._reopen = reopen
        self._stamp: tuple[int, int, int] | None = None
        self._files = files
        self._rows = rows
        self._engine = engine
        self._borrowed_lock = lock is not None
        self._lock = lock or Lock(files.folder / CHANGE_LOCK)

    def __len__(self) -> int:
        return len(self._rows) - self._rows.removed

    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        *,
        multiplicity: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Append rows; returns their ids (n,) int64. Raises as ``PatchIndex`` says, adding none."""
        self._check_rows(vectors, labels, patches, multiplicity)
        self._begin_change()
        count = len(vectors)
        first = len(self._rows)
        self._rows.append(labels, patches, multiplicity)
        try:
            self._engine.add(vectors)
        except BaseException:
            self._rows.keep(first)
            raise
        return np.arange(first, first + count, dtype=np.int64)

    def announce(self, images: Sequence[ImageRecord]) -> None:
        """Needs nothing here: the records come with :meth:`flush`."""

    def search(self, queries: npt.NDArray[np.float32], k: int, *, filter: Filter | None = None) -> Neighbors:
        """The ``k`` nearest live rows of queries (Q, D) float32 that ``filter`` lets through."""
        k = self._check_queries(queries, k)
        if filter is not None and filter.datasets is not None:
            here = self._manifest.dataset.get("name") in filter.datasets
            filter = replace(filter, images=filter.images if here else ())
        similarities, ids = self._find(queries, k, filter)
        return Neighbors(ids, similarities, self._rows.labels(ids), self._rows.multiplicity(ids))

    def stream(self, *, batch: int = 4096) -> Iterator[Rows]:
        """All live rows by rising id, ``batch`` or fewer at a time."""
        for start in range(0, len(self._rows), batch):
            self._check_open()
            ids = self._rows.live(start, start + batch)
            if ids.size:
                yield Rows(
                    ids,
                    self._engine.vectors(ids),
                    self._rows.labels(ids),
                    self._rows.patches(ids),
                    self._rows.multiplicity(ids),
                )

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row and grid column of rows: (...) int64 -> (..., 3) int32; -1 for the id -1."""
        self._check_open()
        wanted = np.asarray(ids, dtype=np.int64)
        if wanted.size and wanted.max() >= len(self._rows):
            raise ConfigError(
                f"there is no row {wanted.max()}: the index has the rows 0..{len(self._rows) - 1}"
            )
        return self._rows.patches(wanted)

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""
        self._check_open()
        self._begin_change()
        return self._rows.remove(image)

    def relabel(self, classes: ClassMap, columns: npt.NDArray[np.int64]) -> None:
        """Take other classes; see ``PatchIndex``. Names and colours alone rewrite nothing."""
        self._check_open()
        self._begin_change()
        if len(classes) != len(self.classes) or (columns != np.arange(len(columns))).any():
            self._rows.relabel(columns, len(classes))
        self._manifest = self._manifest.with_classes(classes)

    def flush(
        self,
        *,
        images: Sequence[ImageRecord] | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write what changed to the folder, and then, in one step, the manifest that names it.

        ``images`` replaces the records and ``thumbnails`` adds JPEGs in the same step. After a crash at
        any moment the folder holds either the old index or the new one.
        """
        self._check_open()
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._begin_change()
        changes: dict[str, Path | None] = {**self._engine.stage(), **self._rows.stage()}
        changes |= write_attached(self._files, images, thumbnails)
        counts = {**self._manifest.counts, "rows": len(self._rows), "removed": self._rows.removed}
        manifest = replace(
            self._manifest, counts=counts, engine=self._engine.parameters, labels=self._rows.layout
        )
        self._manifest = self._files.commit(manifest, changes)
        self._engine.committed()
        self._rows.committed()
        if not self._borrowed_lock:
            self._lock.release()

    def refresh(self) -> bool:
        """Take over the state that others have committed since; see ``PatchIndex``."""
        self._check_open()
        stamp = manifest_stamp(self.folder)
        if self._lock.held or self._reopen is None or stamp == self._stamp:
            return False
        newest = read_manifest(self.folder)
        changed = newest != self._manifest
        while changed:
            try:
                self._take(self._reopen(newest))
                break
            except (IndexDamagedError, FileNotFoundError):  # swept meanwhile, by a newer one
                before, stamp, newest = newest, manifest_stamp(self.folder), read_manifest(self.folder)
                if newest == before:
                    raise
        self._stamp = stamp
        return changed

    def _take(self, fresh: PatchIndex) -> None:
        """Become another state of the same index."""
        assert isinstance(fresh, EmbeddedIndex)  # the same engine opened it
        mine, now = self._manifest, fresh._manifest
        if now.similarity != mine.similarity or now.fingerprints != mine.fingerprints:
            fresh.close()
            raise IndexMismatchError(
                f"{self.folder} holds an index of other features than the one that is open; open it again"
            )
        # the old files are not closed: what was found in them may still be looked at
        self._files, self._manifest = fresh._files, now
        self._rows, self._engine = fresh._rows, fresh._engine

    def _release(self) -> None:
        try:
            self._engine.close()
            self._rows.close()
            if self._lock.held:
                self._files.discard()
        finally:
            if not self._borrowed_lock:
                self._lock.release()

    def _begin_change(self) -> None:
        """Take the folder's lock; raises IndexBusyError where another has it, or had it since the opening."""
        if self._lock.held:
            return
        self._lock.acquire(f"change {self.folder}")
        try:
            self._check_unchanged()
        except BaseException:
            self._lock.release()
            raise

    def _check_unchanged(self) -> None:
        if self._files.generation == 0:
            if has_manifest(self.folder):
                raise IndexExistsError(
                    f"{self.folder} holds an index already; choose another folder or delete this one"
                )
        elif read_manifest(self.folder).generation != self._files.generation - 1:
            raise IndexBusyError(
                f"another process has changed {self.folder} since it was opened here; open it again and "
                "repeat the change"
            )

    def _find(self, queries: npt.NDArray[np.float32], k: int, filter: Filter | None) -> Hits:
        """Similarities and ids (Q, k) of the nearest live rows; replaced where an engine filters itself."""
        return self._engine.search(queries, k, self._rows.allowed(filter))


#: Makes or opens the engine of a similarity, beside the rows that it holds the vectors of.
EngineMaker = Callable[[DirectSimilarity, RowStore], VectorEngine]


def create_embedded(
    asked: Creation, make: EngineMaker, *, index: type[EmbeddedIndex] = EmbeddedIndex
) -> EmbeddedIndex:
    """A new, empty index around the engine that ``make`` gives, re-ranked where its similarity is."""
    rows = RowStore.create(asked.files, len(asked.manifest.classes))
    engine = make(asked.manifest.similarity.searched, rows)
    reranked = asked.manifest.similarity.reranked
    if reranked is not None:
        from retrieval.engines.rerank import RerankEngine

        engine = RerankEngine.create(asked.files, engine, reranked, device=asked.device)
    with storage_errors(asked.files.folder):
        asked.files.folder.mkdir(parents=True, exist_ok=True)
    return index(asked.files, asked.manifest, rows, engine)


def open_embedded(
    asked: Opening, load: EngineMaker, *, index: type[EmbeddedIndex] = EmbeddedIndex
) -> EmbeddedIndex:
    """The index around the engine that ``load`` opens; raises IndexDamagedError where files do not fit."""
    manifest, folder = asked.manifest, asked.files.folder
    rows = RowStore.open(asked.files, len(manifest.classes), manifest.labels)
    engine = load(asked.similarity.searched, rows)
    try:
        reranked = asked.similarity.reranked
        if reranked is not None:
            from retrieval.engines.rerank import RerankEngine

            engine = RerankEngine.open(asked.files, engine, reranked, device=asked.device)
        expected = manifest.counts.get("rows")
        if not len(rows) == len(engine) == expected:
            raise IndexDamagedError(
                f"{folder} holds {len(rows)} labels and {len(engine)} vectors, but its manifest counts "
                f"{expected} rows; {REPAIR}"
            )
    except BaseException:
        engine.close()
        raise

    def reopen(newest: Manifest) -> PatchIndex:
        from retrieval.engines.registry import engine_of

        files = IndexFiles(folder, newest)
        return engine_of(newest, folder).open(replace(asked, files=files, manifest=newest, lock=None))

    return index(asked.files, manifest, rows, engine, lock=asked.lock, reopen=reopen)
