"""Exact search by brute force in torch: the oracle, and the engine of small banks."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.engines.shortlist import BLOCK, Shortlist
from retrieval.engines.vector_engine import Hits
from retrieval.errors import ConfigError
from retrieval.memory import free_memory, machine_memory
from retrieval.processor import bfloat16_product_pays
from retrieval.similarity import DirectSimilarity
from retrieval.store.commit import Changes, IndexFiles
from retrieval.store.row_file import RowFile

VECTORS = "vectors.npy"

#: Bank rows compared at a time, and queries at a time: at most 512 MB of similarities, usually 30.
_BANK_CHUNK = 8192
_QUERY_CHUNK = 8192

#: Rows compared in float32 for each of k neighbours, at first and where those leave a doubt: of one product,
#: and of three, which are off by more.
_CANDIDATES, _CANDIDATES_OF_THREE = (3, 12), (8, 24)
#: Numbers of candidates that are compared at a time: few stay in the processor's cache.
_COMPARED = 1 << 19
#: Fewer queries at a time are as fast without a copy of the bank.
_FEWEST_QUERIES = 64
#: Share of the memory that is free that a copy of the bank may take.
_COPY_SHARE = 0.5


class ExactEngine:
    """Vectors in a memory-mapped ``vectors.npy`` (N, D), float16 or float32; float32 arithmetic.

    On the CPU the bank is read from the file chunk by chunk, so it need not fit into memory; on an
    accelerator it is copied there at the first search. Rows of equal similarity come in the order
    of their ids.
    """

    def __init__(self, vectors: RowFile, similarity: DirectSimilarity, dtype: str, device: str) -> None:
        self._vectors = vectors
        self._similarity = similarity
        self._dtype = dtype
        self._device = torch.device(device)
        self._resident: Tensor | None = None
        self._shortlist: Shortlist | None = None
        self._copying = threading.Lock()
        self._candidates = _CANDIDATES if similarity.inner_product else _CANDIDATES_OF_THREE

    @classmethod
    def create(
        cls, files: IndexFiles, similarity: DirectSimilarity, *, dtype: str, device: str = "cpu"
    ) -> ExactEngine:
        """An empty engine; nothing is written before the first vectors."""
        return cls(RowFile(files, VECTORS, (similarity.width,), dtype), similarity, dtype, device)

    @classmethod
    def open(
        cls,
        files: IndexFiles,
        similarity: DirectSimilarity,
        *,
        dtype: str,
        device: str = "cpu",
        name: str = VECTORS,
    ) -> ExactEngine:
        """Open ``vectors.npy``, or a file of another name; raises IndexDamagedError when it does not fit."""
        if dtype not in ("float16", "float32"):
            raise ConfigError(f"the exact engine stores float16 or float32, not {dtype!r}")
        return cls(RowFile.open(files, name, (similarity.width,), dtype), similarity, dtype, device)

    @property
    def parameters(self) -> dict[str, Any]:
        """Engine kind and storage type."""
        return {"kind": "exact", "dtype": self._dtype}

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D) float32."""
        self._vectors.append(vectors)
        self._resident = None

    @torch.inference_mode()
    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The ``k`` nearest rows of every query, (Q, k) each."""
        similarities = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full((len(queries), k), -1, dtype=np.int64)
        mask = None if allowed is None else torch.from_numpy(allowed).to(self._device)
        shortlist = self._shortlist_for(len(queries), k, allowed)
        for start in range(0, len(queries), _QUERY_CHUNK):
            rows = slice(start, start + _QUERY_CHUNK)
            block = torch.from_numpy(np.array(queries[rows], dtype=np.float32)).to(self._device)
            if shortlist is None:
                nearest = self._nearest(block, k, mask)
            else:
                nearest = self._nearest_of(shortlist, block, k, mask)
            best, where = in_order(*nearest)
            found = best.shape[1]
            similarities[rows, :found] = best.cpu().numpy()
            ids[rows, :found] = where.cpu().numpy()
        ids[np.isneginf(similarities)] = -1
        return similarities, ids

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The stored vectors of rows: (n,) int64 -> (n, D) float32."""
        return np.asarray(self._vectors.array()[ids], dtype=np.float32)

    def stage(self) -> Changes:
        """Complete ``vectors.npy`` when anything was added."""
        return self._vectors.stage()

    def committed(self) -> None:
        """What was staged is stored now."""
        self._vectors.committed()

    def close(self) -> None:
        """Release memory and the file."""
        self._resident = self._shortlist = None
        self._vectors.close()

    def _shortlist_for(self, queries: int, k: int, allowed: npt.NDArray[np.bool_] | None) -> Shortlist | None:
        """The bank in bfloat16 where asking it first pays: many rows, most of them allowed, many queries."""
        rows = len(self)
        if (
            self._device.type != "cpu"
            or rows < self._candidates[0] * k * BLOCK
            or queries < _FEWEST_QUERIES
            or (allowed is not None and 2 * np.count_nonzero(allowed) < rows)
            or not bfloat16_product_pays()
        ):
            return None
        with self._copying:
            if self._shortlist is None:
                free = free_memory() or machine_memory() // 2
                if 2 * rows * self._similarity.width > _COPY_SHARE * free:
                    return None
                self._shortlist = Shortlist(self._similarity)
            self._shortlist.update(self._bank())
            return self._shortlist

    def _nearest_of(
        self, shortlist: Shortlist, queries: Tensor, k: int, allowed: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`_nearest` finds, of few candidates, of more, and where that is not certain of all."""
        best = queries.new_empty(len(queries), k)
        where = torch.empty(len(queries), k, dtype=torch.int64)
        left = torch.arange(len(queries))
        barred = None if allowed is None else ~allowed
        for candidates in self._candidates:
            if candidates * k * BLOCK > len(self) or not len(left):
                continue
            asked = queries[left]
            found = shortlist.search(asked, candidates * k, barred)
            similarities = self._compare(asked, found.ids)
            if barred is not None:
                similarities.masked_fill_(barred[found.ids], -torch.inf)
            best[left], kept = similarities.topk(k, dim=1, sorted=False)
            where[left] = found.ids.gather(1, kept)
            left = left[best[left].amin(dim=1) <= found.most]
        if len(left):
            best[left], where[left] = self._nearest(queries[left], k, allowed)
        return best, where

    def _compare(self, queries: Tensor, ids: Tensor) -> Tensor:
        """float32 similarities of queries (Q, D) to their own rows ``ids`` (Q, C): (Q, C)."""
        bank, found = self._bank(), []
        step = max(1, _COMPARED // (ids.shape[1] * bank.shape[1]))
        for start in range(0, len(queries), step):
            few, asked = ids[start : start + step], queries[start : start + step]
            rows = bank.index_select(0, few.flatten()).float().view(*few.shape, -1)
            parts = zip(self._similarity.query_parts(asked), self._similarity.row_parts(rows), strict=True)
            first, *others = (torch.bmm(query[:, None], row.mT)[:, 0] for query, row in parts)
            found.append(first.addcmul_(*others) if others else first)
        return torch.cat(found)

    def _nearest(self, queries: Tensor, k: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """The best min(k, N) similarities and row ids of each query, in no order."""
        bank = self._bank()
        best = queries.new_empty(len(queries), 0)
        where = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        for start in range(0, len(bank), _BANK_CHUNK):
            rows = bank[start : start + _BANK_CHUNK].float()  # (n, D)
            similarities = self._similarity.compare(queries, rows)  # (Q, n)
            if allowed is not None:
                similarities.masked_fill_(~allowed[start : start + _BANK_CHUNK], -torch.inf)
            best, where = merge_nearest(best, where, similarities, start=start, k=k)
        return best, where

    def _bank(self) -> Tensor:
        stored = torch.from_numpy(self._vectors.array())
        if self._device.type == "cpu":
            return stored
        if self._resident is None:
            self._resident = stored.to(self._device)
        return self._resident


def merge_nearest(
    best: Tensor, where: Tensor, similarities: Tensor, *, start: int, k: int
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of those found, (Q, K) each, and of the rows from ``start`` on, (Q, n); no order."""
    top, columns = similarities.topk(min(k, similarities.shape[1]), dim=1, sorted=False)
    best = torch.cat([best, top], dim=1)
    where = torch.cat([where, columns + start], dim=1)
    if best.shape[1] > k:
        best, kept = best.topk(k, dim=1, sorted=False)
        where = where.gather(1, kept)
    return best, where


def in_order(similarities: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Sort rows of (Q, K) by falling similarity, equal ones by rising id."""
    ids, order = ids.sort(dim=1)
    similarities, rank = similarities.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarities, ids.gather(1, rank)
