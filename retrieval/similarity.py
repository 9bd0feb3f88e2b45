"""What "similar" means for the vectors of an index: data about their layout, no computing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cosine:
    """Inner product of unit vectors of ``width`` numbers."""

    width: int


@dataclass(frozen=True)
class GradientProduct:
    """The true FUNGI similarity, without a projection (exact engine only).

    A vector is three unit vectors side by side, ``[e | g | a]``, of the widths ``embedding``,
    ``gradient`` and ``activation``; the similarity of two vectors is
    ``(e.e' + weight * (g.g') * (a.a')) / (1 + weight)``, since the gradient of a patch is the
    outer product of g and a, and the cosine of two outer products is the product of cosines.
    """

    embedding: int
    gradient: int
    activation: int
    weight: float

    @property
    def width(self) -> int:
        """Numbers per stored vector."""
        return self.embedding + self.gradient + self.activation


#: What an engine computes by itself.
Direct = Cosine | GradientProduct


@dataclass(frozen=True)
class Reranked:
    """Neighbours found by one similarity and put in the order of another.

    The ``candidates`` rows nearest by ``first`` are ordered by ``then``, and the best of them are the
    neighbours. A vector begins with the numbers of ``first`` and ends with those of ``then``; where
    ``separate`` is False they overlap: ``first`` is the embedding, with which ``then`` begins.
    """

    first: Cosine
    then: GradientProduct
    candidates: int
    separate: bool = True

    @property
    def width(self) -> int:
        """Numbers per row and query."""
        return self.then.width + (self.first.width if self.separate else 0)


Similarity = Direct | Reranked


def searched_width(similarity: Similarity) -> int:
    """Numbers of a vector, from the left, by which an engine searches."""
    return similarity.first.width if isinstance(similarity, Reranked) else similarity.width


def similarity_to_json(similarity: Similarity) -> dict[str, Any]:
    """Plain data for the manifest."""
    if isinstance(similarity, Cosine):
        return {"kind": "cosine", "width": similarity.width}
    if isinstance(similarity, Reranked):
        return {
            "kind": "reranked",
            "first": similarity_to_json(similarity.first),
            "then": similarity_to_json(similarity.then),
            "candidates": similarity.candidates,
            "separate": similarity.separate,
        }
    return {
        "kind": "gradient_product",
        "embedding": similarity.embedding,
        "gradient": similarity.gradient,
        "activation": similarity.activation,
        "weight": similarity.weight,
    }


def similarity_from_json(data: dict[str, Any]) -> Similarity:
    """The inverse of :func:`similarity_to_json`; raises KeyError or ValueError for another shape."""
    kind = data["kind"]
    if kind == "cosine":
        return _cosine(data)
    if kind == "gradient_product":
        return _gradient_product(data)
    if kind == "reranked":
        first, then = _cosine(data["first"]), _gradient_product(data["then"])
        return Reranked(first, then, int(data["candidates"]), bool(data["separate"]))
    raise ValueError(f"unknown similarity {kind!r}")


def _cosine(data: dict[str, Any]) -> Cosine:
    return Cosine(int(data["width"]))


def _gradient_product(data: dict[str, Any]) -> GradientProduct:
    embedding, gradient, activation = (int(data[part]) for part in ("embedding", "gradient", "activation"))
    return GradientProduct(embedding, gradient, activation, float(data["weight"]))
