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


Similarity = Cosine | GradientProduct


def similarity_to_json(similarity: Similarity) -> dict[str, Any]:
    """Plain data for the manifest."""
    if isinstance(similarity, Cosine):
        return {"kind": "cosine", "width": similarity.width}
    return {
        "kind": "gradient_product",
        "embedding": similarity.embedding,
        "gradient": similarity.gradient,
        "activation": similarity.activation,
        "weight": similarity.weight,
    }


def similarity_from_json(data: dict[str, Any]) -> Similarity:
    """The inverse of :func:`similarity_to_json`."""
    if data["kind"] == "cosine":
        return Cosine(int(data["width"]))
    return GradientProduct(
        int(data["embedding"]), int(data["gradient"]), int(data["activation"]), float(data["weight"])
    )
