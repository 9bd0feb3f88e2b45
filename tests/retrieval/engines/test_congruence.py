"""The same steps on every engine give the same neighbours; ties may come in any order."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from retrieval import (
    Filter,
    ImageRecord,
    IndexSettings,
    Manifest,
    Neighbors,
    PatchIndex,
    create_index,
    open_index,
)
from retrieval.engines.qdrant.server import ServerIndex
from retrieval.engines.qdrant.settings import MEMORY, QdrantSettings
from retrieval.store.commit import IndexFiles
from retrieval.store.manifest import read_manifest

IMAGES, GRID, WIDTH, CLASSES = 30, (8, 10), 32, 4
ROWS = IMAGES * GRID[0] * GRID[1]

#: float32 arithmetic in different orders.
TOLERANCE = 2e-6

ENGINES = ["faiss", "edge", "memory", "server"]


class Store:
    """One index of one engine, which can be closed and opened again."""

    def __init__(self, engine: str, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self._client: Any = None
        url = {"memory": MEMORY, "server": os.environ.get("QDRANT_URL")}.get(engine)
        if engine == "memory":
            self._client = pytest.importorskip("qdrant_client").QdrantClient(MEMORY)
        if engine == "edge":
            pytest.importorskip("qdrant_edge")
        qdrant = QdrantSettings(
            url=url,
            collection=f"mycelia-test-{uuid.uuid4().hex}" if url else None,
            datatype="float32",
            threads=1,
        )
        name = "qdrant" if engine in ("edge", "memory", "server") else engine
        settings = IndexSettings(engine=name, dtype="float32", qdrant=qdrant)  # type: ignore[arg-type]
        if self._client is not None:
            self.index: PatchIndex = ServerIndex.create(
                IndexFiles(folder), manifest, qdrant, client=self._client
            )
        else:
            self.index = create_index(folder, manifest, rows=ROWS, settings=settings)

    def reopen(self) -> None:
        self.index.close()
        if self._client is not None:
            stored = read_manifest(self.folder)
            self.index = ServerIndex.open(IndexFiles(self.folder, stored), stored, client=self._client)
        else:
            self.index = open_index(self.folder)

    def delete(self) -> None:
        if isinstance(self.index, ServerIndex):
            self.index.collection.client.delete_collection(self.index.collection.name)
        self.index.close()


@pytest.fixture(params=ENGINES)
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, manifest: Callable[..., Manifest]
) -> Iterator[tuple[Store, Store]]:
    """An exact index, the oracle, and an index of another engine."""
    if request.param == "server" and not os.environ.get("QDRANT_URL"):
        pytest.skip(
            "no Qdrant server: set QDRANT_URL=http://HOST:6333 (and QDRANT_API_KEY) to run against one"
        )
    if request.param == "faiss":
        pytest.importorskip("faiss")
    stores = (
        Store("exact", tmp_path / "exact", manifest()),
        Store(request.param, tmp_path / "other", manifest()),
    )
    yield stores
    for store in stores:
        store.delete()


@pytest.fixture(scope="module")
def rows() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """A few thousand rows in clusters; every tenth vector occurs twice, so that there are ties."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((40, WIDTH))
    vectors = centres[rng.integers(40, size=ROWS)] + 0.4 * rng.standard_normal((ROWS, WIDTH))
    vectors[1::10] = vectors[0::10]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = rng.integers(0, 256, (ROWS, CLASSES)).astype(np.uint8)
    labels[::50] = 0
    place = np.arange(ROWS)
    patches = np.stack([place // 80, place % 80 // 10, place % 10], axis=1).astype(np.int32)
    return vectors.astype(np.float32), labels, patches


def record(number: int) -> ImageRecord:
    return ImageRecord(number, f"photo {number}", f"{number}.png", f"{number:064x}", 80, 100, 80)


RECORDS = [record(number) for number in range(IMAGES)]


def agree(
    pair: tuple[Store, Store], queries: npt.NDArray[np.float32], k: int, filter: Filter | None = None
) -> None:
    """Both find the same; where similarities tie, in any order and any of the tied."""
    oracle, other = (store.index for store in pair)
    wanted, found = oracle.search(queries, k, filter=filter), other.search(queries, k, filter=filter)
    assert len(oracle) == len(other)
    assert found.ids.dtype == np.int64 and found.similarities.dtype == np.float32
    np.testing.assert_allclose(found.similarities, wanted.similarities, atol=TOLERANCE, rtol=0)
    assert ((found.ids < 0) == np.isneginf(found.similarities)).all()
    for query in range(len(queries)):
        compare_places(oracle, wanted, other, found, query)


def compare_places(
    oracle: PatchIndex, wanted: Neighbors, other: PatchIndex, found: Neighbors, query: int
) -> None:
    """The neighbours that beat the last similarity are the same patches with the same labels."""
    ahead = wanted.similarities[query] > wanted.similarities[query, -1] + TOLERANCE
    left = keyed(oracle, wanted, query, ahead)
    right = keyed(other, found, query, ahead)
    assert left.keys() == right.keys()
    for place, label in left.items():
        np.testing.assert_array_equal(right[place], label)


def keyed(index: PatchIndex, found: Neighbors, query: int, kept: npt.NDArray[np.bool_]) -> dict[Any, Any]:
    places = index.patches(found.ids[query])[kept]
    return dict(zip(map(tuple, places.tolist()), found.labels[query][kept], strict=True))


def fill(store: Store, rows: Any, images: range) -> None:
    vectors, labels, patches = rows
    store.index.announce([RECORDS[number] for number in images])
    chosen = np.isin(patches[:, 0], images)
    store.index.add(vectors[chosen], labels[chosen], patches[chosen])


def near(rows: Any, count: int = 25, seed: int = 1) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    queries = rows[0][rng.choice(ROWS, count)] + 0.05 * rng.standard_normal((count, WIDTH))
    return (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)


FILTERS = [
    Filter(images=[3]),
    Filter(images=range(5, 12), not_classes=[0, 2]),
    Filter(not_images=[0, 1, 2]),
    Filter(not_classes=[1]),
    Filter(not_classes=[0, 1, 2, 3]),
    Filter(images=[]),
    Filter(images=[10_000]),
    Filter(datasets=["toy"], images=[4, 5]),
    Filter(datasets=["another"]),
]


def test_neighbours_agree(pair: tuple[Store, Store], rows: Any) -> None:
    for store in pair:
        fill(store, rows, range(IMAGES))
    for k in (1, 30):
        agree(pair, near(rows), k)


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_filters_agree(pair: tuple[Store, Store], rows: Any, filter: Filter) -> None:
    for store in pair:
        fill(store, rows, range(15))
    agree(pair, near(rows, 8), 30, filter)


def test_more_neighbours_than_rows(pair: tuple[Store, Store], rows: Any) -> None:
    for store in pair:
        agree_on_empty(store.index, near(rows, 3))
        fill(store, rows, range(1))
    agree(pair, near(rows, 3), 100)


def agree_on_empty(index: PatchIndex, queries: npt.NDArray[np.float32]) -> None:
    found = index.search(queries, 4)
    assert len(index) == 0 and (found.ids == -1).all() and (found.labels == 0).all()


def test_a_life_agrees(pair: tuple[Store, Store], rows: Any) -> None:
    """Add, save, reopen, remove, save, reopen, add, remove without saving the result of each."""
    queries = near(rows)
    for store in pair:
        fill(store, rows, range(10))
        store.index.flush(images=RECORDS[:10])
        store.reopen()
    agree(pair, queries, 30)
    for store in pair:
        assert store.index.remove(4) == 80
        assert store.index.remove(4) == 0
    agree(pair, queries, 30)
    agree(pair, queries, 30, Filter(images=[3, 4]))
    for store in pair:
        store.index.flush(images=[replace(r, removed=r.number == 4) for r in RECORDS[:10]])
        store.reopen()
    agree(pair, queries, 30)
    for store in pair:
        fill(store, rows, range(10, 20))
        assert store.index.remove(12) == 80
        store.index.flush(images=RECORDS[:20])
    agree(pair, queries, 30)
    for store in pair:
        store.reopen()
        assert len(store.index) == 18 * 80
        assert store.index.remove(4) == 0
    agree(pair, queries, 30, Filter(not_classes=[3]))


def test_streams_agree(pair: tuple[Store, Store], rows: Any) -> None:
    for store in pair:
        fill(store, rows, range(12))
        store.index.remove(5)
    left, right = (list(store.index.stream(batch=300)) for store in pair)
    for name in ("vectors", "labels", "patches"):
        ours, theirs = (
            np.concatenate([getattr(block, name) for block in blocks]) for blocks in (left, right)
        )
        np.testing.assert_array_equal(ours, theirs)
    for store, blocks in zip(pair, (left, right), strict=True):
        ids = np.concatenate([block.ids for block in blocks])
        assert (np.diff(ids) > 0).all()
        np.testing.assert_array_equal(store.index.patches(ids), np.concatenate([b.patches for b in left]))
