"""The nearest rows of a bank, on the CPU: a scan with rounded numbers leaves few for float32.

Rounding moves the inner product of q and b by no more than ``|q| |b - b'| + |q - q'| |b'|`` (Cauchy and
Schwarz). So a row whose rounded similarity is below the k-th by more than twice that is not among the k
nearest, and the result is that of comparing all rows in float32. Where it cannot be proven for a vector, all
rows are compared with that one.

Two numbers are appended to every vector, so that the product itself does the rest: each query's threshold,
which leaves the sign to look at, and with full precision where it matters; and whether the row is left out,
which puts it below every threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.neighbors import Neighbors
from retrieval.processor import bfloat16_product_pays
from segmentation.tuning.leave_out import Nearest
from segmentation.tuning.rows import Bank, Parts, Query, channels, joined, mix

#: Rows compared at a time, and vectors at a time: what comes of it fits the cache.
CHUNK, QUERIES = 8192, 1024
#: Chunks from which on a bank is scanned with rounded numbers.
LEAST_CHUNKS = 3
#: Rows that a vector may leave for float32, on average; more say that the bank hardly differs.
MOST_LEFT = 4096
#: What a row that is left out loses: more than any threshold.
_OUT = 8.0
#: What float32 itself may be wrong by.
_SLACK = 1e-5
#: Numbers of rows that are compared in float32 at a time: what a core's cache holds.
_NUMBERS = 2**20


def low_precision() -> torch.dtype:
    """The numbers to scan with: bfloat16 where the processor multiplies faster in it, else float32."""
    return torch.bfloat16 if bfloat16_product_pays() else torch.float32


@dataclass(frozen=True, eq=False)
class _Asked:
    """Vectors that ask for neighbours."""

    parts: Parts
    """float32."""
    rounded: Tensor
    """(Q, D + 2): joined, the threshold's place, and what being left out counts."""
    reach: Tensor
    """(Q,) what rounding may move a similarity by, at most."""


