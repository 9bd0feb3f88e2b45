"""What "similar" means for the vectors of an index: their layout, and how two of them compare.

A similarity is a frozen dataclass with a ``kind`` of its own in the manifest; :data:`KINDS` has them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Similarity(Protocol):
    """What an index, an engine and an edit may ask of a similarity."""

    kind: ClassVar[str]
    """Its name in the manifest."""
    inner_product: ClassVar[bool]
    """Whether it is the inner product of unit vectors, as any vector database computes it."""

    @property
    def width(self) -> int:
        """Numbers per row and query."""

    @property
    def searched(self) -> DirectSimilarity:
        """What an engine searches by: itself, or the coarse one of two; of a vector's first numbers."""

    @property
    def reranked(self) -> Reranked | None:
        """Itself where what is found is put in order by a second similarity, else None."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest."""


class DirectSimilarity(Similarity, Protocol):
    """A similarity that an engine computes by itself: ``p0``, or ``p0 + p1 * p2``, of one or three products.

    Each ``p`` is the inner product of a part of the query and the same part of the row.
    """

    def query_parts(self, queries: Tensor) -> tuple[Tensor, ...]:
        """The parts of queries (Q, D), weighted: (Q, d) each."""

    def row_parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The parts of rows (n, D): views (n, d) each."""

    def compare(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Similarity of every query to every row: (Q, D) and (n, D) float32 -> (Q, n) float32."""


@dataclass(frozen=True)
class Cosine:
    """Inner product of unit vectors of ``width`` numbers."""

    width: int

    kind: ClassVar[str] = "cosine"
    inner_product: ClassVar[bool] = True

    @property
    def searched(self) -> Cosine:
        """Itself."""
        return self

    @property
    def reranked(self) -> Reranked | None:
        """None."""
        return None

    def query_parts(self, queries: Tensor) -> tuple[Tensor]:
        """Queries (Q, D) as they are."""
        return (queries,)

    def row_parts(self, rows: Tensor) -> tuple[Tensor]:
        """Rows (n, D) as they are."""
        return (rows,)

    def compare(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Similarity of every query to every row: (Q, D) and (n, D) float32 -> (Q, n) float32."""
        return queries @ rows.T

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {"kind": self.kind, "width": self.width}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cosine:
        """The inverse of :meth:`to_json`."""
        return cls(int(data["width"]))


@dataclass(frozen=True)
class GradientProduct:
    """The true FUNGI similarity, without a projection.

    A vector is three unit vectors side by side, ``[e | g | a]``, of the widths ``embedding``,
    ``gradient`` and ``activation``; the similarity of two vectors is
    ``(e.e' + weight * (g.g') * (a.a')) / (1 + weight)``, since the gradient of a patch is the
    outer product of g and a, and the cosine of two outer products is the product of cosines.
    """

    embedding: int
    gradient: int
    activation: int
    weight: float

    kind: ClassVar[str] = "gradient_product"
    inner_product: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Numbers per stored vector."""
        return self.embedding + self.gradient + self.activation

    @property
    def searched(self) -> GradientProduct:
        """Itself."""
        return self

    @property
    def reranked(self) -> Reranked | None:
        """None."""
        return None

    def row_parts(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The views e, g and a of vectors (..., D)."""
        first, second = self.embedding, self.embedding + self.gradient
        return vectors[..., :first], vectors[..., first:second], vectors[..., second : self.width]

    def query_parts(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """e, g and a of queries (Q, D), weighted: ``(e.e') + (g.g') * (a.a')`` is the similarity.

        The weights go onto the queries, which are few; the outer products' cosine is a product of cosines.
        """
        share = 1.0 / (1.0 + self.weight)
        e, g, a = self.row_parts(queries)
        return e * share, g * (self.weight * share), a

    def compare(self, queries: Tensor, rows: Tensor) -> Tensor:
        """Similarity of every query to every row: (Q, D) and (n, D) float32 -> (Q, n) float32."""
        query_e, query_g, query_a = self.query_parts(queries)
        row_e, row_g, row_a = self.row_parts(rows)
        gradients = query_g @ row_g.T
        gradients.mul_(query_a @ row_a.T)
        return gradients.addmm_(query_e, row_e.T)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        widths = {"embedding": self.embedding, "gradient": self.gradient, "activation": self.activation}
        return {"kind": self.kind, **widths, "weight": self.weight}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GradientProduct:
        """The inverse of :meth:`to_json`."""
        embedding, gradient, activation = (
            int(data[part]) for part in ("embedding", "gradient", "activation")
        )
        return cls(embedding, gradient, activation, float(data["weight"]))


@dataclass(frozen=True)
class Reranked:
    """Neighbours found by one similarity and put in the order of another.

    The ``candidates`` rows nearest by ``coarse`` are ordered by ``exact``, and the best of them are the
    neighbours. A vector begins with the numbers of ``coarse`` and ends with those of ``exact``; where
    ``separate`` is False they overlap: ``coarse`` is the embedding, with which ``exact`` begins.
    """

    coarse: Cosine
    exact: GradientProduct
    candidates: int
    separate: bool = True

    kind: ClassVar[str] = "reranked"
    inner_product: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Numbers per row and query."""
        return self.exact.width + (self.coarse.width if self.separate else 0)

    @property
    def searched(self) -> Cosine:
        """The coarse similarity."""
        return self.coarse

    @property
    def reranked(self) -> Reranked:
        """Itself."""
        return self

    def with_candidates(self, candidates: int) -> Reranked:
        """The same with so many rows to put in order."""
        return replace(self, candidates=candidates)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest; the two similarities have the names of format 2 there."""
        parts = {"first": self.coarse.to_json(), "then": self.exact.to_json()}
        return {"kind": self.kind, **parts, "candidates": self.candidates, "separate": self.separate}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Reranked:
        """The inverse of :meth:`to_json`."""
        coarse, exact = Cosine.from_json(data["first"]), GradientProduct.from_json(data["then"])
        return cls(coarse, exact, int(data["candidates"]), bool(data["separate"]))


#: Every similarity that a manifest may name.
KINDS = {cls.kind: cls for cls in (Cosine, GradientProduct, Reranked)}


def similarity_from_json(data: dict[str, Any]) -> Similarity:
    """The inverse of ``to_json`` of any similarity; raises KeyError or ValueError for another shape."""
    if data["kind"] not in KINDS:
        raise ValueError(f"unknown similarity {data['kind']!r}")
    found: Similarity = KINDS[data["kind"]].from_json(data)
    return found
