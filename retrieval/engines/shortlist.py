"""A bank in bfloat16, by which exact search finds the few rows that may be among the nearest.

Where a processor multiplies matrices faster in bfloat16, all rows are compared in it, and the float32
similarity of the best few decides. How far bfloat16 can be off is known from what rounding took away, so it
is known too for which queries a nearer row may have been missed. That is no proof but next to one: it takes
the rounding errors of hundreds of numbers to be independent, and leaves them six standard deviations.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from retrieval.similarity import DirectSimilarity

#: Rows compared at a time, and queries: 64 MB of similarities, kept for the next search.
_ROWS, _QUERIES = 131_072, 256
#: Similarities of which the largest stands for all, before any is ranked.
BLOCK = 32
#: Rows read from the bank at a time.
_READ = 8192
#: Half the distance of neighbouring numbers, relative to the number: bfloat16 and float32.
_ROUNDED, _ROUNDED_FLOAT = 2.0**-8, 2.0**-24
#: Rounding errors of a product's terms are taken to be independent: so many standard deviations of their sum.
_DEVIATIONS = 6.0
#: The score of what is no candidate: of all numbers, the bits of -0 are the lowest whole number.
_NONE = -0.0
#: A part of more rows than this is not copied again where others come.
_SETTLED = 8192
#: Rows by which is guessed how similar the nearest are, and how far below that similarities are counted from.
_SAMPLE, _BELOW = 4096, 0.05


class Candidates(NamedTuple):
    """The rows that may be nearest to each of Q queries."""

    ids: Tensor
    """(Q, C) int64, in no order, none twice."""
    most: Tensor
    """(Q,) float32: no other row is more similar than this; infinite where nothing is known."""


class _Norms(NamedTuple):
    """The largest norms among some vectors, or those of each of Q queries."""

    two: Tensor
    """Euclidean."""
    four: Tensor
    """The fourth root of the sum of fourth powers."""


class _Part(NamedTuple):
    """Rows in bfloat16, and how far they can be from what they stand for."""

    rows: tuple[Tensor, ...]
    """(n, d) bfloat16 for each product of the similarity; the first with a column of ones behind it."""
    sizes: tuple[_Norms, ...]
    """Of the rows of each product."""
    lost: tuple[_Norms, ...]
    """Of what rounding took from them."""


class _Asked(NamedTuple):
    """Q queries in bfloat16; the first part with what is taken from all their similarities behind it."""

    parts: tuple[Tensor, ...]
    """(Q, d) bfloat16 for each product."""
    sizes: tuple[_Norms, ...]
    """Of the queries as they were."""
    lost: tuple[_Norms, ...]
    """Of what rounding took from them."""
    offset: Tensor
    """(Q,) float32: what a similarity is more than the score that is computed for it."""


class Shortlist:
    """Rows of a bank in bfloat16, about the mean of those that were there first.

    All rows have the mean's product with a query in common, so that their order is the same without it, and
    smaller numbers lose less to rounding. Products other than the first are not summed and keep theirs.
    """

    def __init__(self, similarity: DirectSimilarity) -> None:
        self._similarity = similarity
        self._mean: Tensor | None = None
        self._parts: tuple[_Part, ...] = ()  # replaced as a whole: others may be searching
        self._buffers = threading.local()

    def __len__(self) -> int:
        return sum(len(part.rows[0]) for part in self._parts)

    def update(self, bank: Tensor) -> None:
        """Take over the rows of ``bank`` (N, D) that are new; those taken over before have not changed."""
        if self._mean is None:
            first = self._similarity.row_parts(bank[:_ROWS].float())[0]
            self._mean = first.mean(dim=0)
        parts = list(self._parts)
        if parts and len(self) < len(bank) and len(parts[-1].rows[0]) < _SETTLED:
            parts.pop()  # it grows
        start = sum(len(part.rows[0]) for part in parts)
        parts += [self._copied(bank[at : at + _ROWS]) for at in range(start, len(bank), _ROWS)]
        self._parts = tuple(parts)

    def search(self, queries: Tensor, wanted: int, barred: Tensor | None) -> Candidates:
        """``wanted`` rows for each of queries (Q, D), ``barred`` (N,) only where there are too few others.

        There are to be many times as many rows as are wanted.
        """
        parts = self._parts
        found = [
            self._search_some(parts, queries[start : start + _QUERIES], wanted, barred)
            for start in range(0, len(queries), _QUERIES)
        ]
        return Candidates(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _copied(self, rows: Tensor) -> _Part:
        assert self._mean is not None
        copies: list[list[Tensor]] = []
        sizes: list[list[_Norms]] = []
        lost: list[list[_Norms]] = []
        for start in range(0, len(rows), _READ):
            plain = list(self._similarity.row_parts(rows[start : start + _READ].float()))
            plain[0] = plain[0] - self._mean
            low = [part.bfloat16() for part in plain]
            sizes.append([_largest(_norms(part)) for part in plain])
            lost.append([_largest(_norms(a - b.float())) for a, b in zip(plain, low, strict=True)])
            copies.append([_with_column(low[0], 1.0), *low[1:]])
        return _Part(
            tuple(map(torch.cat, zip(*copies, strict=True))),
            tuple(_largest_of(norms) for norms in zip(*sizes, strict=True)),
            tuple(_largest_of(norms) for norms in zip(*lost, strict=True)),
        )

    def _asked(self, parts: Sequence[_Part], queries: Tensor, wanted: int) -> _Asked:
        """Queries (Q, D) with scores around 0 for what may be among the ``wanted``: small ones round less."""
        assert self._mean is not None
        plain = self._similarity.query_parts(queries)
        low = [part.bfloat16() for part in plain]
        lost = tuple(_norms(a - b.float()) for a, b in zip(plain, low, strict=True))
        sizes = tuple(_norms(part) for part in plain)
        rows, total = parts[0].rows, sum(len(part.rows[0]) for part in parts)
        step = -(-len(rows[0]) // _SAMPLE)
        sample = [part[::step] for part in rows]
        scores = _scores((_with_column(low[0], 0.0), *low[1:]), sample)
        seen = min(len(sample[0]), -(-2 * wanted * len(rows[0]) // (step * total)))
        level = scores.topk(seen, dim=1).values[:, -1].float() - _BELOW * sizes[0].two
        level = level.bfloat16()
        first = torch.cat([low[0], -level[:, None]], dim=1)
        offset = plain[0] @ self._mean + level.float()
        return _Asked((first, *low[1:]), sizes, lost, offset)

    def _search_some(
        self, parts: Sequence[_Part], queries: Tensor, wanted: int, barred: Tensor | None
    ) -> Candidates:
        asked = self._asked(parts, queries, wanted)
        ids = torch.empty(len(queries), 0, dtype=torch.int64)
        values = torch.empty(len(queries), 0, dtype=torch.int16)
        most = torch.full((len(queries),), -torch.inf)
        off = torch.zeros(len(queries))
        start = 0
        for part in parts:
            stop = start + len(part.rows[0])
            scores = self._compare(asked, part)
            if barred is not None:
                scores[:, : stop - start].masked_fill_(barred[start:stop], _NONE)
            best, where, left = _best(scores, wanted)
            error = _largest_error(asked, part)
            off = torch.maximum(off, error)
            most = torch.maximum(most, left * (1 + _ROUNDED) + error)
            ids, values = torch.cat([ids, where + start], dim=1), torch.cat([values, best], dim=1)
            start = stop
        if ids.shape[1] > wanted:
            values, kept = values.topk(wanted, dim=1, sorted=False)
            ids = ids.gather(1, kept)
            most = torch.maximum(most, _numbers(values.amin(dim=1)) * (1 + _ROUNDED) + off)
        return Candidates(ids, most + asked.offset)

    def _compare(self, asked: _Asked, part: _Part) -> Tensor:
        """Scores (Q, n') in bfloat16, none behind the n rows; n' is a multiple of the block."""
        queries, count = len(asked.offset), len(part.rows[0])
        width = -(-count // BLOCK) * BLOCK
        buffers = [self._buffer(number, queries, width) for number in range(min(2, len(part.rows)))]
        _scores(asked.parts, part.rows, out=[buffer[:, :count] for buffer in buffers])
        buffers[0][:, count:] = _NONE
        return buffers[0]

    def _buffer(self, number: int, queries: int, width: int) -> Tensor:
        """Memory of this thread for (Q, n) bfloat16: new memory is slow."""
        kept: dict[int, Tensor] = self._buffers.__dict__.setdefault("kept", {})
        size = queries * width
        if number not in kept or len(kept[number]) < size:
            kept[number] = torch.empty(size, dtype=torch.bfloat16)
        return kept[number][:size].view(queries, width)


def _best(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest of (Q, n) bfloat16: their bits (Q, C) int16, columns (Q, C), and a bound on the rest (Q,).

    Bits of bfloat16 that are no negative numbers are ordered as whole numbers are, which are faster to
    compare; where a bound would be negative it is infinite. Every n/32-th column is in the same block.
    """
    queries, width = scores.shape
    count = width // BLOCK
    blocks = scores.view(torch.int16).view(queries, BLOCK, count)
    peaks, chosen = blocks.amax(dim=1).topk(min(wanted, count), dim=1, sorted=False)
    inside = blocks.gather(2, chosen[:, None, :].expand(-1, BLOCK, -1)).flatten(1)
    best, where = inside.topk(min(wanted, inside.shape[1]), dim=1, sorted=False)
    columns = where // chosen.shape[1] * count + chosen.gather(1, where % chosen.shape[1])
    left = torch.full((queries,), -torch.inf)
    if chosen.shape[1] < count:
        left = _numbers(peaks.amin(dim=1))
    if best.shape[1] < inside.shape[1]:
        left = torch.maximum(left, _numbers(best.amin(dim=1)))
    return best, columns, left


def _scores(queries: Sequence[Tensor], rows: Sequence[Tensor], *, out: Sequence[Tensor] = ()) -> Tensor:
    """Scores (Q, n) in bfloat16 of one product or of three, in the first of one or two tensors ``out``."""
    first, second = (*out, None, None)[:2]
    if len(queries) == 1:
        return torch.mm(queries[0], rows[0].T, out=first)
    gradients = torch.mm(queries[1], rows[1].T, out=first)
    others = torch.mm(queries[2], rows[2].T, out=second)
    gradients.mul_(others)
    return gradients.add_(torch.mm(queries[0], rows[0].T, out=others))


def _with_column(part: Tensor, value: float) -> Tensor:
    return torch.nn.functional.pad(part, (0, 1), value=value)


def _norms(vectors: Tensor) -> _Norms:
    """Of each of (n, d)."""
    squares = vectors.square()
    return _Norms(squares.sum(dim=-1).sqrt(), squares.square().sum(dim=-1).sqrt().sqrt())


def _largest(norms: _Norms) -> _Norms:
    return _Norms(norms.two.max(), norms.four.max())


def _largest_of(norms: Sequence[_Norms]) -> _Norms:
    return _Norms(*(torch.stack(values).max() for values in zip(*norms, strict=True)))


def _numbers(bits: Tensor) -> Tensor:
    """float32 of the bits of bfloat16 numbers; infinite for negative ones, which bits do not order."""
    return torch.where(bits < 0, torch.inf, bits.view(torch.bfloat16).float())


def _largest_error(asked: _Asked, part: _Part) -> Tensor:
    """How much larger a score (Q,) can be than what bfloat16 says of it, but for the last rounding.

    Of one product q b: the sum of q_i (b_i - b'_i) and (q_i - q'_i) b'_i. Its standard deviation is at most
    the root of ||q||_4^2 ||b - b'||_4^2 + ||q - q'||_4^2 ||b'||_4^2 (Cauchy and Schwarz, of squares), and it
    is never more than ||q|| ||b - b'|| + ||q - q'|| ||b'||. Two that are multiplied:
    |g a - g' a'| <= |g| |a - a'| + |a'| |g - g'|, each of the two rounded before.
    """
    errors: list[Tensor] = []
    sizes: list[Tensor] = []
    measures = zip(asked.sizes, asked.lost, part.sizes, part.lost, strict=True)
    for number, (query, query_lost, row, row_lost) in enumerate(measures):
        most = query.two * row_lost.two + query_lost.two * (row.two + row_lost.two)
        deviation = torch.hypot(query.four * row_lost.four, query_lost.four * (row.four + row_lost.four))
        sizes.append((query.two + query_lost.two) * (row.two + row_lost.two))
        summed = asked.parts[number].shape[1] * _ROUNDED_FLOAT * (sizes[-1] + 1)
        errors.append(torch.minimum(most, _DEVIATIONS * deviation) + summed)
    if len(errors) == 1:
        return errors[0]
    # the scores of embeddings are counted from a level, so that they are no larger than the others' and it
    rounded = [_ROUNDED * size for size in (sizes[0] + 1, sizes[1], sizes[2])]
    embeddings, gradients, activations = map(torch.add, errors, rounded)
    multiplied = sizes[1] * activations + (sizes[2] + activations) * gradients
    return embeddings + multiplied + _ROUNDED * sizes[1] * sizes[2]
