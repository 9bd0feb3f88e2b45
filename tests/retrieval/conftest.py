from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from retrieval import ClassInfo, ClassMap, Cosine, IndexSettings, Manifest, PatchIndex, create_index
from retrieval.similarity import Similarity

CLASSES = 4
WIDTH = 32

EXACT = IndexSettings(engine="exact", dtype="float32")
FLAT = IndexSettings(engine="faiss")


@dataclass(frozen=True)
class Bank:
    """Rows for an index: unit vectors in clusters, labels, patch positions; and queries near them."""

    vectors: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    patches: npt.NDArray[np.int32]
    queries: npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_manifest(similarity: Similarity | None = None) -> Manifest:
    classes = tuple(ClassInfo(10 * i, f"class {i}", (i, 2 * i, 3 * i)) for i in range(CLASSES))
    return Manifest(
        ClassMap(classes, ignore=(255,)),
        similarity or Cosine(WIDTH),
        recipe={"seed": 3},
        fingerprints={"weights": "abc"},
        counts={"images": 10},
        dataset={"name": "toy"},
        packages={"mycelia": "0"},
    )


@pytest.fixture(name="manifest")
def manifest_fixture() -> Callable[..., Manifest]:
    return make_manifest


@pytest.fixture(scope="session")
def bank() -> Bank:
    """300 rows of 10 images, 30 rows each, and 12 queries."""
    rng = np.random.default_rng(0)
    rows = 300
    centres = rng.standard_normal((20, WIDTH))
    vectors = unit(centres[rng.integers(20, size=rows)] + 0.3 * rng.standard_normal((rows, WIDTH)))
    labels = rng.integers(0, 256, (rows, CLASSES)).astype(np.uint8)
    position = np.arange(rows)
    patches = np.stack([position // 30, position % 30 // 6, position % 6], axis=1).astype(np.int32)
    queries = unit(vectors[::25] + 0.1 * rng.standard_normal((12, WIDTH)))
    return Bank(vectors, labels, patches, queries)


@pytest.fixture(params=[EXACT, FLAT], ids=["exact", "flat"])
def settings(request: pytest.FixtureRequest) -> IndexSettings:
    chosen = request.param
    assert isinstance(chosen, IndexSettings)
    if chosen.engine == "faiss":
        pytest.importorskip("faiss")
    return chosen


@pytest.fixture
def build(bank: Bank) -> Callable[..., PatchIndex]:
    """An index with the rows of ``bank``, added in uneven blocks and not flushed."""

    def make(folder: Path, settings: IndexSettings, rows: int = 300) -> PatchIndex:
        index = create_index(folder, make_manifest(), rows=rows, sample=bank.vectors, settings=settings)
        for start, stop in ((0, 1), (1, 170), (170, 170), (170, rows)):
            index.add(bank.vectors[start:stop], bank.labels[start:stop], bank.patches[start:stop])
        return index

    return make
