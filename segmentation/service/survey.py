"""The memory looked at as a whole: each image's classes, a map of patches, and those whose labels look wrong.

One pass over the rows, kept for the version that it is of. Called in the thread that searches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from retrieval.neighbors import Filter
from retrieval.store.records import ImageRecord
from segmentation.service.memory import Memory, State
from segmentation.transfer import blend_labels, vote_shares

#: Rows of the memory that a map shows and whose labels are doubted, at most, evenly spaced.
SAMPLE = 2000

#: Images searched without themselves in one go of doubts, at most.
_DOUBTED_IMAGES = 400


@dataclass
class Survey:
    """What one pass over the rows gives."""

    version: str
    shares: dict[int, npt.NDArray[np.float64]]
    """Image number (of any epoch) -> summed labels of its rows (C,)."""
    vectors: npt.NDArray[np.float32]
    """(n, D) of the sampled rows."""
    labels: npt.NDArray[np.uint8]
    """(n, C) of them."""
    places: npt.NDArray[np.int32]
    """(n, 3) image number, grid row, grid column of them."""
    doubts: list[Doubt] | None = None
    points: npt.NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Doubt:
    """A patch whose label its neighbours in other images do not share."""

    place: tuple[int, int, int]
    labelled: tuple[int, float]
    """Its largest class column, and that one's share."""
    neighbors_say: tuple[int, float]
    """The same of what its neighbours say."""
    support: float
    """The neighbours' share of the class that it is labelled as: the smaller, the more doubtful."""


class Surveys:
    """The survey of the newest version."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._last: Survey | None = None

    def now(self) -> tuple[State, Survey]:
        """The newest state and its survey, which takes one pass over the rows where it is new."""
        state = self._memory.now()
        if self._last is None or self._last.version != state.version:
            self._last = self._pass(state)
        return state, self._last

    def points(self) -> tuple[State, Survey, npt.NDArray[np.float32]]:
        """The sampled rows on a plane (n, 2), by their two principal components, in -1..1."""
        state, survey = self.now()
        if survey.points is None:
            survey.points = principal_plane(survey.vectors)
        return state, survey, survey.points

    def doubts(self) -> tuple[State, list[Doubt]]:
        """Sampled patches whose neighbours in other images disagree with their labels, worst first."""
        state, survey = self.now()
        if survey.doubts is None:
            survey.doubts = self._doubt(survey, state)
        return state, survey.doubts

    def _pass(self, state: State) -> Survey:
        index = self._memory.segmenter.index
        step, classes = max(1, -(-len(index) // SAMPLE)), len(index.classes)
        shares: dict[int, npt.NDArray[np.float64]] = {}
        vectors, labels, places, seen = [], [], [], 0
        for block in index.stream():
            numbers, where = np.unique(block.patches[:, 0], return_inverse=True)
            sums = np.zeros((len(numbers), classes))
            np.add.at(sums, where, block.labels.astype(np.float64))
            for number, each in zip(numbers.tolist(), sums, strict=True):
                shares[number] = shares.get(number, 0.0) + each
            chosen = slice(-seen % step, None, step)
            vectors.append(block.vectors[chosen])
            labels.append(block.labels[chosen])
            places.append(block.patches[chosen])
            seen += len(block)
        return Survey(
            state.version, shares, np.concatenate(vectors), np.concatenate(labels), np.concatenate(places)
        )

    def _doubt(self, survey: Survey, state: State) -> list[Doubt]:
        segmenter = self._memory.segmenter
        twins = _numbers_of_one_image(segmenter.images)
        doubts: list[Doubt] = []
        numbers = np.unique(survey.places[:, 0])
        for number in numbers[:: max(1, -(-len(numbers) // _DOUBTED_IMAGES))].tolist():
            rows = np.flatnonzero(survey.places[:, 0] == number)
            own = twins.get(number, (number,))
            k = min(segmenter.k, len(segmenter.index))
            found = segmenter.index.search(survey.vectors[rows], k, filter=Filter(not_images=own))
            if (found.ids[:, 0] < 0).any():  # there is no other image
                continue
            said = blend_labels(found.labels, vote_shares(found, temperature=segmenter.temperature))
            for row, shares in zip(rows.tolist(), said, strict=True):
                doubt = _doubt_of(survey.places[row], survey.labels[row], shares)
                if doubt is not None:
                    doubts.append(doubt)
        return sorted(doubts, key=lambda doubt: doubt.support)


def _numbers_of_one_image(records: Iterable[ImageRecord]) -> dict[int, tuple[int, ...]]:
    """Image number -> the numbers of all epochs of the same image, and of the same photo under other ids."""
    groups: dict[str, list[int]] = {}
    for record in records:
        groups.setdefault(record.sha256 or record.id, []).append(record.number)
    return {number: tuple(numbers) for numbers in groups.values() for number in numbers}


def _doubt_of(
    place: npt.NDArray[np.int32], label: npt.NDArray[np.uint8], said: npt.NDArray[np.float32]
) -> Doubt | None:
    """A doubt where the neighbours' largest class is another than the label's."""
    own, theirs = int(label.argmax()), int(said.argmax())
    if own == theirs:
        return None
    total = max(int(label.sum(dtype=np.int64)), 1)
    number, row, col = (int(value) for value in place)
    return Doubt(
        (number, row, col), (own, int(label[own]) / total), (theirs, float(said[theirs])), float(said[own])
    )


def principal_plane(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors (n, D) on their two principal axes, (n, 2) float32, scaled into -1..1; zeros where n < 3."""
    if len(vectors) < 3:
        return np.zeros((len(vectors), 2), dtype=np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    plane = centred @ axes[:, :-3:-1]
    flat: npt.NDArray[np.float32] = (plane / max(float(np.abs(plane).max()), 1e-12)).astype(np.float32)
    return flat
