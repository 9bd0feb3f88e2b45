"""Which photos to label next: those that the memory is least sure of, knows least, and that differ.

Greedy farthest-point choice (Gonzalez 1985; as a choice of what to label, *Active Learning for Convolutional
Neural Networks: A Core-Set Approach*, Sener, Savarese; ICLR 2018), with distances weighted by how much there
is to learn from a photo.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segmentation.segmenter import Segmentation

#: Confidence below which a pixel counts as unsure.
SURE = 0.5
#: Share of the photos' median distance below which one looks like another, and above which like none.
LIKE, UNLIKE = 0.5, 1.0
#: Photos, evenly spaced, of which the median distance is taken: memory grows with their square.
COMPARED = 2000


@dataclass(frozen=True)
class Measures:
    """How well the memory serves a photo."""

    confidence: float
    """Mean over the pixels, in 0..1."""
    unsure: float
    """Share of the pixels whose confidence is below :data:`SURE`."""
    unknown: float | None
    """Share of the pixels that are unlike anything in the memory; None where that cannot be told."""
    descriptor: npt.NDArray[np.float32]
    """(D,) of length 1."""

    @classmethod
    def of(cls, result: Segmentation, least: float | None) -> Measures:
        """Those of a mask; ``least`` is the similarity below which a pixel is unlike the memory."""
        return cls(
            float(result.confidence.mean()),
            float((result.confidence < SURE).mean()),
            None if least is None else float(result.pixels.unknown(least).mean()),
            _unit(result.descriptor),
        )

    @property
    def need(self) -> float:
        """How much there is to learn, in 0..2: lack of confidence, and share of what is unknown."""
        return 1 - self.confidence + (self.unknown or 0.0)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the descriptor as 16 bit floats in base64."""
        return {
            "confidence": self.confidence,
            "unsure": self.unsure,
            "unknown": self.unknown,
            "descriptor": base64.b64encode(self.descriptor.astype("<f2").tobytes()).decode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measures:
        """The inverse of :meth:`to_json`."""
        values = np.frombuffer(base64.b64decode(data["descriptor"]), dtype="<f2").astype(np.float32)
        return cls(data["confidence"], data["unsure"], data["unknown"], _unit(values))


@dataclass(frozen=True)
class Ranked:
    """A photo in the order in which labelling it helps."""

    name: str
    score: float
    """Its need, times the distance to the nearest photo above it."""
    measures: Measures
    reasons: tuple[str, ...]


def rank(photos: Sequence[tuple[str, Measures]]) -> list[Ranked]:
    """Photos by what labelling them teaches, the most first; one that is like another above counts less.

    The first is the one with the largest need, each next one that with the largest need times distance
    (1 - cosine of mean descriptors) to the nearest one above. Equal scores keep the order of the names.
    """
    photos = sorted(photos, key=lambda photo: photo[0])
    if not photos:
        return []
    need = np.array([measures.need for _, measures in photos])
    together = np.stack([measures.descriptor for _, measures in photos])
    usual = _usual_distance(together)
    left, ranked = list(range(len(photos))), list[Ranked]()
    nearest, like = np.ones(len(photos)), np.full(len(photos), -1)
    while left:
        scores = need[left] * nearest[left]
        chosen = left.pop(int(scores.argmax()))
        name, measures = photos[chosen]
        above = photos[like[chosen]][0] if like[chosen] >= 0 else None
        reasons = _reasons(measures, above, float(nearest[chosen]), usual)
        ranked.append(Ranked(name, float(need[chosen] * nearest[chosen]), measures, reasons))
        distances = np.maximum(1 - together @ together[chosen], 0.0)
        closer = distances < nearest
        if len(ranked) == 1:
            closer[:] = True
        nearest[closer], like[closer] = distances[closer], chosen
    return ranked


def _usual_distance(descriptors: npt.NDArray[np.float32]) -> float:
    """The median distance of two photos, of up to :data:`COMPARED` of them; descriptors (n, D)."""
    some = descriptors[:: -(-len(descriptors) // COMPARED)]
    distances = np.maximum(1 - some @ some.T, 0.0)
    apart = distances[~np.eye(len(some), dtype=bool)]
    return float(np.median(apart)) if apart.size else 0.0


def _reasons(measures: Measures, above: str | None, distance: float, usual: float) -> tuple[str, ...]:
    reasons = [f"{_percent(measures.unsure)} of pixels below {SURE} confidence"]
    if measures.unknown is not None:
        reasons.append(f"{_percent(measures.unknown)} unlike anything in the memory")
    if above is not None and distance < LIKE * usual:
        reasons.append(f"looks like {above}, which is above")
    elif above is not None and distance >= UNLIKE * usual:
        reasons.append("looks like none of those above")
    return tuple(reasons)


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
    unit: npt.NDArray[np.float32] = (vector / length).astype(np.float32)
    return unit