class BankScan:
    """The rows of a bank, ready for many searches that each leave some rows out."""

    def __init__(self, parts: Parts, weight: float, *, dtype: torch.dtype | None = None) -> None:
        """``parts`` (N, .) each, on the CPU, compared as vectors joined with ``weight``; the embedding and at
        most one other. ``dtype``: :func:`low_precision` unless said.
        """
        self._parts, self._weight = parts[: 1 if weight == 0 else 2], weight
        self._dtype = dtype or low_precision()
        self._chunks = -(-len(parts[0]) // CHUNK)
        # each chunk takes a row here and there, so that the first one shows what the bank is like
        self._rounded: list[Tensor] = []
        self._norm = self._error = 0.0
        for start in range(self._chunks if self._chunks >= LEAST_CHUNKS else 0):
            rows = joined(tuple(part[start :: self._chunks].float() for part in self._parts), weight)
            kept = torch.zeros(len(rows), rows.shape[1] + 2, dtype=self._dtype)
            kept[:, :-2], kept[:, -2] = rows, 1
            again = kept[:, :-2].float()
            self._norm = max(self._norm, float(again.norm(dim=1).max()))
            self._error = max(self._error, float((rows - again).norm(dim=1).max()))
            self._rounded.append(kept)

    @torch.inference_mode()
    def nearest(self, vectors: Parts, hidden: npt.NDArray[np.bool_], k: int) -> Nearest:
        """The ``k`` nearest rows of ``vectors``, parts (Q, .) float32, that are not ``hidden`` (N,)."""
        for start, rounded in enumerate(self._rounded):
            rounded[:, -1] = torch.from_numpy(hidden[start :: self._chunks])
        found = [self._found(some, hidden, k) for some in self._batches(vectors)]
        best, where = (torch.cat(pieces) for pieces in zip(*found, strict=True))
        return Nearest(best, where, k)

    def _batches(self, vectors: Parts) -> Iterator[Parts]:
        for start in range(0, max(len(vectors[0]), 1), QUERIES):
            yield tuple(part[start : start + QUERIES] for part in vectors[: len(self._parts)])

    def _found(self, vectors: Parts, hidden: npt.NDArray[np.bool_], k: int) -> tuple[Tensor, Tensor]:
        """Similarities and positions (Q, K), K no more than k: what the scan shows, the rest in float32."""
        queries = len(vectors[0])
        if not self._rounded or not queries or 2 * _pilot_rank(k, self._chunks) > len(self._rounded[-1]):
            return self._compare_all(vectors, hidden, k)
        best, where, sure = self._scan(vectors, k)
        rest = torch.from_numpy(np.flatnonzero(~sure))
        if len(rest):
            again = self._compare_all(tuple(part[rest] for part in vectors), hidden, k)
            best[rest], where[rest] = again
        return best, where

    def _scan(self, vectors: Parts, k: int) -> tuple[Tensor, Tensor, npt.NDArray[np.bool_]]:
        """Similarities, positions (Q, k), and of which vectors (Q,) they are proven to be the nearest."""
        asked = self._ask(vectors)
        pilot = asked.rounded @ self._rounded[0].T
        rank = _pilot_rank(k, self._chunks)
        floor = pilot.topk(rank, dim=1, sorted=False).values.float().amin(dim=1) - asked.reach
        floor = floor.to(self._dtype).float()
        few = floor < -2  # rows that are left out are among the first: a threshold would say nothing
        floor[few] = 4
        asked.rounded[:, -2] = -floor
        left = self._left_over(asked.rounded)
        if left is None:
            nothing = torch.full((len(floor), k), -torch.inf)
            return nothing, torch.zeros(nothing.shape, dtype=torch.int64), np.zeros(len(floor), dtype=bool)
        above, ids = left  # (Q, L)
        last = above.topk(min(k, above.shape[1]), dim=1, sorted=False).values.amin(dim=1, keepdim=True)
        # of what was rounded after the sum, 2^-7 of the value is more than can have been lost
        close = above >= last.clamp_min(0) * (1 - 2**-7) - 2.1 * asked.reach[:, None]
        close &= above >= 0
        best, where = self._compare(asked.parts, close, ids, k)
        return best, where, (best.amin(dim=1) >= floor + asked.reach).numpy() & ~few.numpy()

    def _ask(self, vectors: Parts) -> _Asked:
        ours = joined(vectors, self._weight)
        rounded = torch.zeros(len(ours), ours.shape[1] + 2, dtype=self._dtype)
        rounded[:, :-2], rounded[:, -1] = ours, -_OUT
        moved = (ours - rounded[:, :-2].float()).norm(dim=1)
        return _Asked(vectors, rounded, ours.norm(dim=1) * self._error + moved * self._norm + _SLACK)

    def _left_over(self, asked: Tensor) -> tuple[Tensor, Tensor] | None:
        """The rows that reach each vector's threshold: by how much, -inf where none, and positions, (Q, L).

        None where they are too many to have been worth it.
        """
        bits = torch.int16 if self._dtype == torch.bfloat16 else torch.int32
        rows, ids, above, total = [], [], [], 0
        for start, rounded in enumerate(self._rounded):
            values = asked @ rounded.T
            # a float's sign is that of its bits, which NumPy compares and looks through much faster
            places = np.flatnonzero(values.view(bits).numpy().ravel() >= 0)
            total += len(places)
            if total > MOST_LEFT * len(asked):
                return None
            row, column = np.divmod(places, len(rounded))
            rows.append(row)
            ids.append(column * self._chunks + start)
            above.append(values.view(-1)[torch.from_numpy(places)].float().numpy())
        return _by_row(np.concatenate(rows), np.concatenate(ids), np.concatenate(above), len(asked))

    def _compare(self, vectors: Parts, close: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` nearest of some rows (Q, L), in float32: similarities and positions (Q, k)."""
        rows, places = np.nonzero(close.numpy())
        exact = torch.full((len(close), max(close.shape[1], k)), -torch.inf)
        step = max(1, _NUMBERS // sum(part.shape[1] for part in vectors))
        for start in range(0, len(rows), step):
            some = slice(start, start + step)
            row, place = torch.from_numpy(rows[some]), torch.from_numpy(places[some])
            exact[row, place] = self._similarity(vectors, row, ids[row, place])
        best, order = exact.topk(k, dim=1, sorted=False)
        where = torch.nn.functional.pad(ids, (0, exact.shape[1] - ids.shape[1])).gather(1, order)
        return best, where

    def _similarity(self, vectors: Parts, row: Tensor, id: Tensor) -> Tensor:
        """The similarities (n,) of pairs of a vector and a row of the bank."""
        cosines = [  # so, and few at a time, it takes a tenth of the time of indexing with brackets
            theirs.index_select(0, id).float().mul_(ours.index_select(0, row)).sum(dim=1)
            for ours, theirs in zip(vectors, self._parts, strict=True)
        ]
        return mix(cosines[0], cosines[1] if len(cosines) == 2 else None, self._weight)

    def _compare_all(self, vectors: Parts, hidden: npt.NDArray[np.bool_], k: int) -> tuple[Tensor, Tensor]:
        """Every row with every vector, in float32."""
        top = Nearest.none(len(vectors[0]), k, torch.device("cpu"))
        mask = torch.from_numpy(hidden)
        for start in range(0, len(self._parts[0]), CHUNK):
            some = slice(start, start + CHUNK)
            embedding, gradient = channels(vectors, tuple(part[some].float() for part in self._parts))
            similarities = mix(embedding, gradient, self._weight)
            top.update(similarities.masked_fill_(mask[some], -torch.inf), start)
        return top.best, top.where


def can_scan(bank: Bank, weight: float, device: torch.device) -> bool:
    """Whether a scan is the way: on the CPU, and of nothing but embeddings and projected gradients."""
    return device.type == "cpu" and (weight == 0 or len(bank.parts) < 3)


def find_left_out(
    bank: Bank, weight: float, codes: npt.NDArray[np.int64], k: int
) -> Callable[[Query], Neighbors]:
    """What finds the ``k`` nearest rows of a query's patches, its own group left out; see :func:`can_scan`.

    ``codes`` (images,) int64 are the group of each image.
    """
    scan = BankScan(bank.parts, weight)

    def find(query: Query) -> Neighbors:
        hidden = codes[bank.images] == codes[query.image]
        return scan.nearest(tuple(part.float() for part in query.parts), hidden, k).neighbors(bank.labels)

    return find


def _pilot_rank(k: int, chunks: int) -> int:
    """Which nearest row of one chunk is below the k-th of all, almost certainly."""
    share = k / chunks
    return int(np.ceil(share + 3 * share**0.5)) + 2


def _by_row(
    rows: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], values: npt.NDArray[np.float32], count: int
) -> tuple[Tensor, Tensor]:
    """Triples as matrices of ``count`` rows, as wide as the longest: values, -inf where none, and ids."""
    order = np.argsort(rows.astype(np.uint16), kind="stable")  # a radix sort of numbers below QUERIES
    rows = rows[order]
    counts = np.bincount(rows, minlength=count)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = max(1, int(counts.max(initial=0)))
    wide_values = np.full((count, width), -np.inf, dtype=np.float32)
    wide_ids = np.zeros((count, width), dtype=np.int64)
    wide_values[rows, places], wide_ids[rows, places] = values[order], ids[order]
    return torch.from_numpy(wide_values), torch.from_numpy(wide_ids)
