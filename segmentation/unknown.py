"""Patches unlike anything in the memory: nearest rows that are farther than the memory's own ever are.

Source: the distance to near neighbours as a score for what a model has not seen, and a quantile of known
inputs as its threshold (*Out-of-Distribution Detection with Deep Nearest Neighbors*, Sun, Ming, Zhu, Li; ICML
2022, section 3). Here the known inputs are rows of the memory, each compared with the rows of other images.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError, StorageError
from retrieval.index import PatchIndex
from retrieval.neighbors import Filter, Neighbors
from retrieval.store.cache import cache_folder
from retrieval.store.files import atomic_write, storage_errors
from retrieval.store.records import ImageRecord

Similarities = npt.NDArray[np.float32]

#: Images of the memory that are looked at, and rows of each, at most.
IMAGES, ROWS = 128, 16
#: Stands for the similarity to no row at all: no cosine is lower.
FARTHEST = -1.0


def nearness_of(found: Sequence[Neighbors], shape: tuple[int, int]) -> Similarities:
    """The similarity of each patch's nearest row in any view: (h, w) float32, -1 without a neighbour."""
    best = np.max([each.similarities.max(axis=1) for each in found], axis=0)
    near: Similarities = np.maximum(best, FARTHEST).astype(np.float32).reshape(shape)
    return near


def least_similarity(index: PatchIndex, images: Iterable[ImageRecord], share: float) -> float:
    """The similarity that a ``share`` (0..1) of the memory's own rows do not reach.

    It is a quantile of :func:`own_similarities`, which are kept in the cache folder
    (``nearest/DIGEST.npy``) under the digest of the manifest, so that a changed memory gets its own.
    ``images`` are the index's records. Raises ConfigError where no image can be left out.
    """
    images = tuple(images)
    place = cache_folder() / "nearest" / f"{_digest(index)}.npy"
    own = _read(place)
    if own is None:
        own = own_similarities(index, images)
        _write(place, own)
    return float(np.quantile(own, share))


def own_similarities(index: PatchIndex, images: Iterable[ImageRecord], *, seed: int = 0) -> Similarities:
    """Nearest-neighbour similarities of rows of the memory among those of other images: (n,) rising.

    Up to :data:`IMAGES` images, drawn from ``seed``, give up to :data:`ROWS` rows each; the index's own
    search compares them, so that its codes and re-ranking count. Images of the same content, as
    augmentation epochs are, are left out together. Raises ConfigError for an index of merged rows or with
    fewer than two images.
    """
    if index.manifest.counts.get("patches") is not None:
        raise ConfigError(
            "transfer.unknown needs rows of one image, but those of a compacted index stand for several: "
            "take the index that it was made from, or leave transfer.unknown empty"
        )
    groups = _groups(images)
    if len(groups) < 2:
        raise ConfigError(
            "transfer.unknown compares the memory's images with each other, and there are fewer than two; "
            "add images to the index, or leave transfer.unknown empty"
        )
    generator = np.random.default_rng(seed)
    chosen = sorted(generator.choice(len(groups), min(IMAGES, len(groups)), replace=False).tolist())
    found = [
        index.search(vectors, 1, filter=Filter(not_images=groups[chosen[place]])).similarities[:, 0]
        for place, vectors in _sampled(index, [groups[number] for number in chosen], generator)
    ]
    own = np.concatenate(found) if found else np.zeros(0, dtype=np.float32)
    own = np.sort(own[np.isfinite(own)])
    if not own.size:
        raise ConfigError("transfer.unknown found no two images with rows in the index; leave it empty")
    return own.astype(np.float32)


def _groups(images: Iterable[ImageRecord]) -> list[list[int]]:
    """The numbers of the images that answer, those of one content together, by the first number."""
    groups: dict[str, list[int]] = {}
    for record in images:
        if not record.removed and record.patches:
            groups.setdefault(record.sha256 or f"number {record.number}", []).append(record.number)
    return list(groups.values())


def _sampled(
    index: PatchIndex, groups: Sequence[Sequence[int]], generator: np.random.Generator
) -> Iterator[tuple[int, Similarities]]:
    """(place in ``groups``, vectors (n, D)) of up to :data:`ROWS` rows of each, in one pass over all."""
    place_of = {number: place for place, numbers in enumerate(groups) for number in numbers}
    known = np.array(sorted(place_of), dtype=np.int64)
    owners = np.array([place_of[number] for number in known.tolist()], dtype=np.int64)
    vectors = np.zeros((0, index.similarity.width), dtype=np.float32)
    places, lots = np.zeros(0, dtype=np.int64), np.zeros(0)
    for rows in index.stream():
        numbers = rows.patches[:, 0].astype(np.int64)
        wanted = np.flatnonzero(np.isin(numbers, known))
        vectors = np.concatenate([vectors, rows.vectors[wanted]])
        places = np.concatenate([places, owners[np.searchsorted(known, numbers[wanted])]])
        lots = np.concatenate([lots, generator.random(len(wanted))])
        kept = _lowest(places, lots)
        vectors, places, lots = vectors[kept], places[kept], lots[kept]
    for place in np.unique(places).tolist():
        yield place, vectors[places == place]


def _lowest(places: npt.NDArray[np.int64], lots: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Which entries have the :data:`ROWS` lowest lots of their place."""
    order = np.lexsort((lots, places))
    starts = np.searchsorted(places[order], places[order])
    return order[np.arange(len(order)) - starts < ROWS]


def _digest(index: PatchIndex) -> str:
    what = [index.manifest.to_json(), index.similarity.to_json(), IMAGES, ROWS]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _read(place: Path) -> Similarities | None:
    """What was kept; None where nothing was, or it cannot be read."""
    try:
        own = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return own.astype(np.float32) if own.ndim == 1 and own.size and np.isfinite(own).all() else None


def _write(place: Path, own: Similarities) -> None:
    """Keep it where that is possible; a cache that cannot be written costs time alone."""
    content = io.BytesIO()
    np.save(content, own, allow_pickle=False)
    with contextlib.suppress(StorageError), storage_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(content.getbuffer())
