"""Replacing, relabelling and merging: what the rows are afterwards, on every engine that is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import Filter, ImageRecord, IndexFolder, IndexSettings, open_index
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.edit.convert import convert_index
from retrieval.edit.merge import merge_indexes
from retrieval.edit.relabel import relabel_index
from retrieval.edit.remove import remove_images
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.store.manifest import read_manifest
from retrieval.store.records import drift_of

RECORDS = [ImageRecord(i, f"photo-{i}", f"{i}.png", f"{i:064d}", 60, 50, 30) for i in range(10)]
EXACT = IndexSettings(engine="exact", dtype="float32")
ENGINES = {
    "exact": EXACT,
    "faiss": IndexSettings(engine="faiss"),
    "edge": IndexSettings(engine="qdrant", qdrant=QdrantSettings(datatype="float32")),
}
NAMES = ("class 0", "class 1", "class 2", "class 3")


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> IndexSettings:
    if request.param != "exact":
        pytest.importorskip("faiss" if request.param == "faiss" else "qdrant_edge")
    return ENGINES[request.param]


@pytest.fixture
def stored(build: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """``stored("name", settings)``: an index of ten images, ``photo-0`` to ``photo-9``, with thumbnails."""

    def make(name: str, settings: IndexSettings = EXACT) -> Path:
        with build(tmp_path / name, settings) as index:
            index.flush(images=RECORDS, thumbnails={n: f"thumb-{n}".encode() for n in range(10)})
        return tmp_path / name

    return make


def all_rows(path: Path) -> dict[tuple[str, int, int], tuple[np.ndarray, dict[str, int]]]:
    """Vector and named label of every row, by image and place."""
    folder = IndexFolder.open(path)
    with folder.index(verify=True) as index:
        ids = {record.number: record.id for record in folder.records}
        found = {}
        for rows in index.stream():
            for vector, label, place in zip(rows.vectors, rows.labels, rows.patches.tolist(), strict=True):
                key = ids[place[0]], place[1], place[2]
                assert key not in found
                names = zip(index.classes.names, label.tolist(), strict=True)
                found[key] = vector, {name: share for name, share in names if share}
    return found


def labels_of(path: Path) -> dict[tuple[str, int, int], dict[str, int]]:
    return {key: label for key, (_, label) in all_rows(path).items()}


def new_image(bank: Any, id: str, *, sign: float = 1.0, classes: int = 4) -> NewImage:
    labels = np.zeros((6, classes), np.uint8)
    labels[:, -1] = 255
    return NewImage(
        replace(RECORDS[0], id=id), sign * bank.vectors[:6], labels, bank.patches[:6, 1:], b"new thumb"
    )


def test_a_replaced_image_is_there_once_with_its_new_rows(
    stored: Callable[..., Path], engine: IndexSettings, bank: Any
) -> None:
    path = stored("index", engine)
    before = read_manifest(path).generation
    report = add_images(path, [new_image(bank, "photo-3", sign=-1), new_image(bank, "x")], replace_known=True)
    assert report.replaced == ("photo-3",) and read_manifest(path).generation == before + 1
    rows = all_rows(path)
    mine = [key for key in rows if key[0] == "photo-3"]
    assert len(rows) == 300 - 30 + 12 and len(mine) == 6
    assert all(rows[key][1] == {"class 3": 255} for key in mine)
    np.testing.assert_allclose(rows[mine[0]][0], -bank.vectors[0], atol=1e-3)
    with open_index(path) as index:
        found = index.search(-bank.vectors[:1], 1)
        assert index.patches(found.ids)[0, 0, 0] == report.numbers[0]


def test_replacing_can_bring_a_class_of_its_own(
    stored: Callable[..., Path], engine: IndexSettings, bank: Any
) -> None:
    path = stored("index", engine)
    before = labels_of(path)
    known = read_manifest(path).classes
    more = replace(known, classes=(*known.classes, replace(known.classes[0], id=99, name="new")))
    add_images(path, [new_image(bank, "photo-3", classes=5)], classes=more, replace_known=True)
    labels = labels_of(path)
    assert labels[("photo-3", 0, 0)] == {"new": 255}
    assert all(labels[key] == label for key, label in before.items() if key[0] != "photo-3")
    with open_index(path) as index:
        found = index.search(bank.vectors[:1], 1, filter=Filter(not_classes=(4,)))
        assert index.patches(found.ids)[0, 0, 0] == 0
        assert index.manifest.fitted_classes == known


def test_renamed_classes_keep_ids_and_vectors(stored: Callable[..., Path], engine: IndexSettings) -> None:
    path = stored("index", engine)
    before = all_rows(path)
    files = read_manifest(path).files
    report = relabel_index(path, {"class 1": "class 2", "class 2": "class 1", "class 3": "car"})
    assert not report.rewritten
    assert report.classes.names == ("class 0", "class 2", "class 1", "car")
    assert report.classes.ids.tolist() == [0, 10, 20, 30]
    swap = {"class 1": "class 2", "class 2": "class 1", "class 3": "car", "class 0": "class 0"}
    after = all_rows(path)
    assert {k: {swap[n]: s for n, s in label.items()} for k, (_, label) in before.items()} == {
        k: label for k, (_, label) in after.items()
    }
    now = read_manifest(path).files
    assert {n: e for n, e in now.items() if "removed" not in n} == {
        n: e for n, e in files.items() if "removed" not in n
    }


def test_merged_classes_add_their_shares_and_rewrite_labels_alone(
    stored: Callable[..., Path], engine: IndexSettings, bank: Any
) -> None:
    path = stored("index", engine)
    before = all_rows(path)
    report = relabel_index(path, {"class 0": "thing", "class 2": "thing"})
    assert report.rewritten and report.classes.names == ("thing", "class 1", "class 3")
    after = all_rows(path)
    for key, (vector, label) in before.items():
        thing = min(255, label.get("class 0", 0) + label.get("class 2", 0))
        expected = {"thing": thing, "class 1": label.get("class 1", 0), "class 3": label.get("class 3", 0)}
        assert after[key][1] == {name: share for name, share in expected.items() if share}
        np.testing.assert_array_equal(after[key][0], vector)
    with open_index(path) as index:
        found = index.search(bank.queries, 20, filter=Filter(not_classes=(0,)))
        assert (found.labels[found.ids >= 0].argmax(axis=1) != 0).all()


def test_a_class_that_is_not_there_cannot_be_renamed(stored: Callable[..., Path]) -> None:
    path = stored("index")
    with pytest.raises(ConfigError, match=r"no class 'clas 1'; did you mean 'class 1'\? .* class 3"):
        relabel_index(path, {"clas 1": "x"})
    with pytest.raises(ConfigError, match="empty"):
        relabel_index(path, {"class 1": " "})


def test_a_stated_prior_follows_the_names(stored: Callable[..., Path]) -> None:
    path = stored("index")
    with open_index(path) as index:
        recipe = {"transfer": {"prior": {"class 0": 0.2, "class 1": 0.3}}}
        index.manifest = replace(index.manifest, recipe=recipe)
        index.flush()
    relabel_index(path, {"class 0": "x", "class 1": "x"})
    assert read_manifest(path).recipe["transfer"]["prior"] == {"x": 0.5}


def renamed(path: Path, change: Callable[[str], str]) -> None:
    """Other image ids."""
    with open_index(path) as index:
        index.flush(images=[replace(r, id=change(r.id)) for r in IndexFolder.open(path).records])


def test_merged_indexes_find_what_both_find(
    stored: Callable[..., Path], engine: IndexSettings, tmp_path: Path, bank: Any
) -> None:
    one, two = stored("one", engine), stored("two")
    renamed(two, lambda id: f"other-{id}")
    relabel_index(two, {"class 1": "class 0", "class 0": "class 1"})
    remove_images(one, ["photo-2"])
    remove_images(two, ["other-photo-5"])
    report = merge_indexes(one, two, tmp_path / "out")
    assert (report.rows, report.images, report.added) == (540, 18, ())
    assert labels_of(tmp_path / "out") == labels_of(one) | labels_of(two)
    merged = IndexFolder.open(tmp_path / "out")
    assert merged.spec.kind == IndexFolder.open(one).spec.kind
    assert [r.number for r in merged.records] == list(range(18))
    thumb = merged.thumbnail(9)
    assert merged.records[9].id == "other-photo-0" and thumb is not None
    assert thumb.read_bytes() == b"thumb-0"
    assert read_manifest(tmp_path / "out").counts["images"] == 18
    with merged.index() as index:
        found = index.search(bank.vectors[60:90], 1)  # of photo-2, which only the second one has now
        assert set(index.patches(found.ids)[:, 0, 0].tolist()) == {11}


def test_images_of_both_are_named_or_left_out(stored: Callable[..., Path], tmp_path: Path) -> None:
    one, two = stored("one"), stored("two")
    with pytest.raises(ConfigError, match=r"both .* have the memory image 'photo-0' and 9 more"):
        merge_indexes(one, two, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    remove_images(one, ["photo-4"])
    report = merge_indexes(one, two, tmp_path / "out", skip=True)
    assert report.rows == 300 and len(report.skipped) == 9
    assert labels_of(tmp_path / "out") == labels_of(two)


def test_vectors_that_cannot_be_compared_are_not_merged(
    stored: Callable[..., Path], tmp_path: Path, bank: Any
) -> None:
    one, two = stored("one"), stored("two")
    with open_index(two) as index:
        index.manifest = replace(index.manifest, fingerprints={"weights": "other"})
        index.flush()
    with pytest.raises(IndexMismatchError, match="built with another weights"):
        merge_indexes(one, two, tmp_path / "out", skip=True)


def test_a_class_id_of_two_meanings_is_named(stored: Callable[..., Path], tmp_path: Path) -> None:
    one, two = stored("one"), stored("two")
    relabel_index(two, {"class 1": "boat"})
    with pytest.raises(ConfigError, match=r"'boat' .* has the id 10, which is called 'class 1' in the index"):
        merge_indexes(one, two, tmp_path / "out", skip=True)
    report = merge_indexes(one, two, tmp_path / "out", skip=True, new_ids=True)
    assert report.added == ("boat",)
    assert read_manifest(tmp_path / "out").classes.ids.tolist() == [0, 10, 20, 30, 31]


def test_the_share_of_later_rows_stays_true(stored: Callable[..., Path], tmp_path: Path, bank: Any) -> None:
    path = stored("index")
    add_images(path, [new_image(bank, "a"), new_image(bank, "photo-3")], replace_known=True)
    remove_images(path, ["photo-7"])

    def drift(path: Path) -> tuple[int, int, int]:
        counts = read_manifest(path).counts
        found = drift_of(IndexFolder.open(path).records, counts["images"], gone=counts.get("gone", 0))
        return found.added, found.rows, found.removed

    assert drift(path) == (12, 252, 1)
    convert_index(path, tmp_path / "converted", settings=EXACT)
    assert drift(tmp_path / "converted") == (12, 252, 1)
    other = stored("other")
    renamed(other, lambda id: f"other-{id}")
    add_images(other, [new_image(bank, "b")])
    merge_indexes(path, other, tmp_path / "merged")
    assert drift(tmp_path / "merged") == (18, 252 + 306, 1)


@pytest.mark.parametrize("change", ["compact", "convert"])
def test_a_removed_image_leaves_no_trace(
    stored: Callable[..., Path], engine: IndexSettings, tmp_path: Path, bank: Any, change: str
) -> None:
    path, out = stored("index", engine), tmp_path / "out"
    renamed(path, lambda id: "secret-image" if id == "photo-6" else id)
    remove_images(path, ["secret-image"])
    if change == "compact":
        compact_index(path, out, options=CompactOptions(0.5), settings=engine)
    else:
        convert_index(path, out, settings=engine)
    gone = [b"secret-image", b"thumb-6"]
    halves = bank.vectors[180:210, :8].astype(np.float16)
    gone += [row.tobytes() for row in halves] + [row.tobytes() for row in bank.vectors[180:210, :8]]
    kept = bank.vectors[0, :8]
    files = [file.read_bytes() for file in out.rglob("*") if file.is_file()]
    assert not any(trace in content for trace in gone for content in files)
    if change == "convert" and engine.engine != "faiss":  # what stays can be found in this way
        assert any(kept.tobytes() in content for content in files)
