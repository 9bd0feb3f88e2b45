"""Qdrant's engine in this process (``qdrant-edge-py``), in a folder that one process opens at a time."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.qdrant.edge_errors import edge_errors
from retrieval.engines.qdrant.edge_links import linked, listing, unlink
from retrieval.engines.qdrant.edge_requests import filter_condition, shard_config
from retrieval.engines.qdrant.edge_room import check_room, check_room_to_copy
from retrieval.engines.qdrant.payload import CLASS, IMAGE, edge_payloads
from retrieval.engines.qdrant.settings import KIND_EDGE, QdrantSettings
from retrieval.engines.qdrant.sizing import bytes_per_row
from retrieval.engines.vector_engine import Hits
from retrieval.errors import (
    ConfigError,
    IndexBusyError,
    IndexDamagedError,
    IndexFileError,
    MissingExtraError,
    StorageError,
)
from retrieval.neighbors import Filter
from retrieval.similarity import Similarity
from retrieval.store.commit import Changes, IndexFiles
from retrieval.store.copying import allocated_bytes, copy_folder
from retrieval.store.files import PARTIAL, storage_errors, sync_tree
from retrieval.store.lock import Lock
from retrieval.store.manifest import has_manifest, read_manifest
from retrieval.store.rows import RowStore

#: Start of the names of the subfolders, of which the manifest's counts (``engine["folder"]``).
GENERATION = "edge."

#: Rows handed over at a time.
_CHUNK = 2048

#: How often Edge opens and closes its files at most before nothing more is done to them.
_SETTLED = 5


def load_edge() -> Any:
    """The ``qdrant_edge`` module; raises MissingExtraError, naming the extra, where it cannot be imported."""
    try:
        return importlib.import_module("qdrant_edge")
    except ImportError as error:
        raise MissingExtraError(
            "the embedded qdrant engine needs qdrant-edge-py, which is not installed; "
            "run `pip install mycelia[qdrant]`, or set index.engine=faiss"
        ) from error


class EdgeEngine:
    """A Qdrant Edge shard in a subfolder; the points' ids are the row ids.

    A committed subfolder (``edge.1``) never changes: the first change copies it to the next one
    (``edge.2``), which takes its place when the manifest that names it is written. Removed rows are
    hidden by a filter until then. Payload: ``retrieval.engines.qdrant.payload``.
    """

    def __init__(
        self, files: IndexFiles, settings: QdrantSettings, similarity: Similarity, rows: RowStore
    ) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._edge = load_edge()
        self._files = files
        self._folder = files.folder
        self._settings = settings
        self._width = similarity.width
        self._rows = rows
        self._total = 0
        self._hidden: set[int] = set()
        self._shard: Any = None
        self._direct = False  # whether the shard is open where its files lie, and may change them
        self._generation, self._committed = 1, 0
        self._lock = _lock(files.folder)

    @classmethod
    def create(
        cls,
        files: IndexFiles,
        similarity: Similarity,
        *,
        settings: QdrantSettings,
        rows: RowStore,
        expected: int,
    ) -> EdgeEngine:
        """An empty engine for ``expected`` rows. Raises ConfigError where they exceed the recipe's limits."""
        load_edge()
        _check_limits(settings, similarity.width, expected)
        check_room(files.folder, settings, similarity.width, expected, segments=2)
        engine = cls(files, settings, similarity, rows)
        try:
            with engine._errors(), storage_errors(files.folder):
                for stale in files.folder.glob(f"{GENERATION}*"):
                    shutil.rmtree(stale)
                engine._path.mkdir()
                config = shard_config(engine._edge, settings, engine._width)
                engine._shard = engine._edge.EdgeShard.create(str(engine._path), config)
                engine._direct = True
                engine._index_payload()
        except BaseException:
            engine.close()
            raise
        return engine

    @classmethod
    def open(
        cls, files: IndexFiles, similarity: Similarity, parameters: dict[str, Any], *, rows: RowStore
    ) -> EdgeEngine:
        """Open the subfolder that the manifest's ``parameters`` name.

        Raises IndexFileError where another process has it open, IndexDamagedError where its points
        are not the live rows of ``rows``, and StorageError where the folder cannot be written,
        which Edge needs even to read.
        """
        name = str(parameters["folder"])
        settings = QdrantSettings.model_validate(parameters["settings"])
        engine = cls(files, settings, similarity, rows)
        engine._generation = engine._committed = int(name.removeprefix(GENERATION))
        engine._total = len(rows)
        try:
            engine._load()
            found = engine._shard.count(engine._edge.CountRequest(exact=True))
            if found != len(rows) - rows.removed:
                raise IndexDamagedError(
                    f"{engine._path} holds {found} vectors, expected {len(rows) - rows.removed}; "
                    "restore it from a copy or build the index again"
                )
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def parameters(self) -> dict[str, Any]:
        """Engine kind, the subfolder in use and the settings."""
        return {
            "kind": KIND_EDGE,
            "folder": f"{GENERATION}{self._generation}",
            "settings": self._settings.model_dump(mode="json", exclude={"url", "collection"}),
        }

    def __len__(self) -> int:
        return self._total

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D) float32 of rows that the row store has already."""
        edge, first = self._edge, self._total
        _check_limits(self._settings, self._width, first + len(vectors))
        self._check_room(len(vectors))
        self._begin()
        ids = np.arange(first, first + len(vectors), dtype=np.int64)
        payloads = edge_payloads(self._rows.labels(ids), self._rows.patches(ids))
        block = np.ascontiguousarray(vectors, dtype=np.float32)
        try:
            for start in range(0, len(block), _CHUNK):
                chunk = range(start, min(start + _CHUNK, len(block)))
                self._check_room(len(chunk))
                with self._errors():
                    points = [edge.Point(first + i, block[i], payloads[i]) for i in chunk]
                    self._shard.update(edge.UpdateOperation.upsert_points(points))
        except BaseException:
            self._delete(ids.tolist())
            raise
        self._total += len(block)

    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The ``k`` nearest rows of every query, (Q, k) each, among ``allowed`` (N,) rows."""
        condition = None
        if allowed is not None:
            ids = set(np.flatnonzero(allowed).tolist())
            condition = self._edge.Filter(must=[self._edge.HasIdCondition(ids)])
        return self._query(queries, k, condition)

    def search_where(self, queries: npt.NDArray[np.float32], k: int, filter: Filter) -> Hits:
        """The ``k`` nearest live rows of every query that ``filter`` lets through, by payload index."""
        return self._query(queries, k, filter_condition(self._edge, filter, self._hidden))

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The stored vectors of live rows: (n,) int64 -> (n, D) float32."""
        with self._errors():
            records = self._shard.retrieve(ids.tolist(), with_payload=False, with_vector=True)
        by_id = {record.id: record.vector for record in records}
        return np.array([by_id[i] for i in ids.tolist()], dtype=np.float32).reshape(len(ids), self._width)

    def set_classes(self, ids: npt.NDArray[np.int64], columns: npt.NDArray[np.int32]) -> None:
        """Give live rows (n,) other dominant classes (n,), which filters ask for."""
        self._begin()
        with self._errors():
            for column in np.unique(columns).tolist():
                chosen = ids[columns == column].tolist()
                for start in range(0, len(chosen), _CHUNK):
                    block, payload = chosen[start : start + _CHUNK], {CLASS: column}
                    self._shard.update(self._edge.UpdateOperation.set_payload(block, payload))

    def hide(self, ids: Collection[int]) -> None:
        """Leave rows out of every search from now on; the next commit deletes them."""
        self._hidden.update(ids)

    def stage(self) -> Changes:
        """Delete hidden rows, build the graph and write everything into a subfolder of its own."""
        if self._hidden:
            self._begin()
            self._delete(sorted(self._hidden))
        if self._generation == self._committed:
            return {}
        self._check_room(len(self._rows) - self._rows.removed)  # as one more segment, with its graph
        with self._errors():
            self._shard.optimize()
            self._shard.flush()
            self._shard.close()
        self._settle()
        self._load()
        with storage_errors(self._folder):
            sync_tree(self._path)
        new = {path.relative_to(self._folder).as_posix(): path for path in sorted(self._path.rglob("*"))}
        old = {name: None for name in self._files.names() if name.startswith(GENERATION)}
        return {**old, **{name: path for name, path in new.items() if path.is_file()}}

    def committed(self) -> None:
        """Drop the subfolders that the manifest no longer names."""
        self._committed = self._generation
        self._hidden.clear()
        self._drop_stale()

    def close(self) -> None:
        """Release memory and the folder; what was not committed is dropped."""
        try:
            if self._shard is not None:
                with self._errors():
                    self._shard.close()
                self._shard = None
            if self._generation != self._committed and not self._is_listed():
                shutil.rmtree(self._path, ignore_errors=True)
        finally:
            unlink(self._folder)
            self._lock.release()

    @property
    def _path(self) -> Path:
        return self._folder / f"{GENERATION}{self._generation}"

    def _is_listed(self) -> bool:
        """Whether the manifest on disk names this subfolder: a commit may fail after its last step."""
        name = f"{GENERATION}{self._generation}"
        return has_manifest(self._folder) and read_manifest(self._folder).engine.get("folder") == name

    def _load(self, *, direct: bool = False) -> None:
        """Open the subfolder: ``direct`` to change it, else by second names of its files."""
        if not self._path.is_dir():
            raise IndexDamagedError(
                f"{self._path} is missing; restore it from a copy or build the index again"
            )
        place = self._path if direct else linked(self._path)
        with self._errors():
            self._shard = self._edge.EdgeShard.load(str(place))
        self._direct = direct

    def _settle(self) -> None:
        """Let Edge complete its files: it makes some, and takes some away, as it opens and closes them."""
        for _ in range(_SETTLED):
            before = listing(self._path)
            self._load(direct=True)
            with self._errors():
                self._shard.close()
            if listing(self._path) == before:
                return
        raise StorageError(
            f"Qdrant Edge goes on changing {self._path}, as it does on a disk that fails; check the disk and "
            "run the command again (what was committed is unchanged)"
        )

    def _begin(self) -> None:
        """Move to a subfolder that may change."""
        if self._generation != self._committed:
            if not self._direct:  # staged before, and not committed
                with self._errors():
                    self._shard.close()
                self._load(direct=True)
            return
        old = self._path
        check_room_to_copy(self._folder, allocated_bytes(old))
        with self._errors():
            self._shard.close()
        self._generation += 1
        try:
            shutil.rmtree(self._path, ignore_errors=True)  # of a change that was killed
            copy_folder(old, self._path)
        except BaseException:
            shutil.rmtree(self._path, ignore_errors=True)
            self._generation -= 1
            self._load()
            raise
        self._load(direct=True)

    def _check_room(self, rows: int) -> None:
        check_room(self._folder, self._settings, self._width, rows)

    def _delete(self, ids: list[int]) -> None:
        with self._errors():
            self._shard.update(self._edge.UpdateOperation.delete_points(ids))

    def _drop_stale(self) -> None:
        for path in self._folder.glob(f"{GENERATION}*"):
            if path != self._path:
                shutil.rmtree(path, ignore_errors=True)

    def _index_payload(self) -> None:
        for field in (IMAGE, CLASS):
            operation = self._edge.UpdateOperation.create_field_index(
                field, self._edge.PayloadSchemaType.Integer
            )
            self._shard.update(operation)

    def _query(self, queries: npt.NDArray[np.float32], k: int, condition: Any) -> Hits:
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        request = self._request(min(k, max(1, self._total)), condition)
        step = self._settings.query_batch
        block = np.ascontiguousarray(queries, dtype=np.float32)
        with self._errors():
            for start in range(0, len(block), step):
                batch = self._edge.QueryBatchRequest(
                    [request(query) for query in block[start : start + step]]
                )
                for row, hits in enumerate(self._shard.query_batch(batch), start):
                    ids[row, : len(hits)] = [hit.id for hit in hits]
                    similarities[row, : len(hits)] = [hit.score for hit in hits]
        return similarities, ids

    def _request(self, limit: int, condition: Any) -> Callable[[npt.NDArray[np.float32]], Any]:
        edge, chosen = self._edge, self._settings
        quantization = None
        if chosen.quantization != "none":
            quantization = edge.QuantizationSearchParams(
                rescore=chosen.rescore, oversampling=chosen.oversampling
            )
        params = edge.SearchParams(hnsw_ef=max(chosen.ef, limit), quantization=quantization)

        def request(query: npt.NDArray[np.float32]) -> Any:
            return edge.QueryRequest(
                limit,
                query=edge.Query.Nearest(query),
                filter=condition,
                params=params,
                with_payload=False,
                with_vector=False,
            )

        return request

    def _errors(self) -> AbstractContextManager[None]:
        return edge_errors(self._path)


def _check_limits(settings: QdrantSettings, width: int, rows: int) -> None:
    """Raise ConfigError where ``rows`` would need more memory or disk than the recipe allows."""
    need = bytes_per_row(settings, width)
    cases = (
        ("memory", need.memory, settings.memory_limit, "on_disk=true"),
        ("disk", need.disk, settings.disk_limit, "datatype=float16"),
    )
    for name, each, limit, cure in cases:
        if limit is not None and rows * each > limit * 1e6:
            raise ConfigError(
                f"{rows} vectors of {width} numbers need about {rows * each / 1e6:.0f} MB of {name}, more "
                f"than index.qdrant.{name}_limit={limit}; raise it, keep fewer patches, or set "
                f"index.qdrant.{cure}"
            )


def _lock(folder: Path) -> Lock:
    """The folder's lock, taken; raises IndexFileError where someone has it."""
    lock = Lock(folder / f"edge-lock{PARTIAL}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(f"use {folder}", wait=0)
    except IndexBusyError:
        raise IndexFileError(
            f"{folder} is open already, here or in another process, and Qdrant Edge serves only one; "
            "wait for that one or stop it; many may read a copy on faiss (`mycelia index convert` makes one)"
        ) from None
    return lock
