"""Labels of many classes are kept as the few that a patch has, and look like whole rows to everyone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval import ClassInfo, ClassMap, Cosine, Filter, IndexSettings, Manifest, create_index, open_index
from retrieval.edit.convert import convert_index
from retrieval.errors import IndexDamagedError
from retrieval.store.commit import IndexFiles, write_manifest
from retrieval.store.label_file import DENSE_CLASSES, ENTRIES, LabelFile, pack_labels, unpack_labels
from retrieval.store.manifest import read_manifest


def soft_labels(rows: int, classes: int, present: int, seed: int = 0) -> np.ndarray:
    """Histograms (rows, classes) uint8 of at most ``present`` classes each; the first row has none."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((rows, classes), dtype=np.uint8)
    for row in labels[1:]:
        count = rng.integers(1, present + 1)
        columns = rng.choice(classes, count, replace=False)
        row[columns] = np.rint(255 * rng.dirichlet(np.ones(count)))
    return labels


@pytest.mark.parametrize("classes", [33, 150, 256, 257, 1000])
def test_rows_of_few_classes_come_back_unchanged(classes: int) -> None:
    labels = soft_labels(200, classes, ENTRIES)
    packed = pack_labels(labels, ENTRIES)
    assert packed.shape == (200, ENTRIES * (2 if classes <= 256 else 3)) and packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_labels(packed, classes, ENTRIES), labels)


@pytest.mark.parametrize("classes", [40, 300])
def test_the_largest_shares_win_and_the_sum_stays(classes: int) -> None:
    labels = soft_labels(200, classes, 20, seed=1)
    found = unpack_labels(pack_labels(labels, 4), classes, 4).astype(int)
    for got, row in zip(found, labels.astype(int), strict=True):
        best = sorted(range(classes), key=lambda c: (-row[c], c))[:4]
        kept = np.zeros(classes)
        kept[best] = row[best] * (row.sum() / max(row[best].sum(), 1))
        np.testing.assert_allclose(got, kept, atol=0.5)
        assert abs(got.sum() - row.sum()) <= 2


def test_many_equal_shares_keep_the_first_and_a_full_byte_is_no_overflow() -> None:
    labels = np.full((1, 50), 200, dtype=np.uint8)
    found = unpack_labels(pack_labels(labels, 8), 50, 8)[0]
    assert found[:8].tolist() == [255] * 8 and not found[8:].any()


@pytest.mark.parametrize("classes", [2, DENSE_CLASSES, DENSE_CLASSES + 1, 171, 300])
def test_the_file_is_sparse_where_classes_are_many_and_reads_alike(tmp_path: Path, classes: int) -> None:
    labels = soft_labels(70, classes, min(classes, ENTRIES))
    file = LabelFile.create(IndexFiles(tmp_path), classes)
    assert file.layout["kind"] == ("dense" if classes <= DENSE_CLASSES else "sparse")
    for start in (0, 1, 50):
        file.append(labels[start : {0: 1, 1: 50, 50: 70}[start]])
    assert np.prod(file.file.array().shape[1:]) <= classes
    ids = np.array([[3, -1], [69, 0]])
    found = file.read(ids)
    assert found.shape == (2, 2, classes) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[0, 0], labels[3])
    assert not found[0, 1].any()
    expected = np.where(labels.any(axis=1), labels.argmax(axis=1), -1)
    np.testing.assert_array_equal(file.dominant(0), expected)
    np.testing.assert_array_equal(file.dominant(60), expected[60:])
    file.file.keep(10)
    assert len(file) == 10
    file.file.close()


def test_an_empty_file_reads_as_nothing(tmp_path: Path) -> None:
    file = LabelFile.create(IndexFiles(tmp_path), 100)
    assert file.read(np.full((2, 3), -1)).shape == (2, 3, 100)
    assert file.dominant(0).shape == (0,)


CLASSES = ClassMap(tuple(ClassInfo(n, f"class {n}", (n, n, n)) for n in range(60)))
ENGINES = [
    IndexSettings(engine="exact", dtype="float32"),
    IndexSettings(engine="faiss"),
    IndexSettings(engine="qdrant"),
]


@pytest.mark.parametrize("settings", ENGINES, ids=lambda settings: settings.engine)
def test_an_index_of_many_classes_answers_filters_and_keeps_its_labels(
    tmp_path: Path, settings: IndexSettings
) -> None:
    pytest.importorskip({"faiss": "faiss", "qdrant": "qdrant_edge"}.get(settings.engine, "torch"))
    labels = soft_labels(40, 60, ENTRIES, seed=2)
    vectors = np.eye(40, dtype=np.float32)
    patches = np.stack([np.arange(40) // 4, np.arange(40) % 4, np.zeros(40)], axis=1).astype(np.int32)
    manifest = Manifest(CLASSES, Cosine(40), recipe={}, dataset={"name": "many"})
    with create_index(tmp_path / "a", manifest, rows=40, settings=settings) as index:
        index.add(vectors[:30], labels[:30], patches[:30])
        index.add(vectors[30:], labels[30:], patches[30:])
        index.remove(3)
        index.flush(images=[])
    assert read_manifest(tmp_path / "a").labels == {"kind": "sparse", "entries": ENTRIES}
    assert np.load(tmp_path / "a" / "labels.npy", allow_pickle=False).shape == (40, 2 * ENTRIES)
    convert_index(tmp_path / "a", tmp_path / "b", settings=ENGINES[0])
    for folder in (tmp_path / "a", tmp_path / "b"):
        with open_index(folder, verify=True) as index:
            found = index.search(vectors[5:6], 1)
            np.testing.assert_array_equal(found.labels[0, 0], labels[5])
            assert found.multiplicity is None
            forbidden = int(labels[5].argmax())
            others = index.search(vectors[5:6], 36, filter=Filter(not_classes=[forbidden]))
            seen = others.labels[others.ids >= 0]
            kept = np.delete(labels, np.arange(12, 16), axis=0)
            expected = (kept.argmax(axis=1) != forbidden) | ~kept.any(axis=1)
            assert len(seen) == expected.sum()
            assert not ((seen.argmax(axis=1) == forbidden) & seen.any(axis=1)).any()


def test_labels_that_the_manifest_describes_wrongly_are_refused(tmp_path: Path) -> None:
    manifest = Manifest(CLASSES, Cosine(2))
    with create_index(tmp_path / "a", manifest, rows=1, settings=ENGINES[0]) as index:
        index.add(np.eye(2, dtype=np.float32), soft_labels(2, 60, 3), np.zeros((2, 3), np.int32))
        index.flush()
    stored = read_manifest(tmp_path / "a")
    for layout in ({"kind": "dense"}, {"kind": "sparse", "entries": 7}, {"kind": "sparse"}, {"kind": "odd"}):
        stored.labels.clear()
        stored.labels.update(layout)
        write_manifest(tmp_path / "a", stored)
        with pytest.raises(IndexDamagedError, match="labels"):
            open_index(tmp_path / "a")
