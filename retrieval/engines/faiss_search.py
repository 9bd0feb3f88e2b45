"""Search by FAISS in this process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.faiss_types import (
    FLAT_ROWS,
    choose_factory,
    default_k_factor,
    innermost,
    inverted_lists,
    last_line,
    load_faiss,
    make_index,
    on_device,
    reduced_width,
    reserve,
    takes_no_selector,
)
from retrieval.engines.vector_engine import Hits
from retrieval.errors import REPAIR, IndexDamagedError, StorageError
from retrieval.similarity import DirectSimilarity
from retrieval.store.commit import Changes, IndexFiles
from retrieval.store.files import storage_errors, sync_file
from retrieval.store.paths import text_path

if TYPE_CHECKING:
    from retrieval.engines.faiss import FaissSettings

VECTORS = "vectors.faiss"

#: Share of the inverted lists searched, and the fewest: patches unlike the bank's have neighbours in many.
_PROBED_SHARE, _FEWEST_PROBED = 1 / 64, 64


class FaissEngine:
    """A FAISS index in ``vectors.faiss``; unit vectors, so that its inner product is the cosine.

    An opened index is mapped from the file and read into memory before the first ``add``. The
    factory string, ``nprobe`` and ``k_factor`` come from the settings or from the bank's size.
    Where FAISS was built for GPUs and ``device`` is one, types that have a GPU form are searched
    there; stored is always the CPU's form.
    """

    def __init__(
        self, files: IndexFiles, index: Any, parameters: dict[str, Any], *, mapped: bool, device: str = "cpu"
    ) -> None:
        self._faiss = load_faiss()
        self._files = files
        self._path = files.current(VECTORS)
        self._index = index
        self._parameters = parameters
        self._mapped = mapped
        self._changed = not mapped
        self._device = device
        self._copy: Any = None  # on the GPU

    @classmethod
    def create(
        cls,
        files: IndexFiles,
        similarity: DirectSimilarity,
        *,
        settings: FaissSettings,
        rows: int,
        sample: npt.NDArray[np.float32] | None,
        device: str = "cpu",
    ) -> FaissEngine:
        """An empty, trained engine; nothing is written. Raises ConfigError for impossible settings."""
        faiss = load_faiss()
        width = similarity.width
        vectors = np.empty((0, width), dtype=np.float32) if sample is None else sample
        factory = settings.factory
        if factory is None:
            scans = rows < FLAT_ROWS or settings.codes == "int8"
            reduced = None if scans else reduced_width(vectors)
            factory = choose_factory(
                rows, width, len(vectors), refine=settings.refine, reduced=reduced, codes=settings.codes
            )
        index = make_index(faiss, factory, width, vectors)
        reserve(faiss, index, rows)
        lists = inverted_lists(faiss, index)
        parameters = {
            "kind": "faiss",
            "factory": factory,
            "nprobe": settings.nprobe
            or (max(_FEWEST_PROBED, round(lists * _PROBED_SHARE)) if lists else None),
            "k_factor": settings.k_factor,
        }
        return cls(files, index, parameters, mapped=False, device=device)

    @classmethod
    def open(
        cls,
        files: IndexFiles,
        similarity: DirectSimilarity,
        parameters: dict[str, Any],
        *,
        device: str = "cpu",
    ) -> FaissEngine:
        """Open ``vectors.faiss``; raises IndexDamagedError when it does not fit."""
        faiss = load_faiss()
        path = files.current(VECTORS)
        index = _read(faiss, path, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
        width = similarity.width
        if index.d != width:
            raise IndexDamagedError(f"{path} holds vectors of {index.d} numbers, expected {width}; {REPAIR}")
        known = {name: parameters[name] for name in ("kind", "factory", "nprobe", "k_factor")}
        return cls(files, index, known, mapped=True, device=device)

    @property
    def parameters(self) -> dict[str, Any]:
        """Engine kind, factory string, ``nprobe`` and ``k_factor`` (None: by k)."""
        return dict(self._parameters)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D) float32."""
        if self._mapped:  # FAISS aborts the process when a mapped index grows
            self._index = _read(self._faiss, self._path, 0)
            self._mapped = False
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._changed = True
        self._copy = None

    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The ``k`` nearest rows of every query, (Q, k) each; approximate for types that are."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if len(self) == 0 or (allowed is not None and not allowed.any()):
            return _nothing(len(queries), k)
        if allowed is not None and takes_no_selector(self._faiss, self._index):
            return self._search_and_drop(queries, k, allowed)
        searched = self._index if allowed is not None else self._searched()
        similarities, ids = searched.search(queries, k, params=self._search_parameters(k, allowed))
        return _tidy(similarities, ids)

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The stored vectors of rows, decoded: (n,) int64 -> (n, D) float32."""
        index = self._faiss.downcast_index(self._index)
        if isinstance(index, self._faiss.IndexRefine):
            index = self._faiss.downcast_index(index.refine_index)
        inner = innermost(self._faiss, index)
        if isinstance(inner, self._faiss.IndexIVF):
            inner.make_direct_map()
        if isinstance(inner, self._faiss.IndexIVFPQFastScan):
            inner.fine_quantizer = inner.pq  # FAISS 1.15 leaves it null when it reads a file, and dies of it
        found: npt.NDArray[np.float32] = index.reconstruct_batch(np.ascontiguousarray(ids, dtype=np.int64))
        return found

    def searching(self, *, nprobe: int | None, k_factor: int | None) -> FaissEngine:
        """The same vectors, searched with another ``nprobe`` and ``k_factor`` (None: one list; by k)."""
        parameters = {**self._parameters, "nprobe": nprobe, "k_factor": k_factor}
        return FaissEngine(self._files, self._index, parameters, mapped=self._mapped)

    def stage(self) -> Changes:
        """Write the next ``vectors.faiss`` when anything was added."""
        if not self._changed:
            return {}
        path = self._files.next(VECTORS)
        with storage_errors(self._files.folder), path.open("wb") as file:
            try:  # by a file of ours: closing its own, FAISS tells nobody that the last bytes were lost
                self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(file.write))
            except RuntimeError as error:
                raise StorageError(
                    f"FAISS could not write {path} ({last_line(error)}); free some space on "
                    "that disk or make the folder writable, and run the command again"
                ) from error
            sync_file(file)
        self._path = path
        return {VECTORS: path}

    def committed(self) -> None:
        """What was staged is stored now."""
        self._changed = False

    def close(self) -> None:
        """Release the index."""
        self._index = self._faiss.IndexFlatIP(self._index.d)
        self._copy = None
        self._changed = False

    def _searched(self) -> Any:
        """The index, or its copy on the GPU (which takes no selector)."""
        if self._copy is None:
            self._copy = on_device(self._faiss, self._index, self._device)
        return self._copy

    def _search_parameters(self, k: int, allowed: npt.NDArray[np.bool_] | None) -> Any:
        """FAISS search parameters for the layers of this index, outermost first.

        With few rows allowed, more lists are searched, so that as many candidates are seen.
        """
        faiss = self._faiss
        share = 1.0 if allowed is None else max(float(allowed.mean()), 1e-9)
        selector = (
            None if allowed is None else faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        )
        probed = min(
            max(1, inverted_lists(faiss, self._index)), math.ceil((self._parameters["nprobe"] or 1) / share)
        )

        def layer(index: Any) -> Any:
            index = faiss.downcast_index(index)
            if isinstance(index, faiss.IndexRefine):
                factor = self._parameters["k_factor"] or default_k_factor(k)
                return faiss.IndexRefineSearchParameters(
                    k_factor=float(factor), base_index_params=layer(index.base_index)
                )
            if isinstance(index, faiss.IndexPreTransform):
                return faiss.SearchParametersPreTransform(index_params=layer(index.index))
            if isinstance(index, faiss.IndexIVF):
                return faiss.SearchParametersIVF(sel=selector, nprobe=probed)
            if isinstance(index, faiss.IndexHNSW):
                return faiss.SearchParametersHNSW(sel=selector, efSearch=max(128, 4 * k))
            if selector is None:
                return None
            return faiss.SearchParameters(sel=selector)

        return layer(self._index)

    def _search_and_drop(
        self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_]
    ) -> Hits:
        """For types that take no selector: search wider and wider, and drop what is not allowed."""
        total, wanted = len(self), min(k, int(allowed.sum()))
        width = min(total, max(2 * k, math.ceil(2 * k / float(allowed.mean()))))
        while True:
            params = self._search_parameters(width, None)
            similarities, ids = _tidy(*self._index.search(queries, width, params=params))
            kept = (ids >= 0) & allowed[np.maximum(ids, 0)]
            if width == total or int(kept.sum(axis=1).min(initial=wanted)) >= wanted:
                break
            width = min(total, 4 * width)
        order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        similarities = np.take_along_axis(np.where(kept, similarities, -np.inf), order, axis=1)
        ids = np.take_along_axis(np.where(kept, ids, -1), order, axis=1)
        best, where = _nothing(len(queries), k)
        best[:, : ids.shape[1]], where[:, : ids.shape[1]] = similarities, ids
        return best, where


def _read(faiss: Any, path: Path, flags: int) -> Any:
    try:
        with text_path(path) as name:
            return faiss.read_index(name, flags)
    except RuntimeError as error:
        raise IndexDamagedError(f"FAISS cannot read {path} ({last_line(error)}); {REPAIR}") from error


def _nothing(queries: int, k: int) -> Hits:
    return np.full((queries, k), -np.inf, dtype=np.float32), np.full((queries, k), -1, dtype=np.int64)


def _tidy(similarities: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Hits:
    """FAISS marks "none" by the id -1 and the lowest float; we by -1 and -inf."""
    return np.where(ids < 0, np.float32(-np.inf), similarities), ids
