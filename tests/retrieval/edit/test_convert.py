"""Moving an index from engine to engine loses nothing that the engines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import ImageRecord, IndexSettings, PatchIndex, open_index, read_images
from retrieval.edit.convert import convert_index
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import IndexExistsError
from retrieval.progress import ProgressEvent

EXACT = IndexSettings(engine="exact", dtype="float32")
EDGE = IndexSettings(engine="qdrant", qdrant=QdrantSettings(datatype="float32", threads=1))
FLAT = IndexSettings(engine="faiss")
RECORDS = [ImageRecord(i, f"photo {i}", f"{i}.png", "0" * 64, 60, 50, 30) for i in range(10)]


@pytest.fixture
def source(tmp_path: Path, build: Callable[..., PatchIndex]) -> Path:
    """An exact index with a removed image, features and thumbnails."""
    folder = tmp_path / "source"
    with build(folder, EXACT) as index:
        index.remove(4)
        (folder / "thumbs").mkdir()
        (folder / "thumbs" / "000001.jpg").write_bytes(b"picture")
        (folder / "features.safetensors").write_bytes(b"tensors")
        index.flush(images=[replace(record, removed=record.number == 4) for record in RECORDS])
    return folder


def test_round_trip_through_every_engine(tmp_path: Path, source: Path, bank: Any) -> None:
    pytest.importorskip("faiss")
    pytest.importorskip("qdrant_edge")
    route = [source, tmp_path / "edge", tmp_path / "flat", tmp_path / "edge 2", tmp_path / "exact"]
    heard: list[ProgressEvent] = []
    for (before, after), settings in zip(pairwise(route), (EDGE, FLAT, EDGE, EXACT), strict=True):
        assert convert_index(before, after, settings=settings, progress=heard.append) == 270
    ends = [event for event in heard if event.event == "end" and event.stage == "converting"]
    assert [(event.done, event.total) for event in ends] == 4 * [(270, 270)]
    with open_index(source) as first, open_index(route[-1], verify=True) as last:
        wanted, found = (index.search(bank.queries, 20) for index in (first, last))
        np.testing.assert_array_equal(found.similarities, wanted.similarities)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(last.patches(found.ids), first.patches(wanted.ids))
        assert last.manifest.recipe["index"]["engine"] == "exact"
        assert last.manifest.counts["rows"] == 270 and last.manifest.counts["removed"] == 0
        assert last.manifest.fingerprints == first.manifest.fingerprints
    assert read_images(route[-1]) == [image for image in read_images(source) if not image.removed]
    assert (route[-1] / "thumbs" / "000001.jpg").read_bytes() == b"picture"
    assert (route[-1] / "features.safetensors").read_bytes() == b"tensors"


@pytest.mark.parametrize(
    ("factory", "fit"),
    [
        ("IVF4,PQ8x4fs,Refine(SQfp16)", 0.99),
        ("IVF4,PQ32x4fs", 0.9),
        ("SVD31,IVF4,SQ8", 0.9),
        ("PCA31,IVF4,Flat", 0.9),
        ("IVF4,SQ8", 0.99),
        ("HNSW16", 0.99),
        ("Flat", 0.99),
    ],
)
def test_faiss_gives_its_vectors_back(
    tmp_path: Path, source: Path, bank: Any, factory: str, fit: float
) -> None:
    pytest.importorskip("faiss")
    convert_index(source, tmp_path / "faiss", settings=IndexSettings(engine="faiss", factory=factory))
    kept = bank.patches[:, 0] != 4
    with open_index(tmp_path / "faiss") as index:
        vectors = np.concatenate([block.vectors for block in index.stream(batch=100)])
    assert (vectors * bank.vectors[kept]).sum(axis=1).min() > fit


def test_an_index_without_rows_is_converted(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("faiss")
    with open_index(source) as index:
        for image in range(10):
            index.remove(image)
        index.flush()
    assert convert_index(source, tmp_path / "faiss", settings=IndexSettings(engine="faiss")) == 0


def test_existing_target_is_left_alone(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "letter.txt").write_text("dear")
    with pytest.raises(IndexExistsError, match="is no index"):
        convert_index(source, target, settings=EXACT)
    assert (target / "letter.txt").read_text() == "dear"


def test_a_stopped_conversion_leaves_no_index(tmp_path: Path, source: Path) -> None:
    def stop(event: ProgressEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_index(source, tmp_path / "out", settings=EXACT, progress=stop)
    assert not list(tmp_path.glob("*out*"))
    assert convert_index(source, tmp_path / "out", settings=EXACT) == 270
