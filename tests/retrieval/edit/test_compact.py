"""A compacted index: smaller, of the same memory, and readable by everything that reads an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval import (
    Cosine,
    GradientProduct,
    ImageRecord,
    IndexSettings,
    Manifest,
    create_index,
    open_index,
    read_images,
)
from retrieval.edit import compact as compact_module
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import ConfigError, IndexExistsError
from retrieval.progress import ProgressEvent
from retrieval.similarity import Similarity

EXACT = IndexSettings(engine="exact", dtype="float32")
RECORDS = [ImageRecord(i, f"photo {i}", f"{i}.png", "0" * 64, 60, 50, 40) for i in range(10)]
PLACES, EACH, WIDTH = 40, 10, 24
Make = Callable[..., Path]


@pytest.fixture
def source(tmp_path: Path, manifest: Callable[..., Manifest]) -> Make:
    """An index of 40 places with ten near copies each: 32 of class 0, 6 of class 1, 2 of class 2."""

    def make(
        name: str = "source", settings: IndexSettings = EXACT, similarity: Similarity | None = None
    ) -> Path:
        rng = np.random.default_rng(5)
        centres = rng.standard_normal((PLACES, WIDTH))
        vectors = np.repeat(centres, EACH, axis=0) + 0.1 * rng.standard_normal((PLACES * EACH, WIDTH))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        column = np.repeat(np.repeat([0, 1, 2], [32, 6, 2]), EACH)
        labels = (255 * np.eye(4)[column]).astype(np.uint8)
        labels[7] = 0  # a patch that nobody labelled
        position = np.arange(PLACES * EACH)
        patches = np.stack([position % 10, position // 10 % 8, position // 80], axis=1).astype(np.int32)
        folder = tmp_path / name
        with create_index(
            folder, manifest(similarity or Cosine(WIDTH)), rows=400, settings=settings
        ) as index:
            index.add(vectors.astype(np.float32), labels, patches)
            (folder / "thumbs").mkdir()
            (folder / "thumbs" / "000001.jpg").write_bytes(b"picture")
            (folder / "features.safetensors").write_bytes(b"tensors")
            index.remove(3)
            index.flush(images=RECORDS)
        return folder

    return make


@pytest.mark.parametrize("engine", ["exact", "faiss", "qdrant"])
def test_prototypes_stand_for_the_places_and_everything_comes_along(
    tmp_path: Path, source: Make, engine: str
) -> None:
    pytest.importorskip({"faiss": "faiss", "qdrant": "qdrant_edge"}.get(engine, "torch"))
    folder = source(settings=IndexSettings(engine=engine))
    heard: list[ProgressEvent] = []
    report = compact_index(
        folder,
        tmp_path / "b",
        options=CompactOptions(0.25),
        settings=IndexSettings(engine=engine),
        progress=heard.append,
    )
    assert report.rows == 360 and 80 <= report.prototypes <= 100
    ends = {event.stage: (event.done, event.total) for event in heard if event.event == "end"}
    assert ends == {"reading": (360, 360), "merging": (359, 359)}
    with open_index(folder) as old, open_index(tmp_path / "b", verify=True) as new:
        before, after = (next(index.stream(batch=1000)) for index in (old, new))
        assert len(after) == len(new) == report.prototypes
        assert after.multiplicity is not None
        assert after.multiplicity.sum() == pytest.approx(359, rel=1e-4)  # the unlabelled one is left behind
        np.testing.assert_allclose(np.linalg.norm(after.vectors, axis=1), 1, atol=2e-3)
        places = {tuple(place) for place in before.patches.tolist()}
        assert {tuple(place) for place in after.patches.tolist()} <= places
        assert new.manifest.counts["patches"] == 359 and new.manifest.counts["images"] == 10
        found = new.search(before.vectors, 1)
        wrong = found.labels[:, 0].argmax(axis=1) != before.labels.argmax(axis=1)
        assert not wrong[before.labels.any(axis=1)].any()
        assert found.similarities.min() > 0.7
    records = read_images(tmp_path / "b")
    assert [record.id for record in records] == [record.id for record in RECORDS]
    assert sum(record.patches for record in records) == report.prototypes and records[3].patches == 0
    assert (tmp_path / "b" / "thumbs" / "000001.jpg").read_bytes() == b"picture"
    assert (tmp_path / "b" / "features.safetensors").read_bytes() == b"tensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "source"]


def test_rare_classes_have_more_say_than_their_share(tmp_path: Path, source: Make) -> None:
    compact_index(source(), tmp_path / "b", options=CompactOptions(0.2), settings=EXACT)
    with open_index(tmp_path / "b") as index:
        rows = next(index.stream())
    assert rows.multiplicity is not None
    weight = np.bincount(rows.labels.argmax(axis=1), rows.multiplicity)
    per_patch = weight / np.array([287, 54, 18])  # what is live and labelled of each class
    assert per_patch[2] > per_patch[1] > per_patch[0] > 0
    expected = (np.array([287, 54, 18]) / 359) ** -0.5
    np.testing.assert_allclose(per_patch / per_patch[0], expected / expected[0], rtol=1e-3)


def test_cells_are_cut_and_every_row_is_in_one(
    tmp_path: Path, source: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact_module, "CELL_ROWS", 30)
    monkeypatch.setattr(compact_module, "MAX_CELL_ROWS", 25)
    monkeypatch.setattr(compact_module, "_BLOCK", 64)
    report = compact_index(source(), tmp_path / "b", options=CompactOptions(0.3), settings=EXACT)
    with open_index(tmp_path / "b") as index:
        rows = next(index.stream())
    assert rows.multiplicity is not None and rows.multiplicity.sum() == pytest.approx(359, rel=1e-4)
    assert abs(report.prototypes - 0.3 * 359) < 20


def test_the_same_seed_makes_the_same_index_and_another_one_does_not(tmp_path: Path, source: Make) -> None:
    folder, vectors = source(), []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        compact_index(folder, tmp_path / name, options=CompactOptions(0.1, seed=seed), settings=EXACT)
        vectors.append((tmp_path / name / "vectors.npy").read_bytes())
    assert vectors[0] == vectors[1] != vectors[2]


def test_a_compacted_index_can_be_compacted_again(tmp_path: Path, source: Make) -> None:
    compact_index(source(), tmp_path / "a", options=CompactOptions(0.5), settings=EXACT)
    report = compact_index(tmp_path / "a", tmp_path / "b", options=CompactOptions(0.3), settings=EXACT)
    with open_index(tmp_path / "b") as index:
        rows = next(index.stream())
    assert rows.multiplicity is not None and report.prototypes < 70
    assert rows.multiplicity.sum() == pytest.approx(359, rel=1e-3)


@pytest.mark.parametrize("keep", [0, 1, -1, 7, float("nan")])
def test_impossible_shares_are_refused(tmp_path: Path, source: Make, keep: float) -> None:
    with pytest.raises(ConfigError, match="share of rows"):
        compact_index(source(), tmp_path / "b", options=CompactOptions(keep), settings=EXACT)


def test_what_cannot_be_compacted_is_refused(tmp_path: Path, source: Make) -> None:
    server = IndexSettings(engine="qdrant", qdrant=QdrantSettings(url=":memory:", collection="x"))
    with pytest.raises(ConfigError, match="no row weights"):
        compact_index(source(), tmp_path / "b", options=CompactOptions(0.5), settings=server)
    product = source("product", similarity=GradientProduct(8, 8, 8, 0.5))
    with pytest.raises(ConfigError, match="cannot be compacted"):
        compact_index(product, tmp_path / "b", options=CompactOptions(0.5), settings=EXACT)
    with pytest.raises(IndexExistsError, match="holds an index already"):
        compact_index(product.parent / "source", product, options=CompactOptions(0.5), settings=EXACT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["product", "source"]


def test_a_stopped_run_leaves_no_index(tmp_path: Path, source: Make) -> None:
    def stop(event: ProgressEvent) -> None:
        raise KeyboardInterrupt

    folder = source()
    with pytest.raises(KeyboardInterrupt):
        compact_index(folder, tmp_path / "b", options=CompactOptions(0.5), settings=EXACT, progress=stop)
    assert not (tmp_path / "b").exists() and not list(tmp_path.glob("b*"))
    assert compact_index(folder, tmp_path / "b", options=CompactOptions(0.5), settings=EXACT).prototypes > 100
