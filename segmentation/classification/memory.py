"""What may be wrong in a memory of images: pairs that are nearly the same, labels that the others deny."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError
from retrieval.index import PatchIndex
from retrieval.neighbors import NO_NEIGHBOR, Neighbors, Rows
from retrieval.progress import Progress, track
from retrieval.store.records import ImageRecord
from segmentation.classification.matches import Match, MatchBook
from segmentation.transfer import blend_labels, vote_shares

#: Similarity above which two memory images are nearly the same.
DUPLICATE = 0.98
#: A label is suspicious where the others give it less than the first and another class more than the second.
OWN_SHARE, OTHER_SHARE = 0.1, 0.7
#: Neighbours of an image that are looked through for pairs, and those listed for a suspicious label.
PAIRED, LISTED = 32, 5
_BATCH = 1024


@dataclass(frozen=True)
class DuplicatePair:
    """Two memory images that are nearly the same."""

    first: Match
    second: Match
    similarity: float
    same_file: bool
    """Whether their files have the same content."""

    @property
    def labels_differ(self) -> bool:
        """Whether they are labelled with other classes, so that one of them is wrong or incomplete."""
        return set(self.first.classes) != set(self.second.classes)


@dataclass(frozen=True)
class SuspiciousLabel:
    """A memory image whose label the other images deny."""

    image: Match
    own_share: float
    """Share of the others' vote for its own classes."""
    suggested: str
    """The class that the others vote for."""
    share: float
    """Share of the vote for that class."""
    neighbours: tuple[Match, ...]
    """The nearest of those who voted."""


def near_duplicates(
    index: PatchIndex,
    book: MatchBook,
    *,
    bound: float = DUPLICATE,
    progress: Progress | None = None,
) -> list[DuplicatePair]:
    """Pairs of memory images with a similarity above ``bound``, the most similar first.

    Each image is searched for by its own vector, and its :data:`PAIRED` nearest are looked through: of
    more copies of one image than that, not every pair is listed. Augmented views of an image are no
    pair. Raises ConfigError for a compacted index.
    """
    _check_whole(index)
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    with track(progress, "comparing", len(index)) as task:
        for rows in index.stream(batch=_BATCH):
            found = index.search(rows.vectors, min(PAIRED + book.epochs, len(index)))
            numbers = book.numbers(found.ids)
            near = (found.similarities > bound) & (found.ids != NO_NEIGHBOR)
            for query, place in np.argwhere(near):
                one, other = int(rows.patches[query, 0]), int(numbers[query, place])
                ours, theirs = book.record(one), book.record(other)
                key = (min(one, other), max(one, other))
                if ours.epoch or theirs.epoch or one == other or key in pairs:
                    continue
                similarity = float(found.similarities[query, place])
                sides = [
                    book.match(one, rows.labels[query], similarity=similarity),
                    book.match(other, found.labels[query, place], similarity=similarity),
                ]
                first, second = sorted(sides, key=lambda match: match.number)
                same = bool(ours.sha256) and ours.sha256 == theirs.sha256
                pairs[key] = DuplicatePair(first, second, similarity, same)
            task.advance(len(rows))
    return sorted(pairs.values(), key=lambda p: (-p.similarity, p.first.number, p.second.number))


def suspicious_labels(
    index: PatchIndex,
    book: MatchBook,
    images: Iterable[ImageRecord],
    *,
    k: int,
    temperature: float,
    own_share: float = OWN_SHARE,
    other_share: float = OTHER_SHARE,
    progress: Progress | None = None,
) -> list[SuspiciousLabel]:
    """Memory images that the vote of the ``k`` nearest others would label otherwise, the surest first.

    An image's own classes get less than ``own_share`` of that vote, another class more than
    ``other_share``. Images with the same content do not vote on each other. ``images`` are the index's
    records. Raises ConfigError for a compacted index.
    """
    _check_whole(index)
    records = [record for record in images if not record.removed]
    group_of = _groups(records)
    largest = int(np.bincount(list(group_of.values())).max()) if group_of else 1
    found_labels: list[SuspiciousLabel] = []
    with track(progress, "voting", len(index)) as task:
        for rows in index.stream(batch=_BATCH):
            found = index.search(rows.vectors, min(k + largest, len(index)))
            numbers = book.numbers(found.ids)
            others = _others(rows, found, numbers, group_of, k)
            votes = vote_shares(others, temperature=temperature)
            shares = blend_labels(others.labels, votes)
            for query in range(len(rows)):
                if book.record(int(rows.patches[query, 0])).epoch:
                    continue
                own = rows.labels[query] > 0
                own_vote = float(shares[query, own].sum())
                rest = np.where(own, 0, shares[query])
                column = int(rest.argmax())
                if not own.any() or own_vote >= own_share or rest[column] <= other_share:
                    continue
                found_labels.append(
                    SuspiciousLabel(
                        image=book.match(int(rows.patches[query, 0]), rows.labels[query], similarity=1.0),
                        own_share=own_vote,
                        suggested=index.classes.names[column],
                        share=float(rest[column]),
                        neighbours=tuple(book.matches(others, query, count=LISTED)),
                    )
                )
            task.advance(len(rows))
    return sorted(found_labels, key=lambda item: (-item.share, item.own_share, item.image.number))


def _groups(records: Iterable[ImageRecord]) -> dict[int, int]:
    """Image number -> number of its content: the same for all epochs and for copies of a file."""
    contents: dict[str, int] = {}
    return {
        record.number: contents.setdefault(record.sha256 or f"id {record.id}", len(contents))
        for record in records
    }


def _others(
    rows: Rows, found: Neighbors, numbers: npt.NDArray[np.int32], group_of: dict[int, int], k: int
) -> Neighbors:
    """The nearest ``k`` of each row's neighbours that are of other images; the rest is no neighbour."""
    table = np.full(max(group_of, default=0) + 2, -1, dtype=np.int64)
    table[list(group_of)] = list(group_of.values())
    theirs = table[numbers]  # the last entry serves the number -1
    ours = table[rows.patches[:, 0]][:, None]
    keep = (found.ids != NO_NEIGHBOR) & (theirs != ours)
    keep &= np.cumsum(keep, axis=1) <= k
    return Neighbors(
        np.where(keep, found.ids, NO_NEIGHBOR),
        np.where(keep, found.similarities, -np.inf).astype(np.float32),
        np.where(keep[:, :, None], found.labels, 0).astype(np.uint8),
    )


def _check_whole(index: PatchIndex) -> None:
    if index.manifest.counts.get("patches") is not None:
        raise ConfigError(
            "the rows of a compacted index stand for several images each; "
            "look at the index that it was made from"
        )
