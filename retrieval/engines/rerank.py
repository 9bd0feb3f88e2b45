"""Exact re-ranking: an engine finds candidates by its own vectors, the true FUNGI similarity orders them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.engines.exact_search import in_order
from retrieval.engines.vector_engine import Hits, VectorEngine
from retrieval.errors import REPAIR, IndexDamagedError
from retrieval.similarity import GradientProduct, Reranked
from retrieval.store.commit import Changes, IndexFiles
from retrieval.store.row_file import RowFile

ROWS = "rerank.npy"

#: Bytes of candidates unpacked at a time; few, so that they stay in the processor's cache.
_CHUNK_BYTES = 4 << 20
#: Bytes that a stored number takes while it is compared: int8, and float32.
_NUMBER_BYTES = 5


class RerankEngine:
    """Another engine, and beside it e, g and a of every row in 8 bits, in ``rerank.npy`` (N, D).

    Each of the three is stored as a multiple of its own largest number: a cosine knows no scale, so
    none is kept. What ``search`` returns are similarities by ``similarity.exact``.
    """

    def __init__(self, inner: VectorEngine, rows: RowFile, similarity: Reranked, device: str) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._inner = inner
        self._rows = rows
        self._similarity = similarity
        self._device = torch.device(device)

    @classmethod
    def create(
        cls, files: IndexFiles, inner: VectorEngine, similarity: Reranked, *, device: str = "cpu"
    ) -> RerankEngine:
        """An empty engine around ``inner``, which holds the vectors of ``similarity.coarse``."""
        return cls(inner, RowFile(files, ROWS, (similarity.exact.width,), np.int8), similarity, device)

    @classmethod
    def open(
        cls, files: IndexFiles, inner: VectorEngine, similarity: Reranked, *, device: str = "cpu"
    ) -> RerankEngine:
        """Open ``rerank.npy``; raises IndexDamagedError when it does not fit."""
        rows = RowFile.open(files, ROWS, (similarity.exact.width,), np.int8)
        if len(rows) != len(inner):
            raise IndexDamagedError(
                f"{files.current(ROWS)} holds {len(rows)} rows, and {len(inner)} vectors lie beside it; "
                f"{REPAIR}"
            )
        return cls(inner, rows, similarity, device)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the engine inside; the manifest's similarity says that it is re-ranked."""
        return self._inner.parameters

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append vectors (n, D) float32."""
        before = len(self)
        self._rows.append(quantise(self._exact(vectors), self._similarity.exact))
        try:
            self._inner.add(self._coarse(vectors))
        except BaseException:
            self._rows.keep(before)
            raise

    @torch.inference_mode()
    def search(self, queries: npt.NDArray[np.float32], k: int, allowed: npt.NDArray[np.bool_] | None) -> Hits:
        """The best ``k`` of the candidates of every query, (Q, k) each."""
        wide = max(k, min(self._similarity.candidates, len(self)))
        found = torch.from_numpy(self._inner.search(self._coarse(queries), wide, allowed)[1])
        similarities = self._compare(torch.from_numpy(self._exact(queries)), found)
        best, where = in_order(similarities, found)
        return best[:, :k].numpy(), where[:, :k].numpy()

    def vectors(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The vectors of rows: (n,) int64 -> (n, D) float32; e, g and a from their 8-bit copies."""
        stored = torch.from_numpy(self._rows.array()[ids]).float()
        parts = self._similarity.exact.row_parts(stored)
        last = torch.cat([torch.nn.functional.normalize(part, dim=-1) for part in parts], dim=-1).numpy()
        return np.hstack([self._inner.vectors(ids), last]) if self._similarity.separate else last

    def stage(self) -> Changes:
        """Complete what changed in both parts."""
        return {**self._inner.stage(), **self._rows.stage()}

    def committed(self) -> None:
        """What was staged is stored now."""
        self._inner.committed()
        self._rows.committed()

    def close(self) -> None:
        """Release memory and files."""
        self._inner.close()
        self._rows.close()

    def _coarse(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(vectors[:, : self._similarity.coarse.width], dtype=np.float32)

    def _exact(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(vectors[:, -self._similarity.exact.width :], dtype=np.float32)

    def _compare(self, queries: Tensor, ids: Tensor) -> Tensor:
        """True similarity of queries (Q, D) to their own rows ``ids`` (Q, C): (Q, C) float32, -inf for -1."""
        similarities = torch.full(ids.shape, -torch.inf)
        if len(self) == 0:
            return similarities
        stored, width = torch.from_numpy(self._rows.array()), self._similarity.exact.width
        weighted = [part.to(self._device) for part in self._similarity.exact.query_parts(queries)]
        pairs = max(1, _CHUNK_BYTES // (_NUMBER_BYTES * width))
        across = max(1, min(pairs, ids.shape[1]))
        down = pairs // across
        unpacked = torch.empty(down * across, width, device=self._device)  # used again: new memory is slow
        for top in range(0, len(ids), down):
            asked = [part[top : top + down] for part in weighted]
            for left in range(0, ids.shape[1], across):
                block = ids[top : top + down, left : left + across]
                rows = unpacked[: block.numel()].copy_(stored.index_select(0, block.flatten().clamp_min(0)))
                e, g, a = map(
                    _products, asked, self._similarity.exact.row_parts(rows.view(*block.shape, width))
                )
                similarities[top : top + down, left : left + across] = g.mul_(a).add_(e)
        return similarities.masked_fill_(ids < 0, -torch.inf)


def quantise(vectors: npt.NDArray[np.float32], similarity: GradientProduct) -> npt.NDArray[np.int8]:
    """e, g and a (n, D) as whole numbers of -127 to 127, each divided by its own largest: (n, D) int8."""
    parts = []
    for part in similarity.row_parts(torch.from_numpy(vectors)):
        largest = part.abs().amax(dim=-1, keepdim=True)
        # a part of zeros stays zeros
        parts.append((part / torch.where(largest > 0, largest, 1.0) * 127).round().to(torch.int8))
    quantised: npt.NDArray[np.int8] = torch.cat(parts, dim=-1).numpy()
    return quantised


def _products(queries: Tensor, rows: Tensor) -> Tensor:
    """Queries (q, d) times the directions of their own stored rows (q, c, d): (q, c)."""
    # a stored row that is not zero has a length of at least 127
    lengths = torch.linalg.vector_norm(rows, dim=-1).clamp_min_(1.0)
    return torch.bmm(queries.unsqueeze(1), rows.mT).squeeze(1).div_(lengths)
