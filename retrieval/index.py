"""The face of an index, whatever engine is behind it, and how one is made and opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassMap
from retrieval.engines.embedded import EmbeddedIndex
from retrieval.engines.exact import ExactEngine
from retrieval.engines.faiss import FaissEngine
from retrieval.engines.qdrant.edge import KIND_EDGE, EdgeEngine
from retrieval.engines.qdrant.edge_index import EdgeIndex
from retrieval.engines.qdrant.locate import local_folder
from retrieval.engines.qdrant.server import KIND_SERVER, ServerIndex
from retrieval.engines.rerank import RerankEngine, check_candidates
from retrieval.engines.vector_engine import VectorEngine
from retrieval.errors import REPAIR, ConfigError, IndexDamagedError, IndexExistsError, IndexMismatchError
from retrieval.neighbors import Filter, Neighbors, Rows
from retrieval.settings import IndexSettings
from retrieval.similarity import Direct, Reranked, Similarity
from retrieval.store.files import storage_errors
from retrieval.store.manifest import Manifest, finish_commit, has_manifest, read_manifest, verify_folder
from retrieval.store.records import ImageRecord
from retrieval.store.rows import RowStore


class PatchIndex(Protocol):
    """Labelled patch vectors and the search over them; the same on every engine.

    Row ids are 0, 1, 2, ... in the order of adding, and are never used again. (On a server, which many
    fill at once, they are made from image number and position instead.)
    """

    @property
    def manifest(self) -> Manifest:
        """The manifest; assign a changed one before :meth:`flush` to store it."""

    @manifest.setter
    def manifest(self, manifest: Manifest) -> None: ...

    @property
    def similarity(self) -> Similarity:
        """What the similarities mean, and the vectors' layout."""

    @property
    def classes(self) -> ClassMap:
        """The classes, one for each label column."""

    def __len__(self) -> int:
        """Live rows: added and not removed."""

    def add(
        self,
        vectors: npt.NDArray[np.float32],
        labels: npt.NDArray[np.uint8],
        patches: npt.NDArray[np.int32],
        *,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.int64]:
        """Append rows; returns their ids (n,) int64.

        On a server, a patch that is there already is replaced, so that adding twice changes nothing.
        ``vectors`` (n, D) float32 as ``similarity`` says, ``labels`` (n, C) uint8 soft labels times
        255, ``patches`` (n, 3) int32 image number, grid row, grid column, ``weights`` (n,) float32 how
        many patches each row stands for (1 without). With more than 32 classes an embedded index
        keeps the 8 largest shares of a label (``retrieval.store.label_file``). Raises ConfigError for
        arrays that do not fit, and on a server for weights; StorageError; no row is added then.
        """

    def describe(self, images: Sequence[ImageRecord]) -> None:
        """Tell of images before their rows are added: a server's point ids are made from their records."""

    def stream(self, *, batch: int = 4096) -> Iterator[Rows]:
        """All live rows by rising id, about ``batch`` at a time."""

    def search(self, queries: npt.NDArray[np.float32], k: int, *, filter: Filter | None = None) -> Neighbors:
        """The ``k`` nearest live rows of queries (Q, D) float32 that ``filter`` lets through."""

    def patches(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Image number, grid row and grid column of rows: (...) int64 -> (..., 3) int32; -1 for the id -1."""

    def remove(self, image: int) -> int:
        """Remove every row of an image number; returns how many. Kept for good at the next flush."""

    def flush(self, *, images: Sequence[ImageRecord] | None = None) -> None:
        """Store everything for good; ``images`` replaces ``images.jsonl`` in the same step."""

    def close(self) -> None:
        """Release memory and files; what was not flushed is dropped."""

    def __enter__(self) -> PatchIndex: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def create_index(
    folder: str | Path,
    manifest: Manifest,
    *,
    rows: int,
    sample: npt.NDArray[np.float32] | None = None,
    settings: IndexSettings | None = None,
    device: str = "cpu",
) -> PatchIndex:
    """A new, empty index in ``folder``, which may exist but may not hold an index.

    ``rows`` is how many rows are expected, by which the FAISS type is chosen; ``sample`` (n,
    ``searched_width``) float32 trains its quantisers, and may be left out for types that have none.
    ``settings`` default to those of a recipe. ``device`` is a torch device, for searching. There is
    no index before the first ``flush``. Raises IndexExistsError, ConfigError, MissingExtraError and
    StorageError.
    """
    folder = Path(folder)
    settings = settings or IndexSettings()
    if has_manifest(folder):
        raise IndexExistsError(f"{folder} holds an index already; choose another folder or delete this one")
    if settings.engine == "qdrant" and settings.qdrant.url is not None:
        return ServerIndex.create(folder, manifest, settings.qdrant)
    store = RowStore.create(folder, len(manifest.classes))
    engine: VectorEngine
    similarity = manifest.similarity
    if settings.engine == "qdrant":
        edge = EdgeEngine.create(folder, similarity, settings=settings.qdrant, rows=store, expected=rows)
        return EdgeIndex(folder, manifest, store, edge)
    first: Direct = similarity.first if isinstance(similarity, Reranked) else similarity
    if isinstance(similarity, Reranked):
        settings = settings.model_copy(update={"refine": "none"})  # others order what is found
    if settings.engine == "exact":
        engine = ExactEngine.create(folder, first, dtype=settings.dtype, device=device)
    else:
        engine = FaissEngine.create(folder, first, settings=settings, rows=rows, sample=sample)
    if isinstance(similarity, Reranked):
        engine = RerankEngine.create(folder, engine, similarity, device=device)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return EmbeddedIndex(folder, manifest, store, engine)


def open_index(
    folder: str | Path, *, verify: bool = False, device: str = "cpu", candidates: int | None = None
) -> PatchIndex:
    """Open the index in ``folder``, or at ``qdrant://HOST:PORT/COLLECTION``, after checking its manifest.

    Sizes of all files and checksums of those up to 64 MB are compared, with ``verify`` all
    checksums. ``device`` is a torch device, for searching; ``candidates`` says how many rows to
    re-rank, instead of the manifest. Raises IndexFileError where there is no folder,
    IndexDamagedError, IndexMismatchError for a newer format or an unknown engine, ConfigError
    for ``candidates`` of an index without re-ranking, MissingExtraError, and ServerError where a
    Qdrant server is away.
    """
    folder = local_folder(folder)
    finish_commit(folder)
    manifest = read_manifest(folder)
    check_candidates(candidates, manifest.similarity)
    verify_folder(folder, manifest, all_checksums=verify)
    if manifest.engine.get("kind") == KIND_SERVER:
        return ServerIndex.open(folder, manifest)
    rows = RowStore.open(folder, len(manifest.classes), manifest.labels)
    engine = _open_engine(folder, manifest, rows, device, candidates)
    expected = manifest.counts.get("rows")
    if not len(rows) == len(engine) == expected:
        engine.close()
        raise IndexDamagedError(
            f"{folder} holds {len(rows)} labels and {len(engine)} vectors, but its manifest counts "
            f"{expected} rows; {REPAIR}"
        )
    if isinstance(engine, EdgeEngine):
        return EdgeIndex(folder, manifest, rows, engine)
    return EmbeddedIndex(folder, manifest, rows, engine)


def _open_engine(
    folder: Path, manifest: Manifest, rows: RowStore, device: str, candidates: int | None
) -> VectorEngine:
    similarity = manifest.similarity
    if not isinstance(similarity, Reranked):
        return _open_searching(folder, manifest.engine, similarity, rows, device)
    if candidates is not None:
        similarity = replace(similarity, candidates=candidates)
    inner = _open_searching(folder, manifest.engine, similarity.first, rows, device)
    try:
        return RerankEngine.open(folder, inner, similarity, device=device)
    except BaseException:
        inner.close()
        raise


def _open_searching(
    folder: Path, parameters: dict[str, Any], similarity: Direct, rows: RowStore, device: str
) -> VectorEngine:
    """The engine that searches, without re-ranking."""
    try:
        if parameters["kind"] == "exact":
            return ExactEngine.open(folder, similarity, dtype=str(parameters["dtype"]), device=device)
        if parameters["kind"] == "faiss":
            return FaissEngine.open(folder, similarity, parameters, device=device)
        if parameters["kind"] == KIND_EDGE:
            return EdgeEngine.open(folder, similarity, parameters, rows=rows)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise IndexDamagedError(
            f"the manifest in {folder} describes its engine incompletely ({error}); build the index again"
        ) from error
    raise IndexMismatchError(
        f"{folder} uses the engine {parameters['kind']!r}, which this Mycelia does not know; update Mycelia"
    )
