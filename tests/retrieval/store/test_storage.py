"""What stays on the disk: reopening, removing, adding again, crashes, full disks and damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retrieval.store.manifest as manifest_module
from retrieval import (
    Filter,
    ImageRecord,
    IndexSettings,
    Manifest,
    PatchIndex,
    create_index,
    open_index,
    read_images,
    read_manifest,
    verify_folder,
    write_manifest,
)
from retrieval.errors import (
    IndexDamagedError,
    IndexExistsError,
    IndexFileError,
    IndexMismatchError,
    StorageError,
)
from retrieval.store.files import PARTIAL
from retrieval.store.manifest import FORMAT, PENDING

Build = Callable[..., PatchIndex]

RECORDS = [
    ImageRecord(0, "a", "photos/a\u2028b.jpg", "ab" * 32, 480, 640, 30),
    ImageRecord(1, "b", "photos/b.jpg", "cd" * 32, 10, 20, 30, removed=True),
]


@pytest.fixture
def folder(tmp_path: Path, settings: IndexSettings, build: Build) -> Path:
    """A finished index that also holds a file of someone else."""
    folder = tmp_path / "index"
    with build(folder, settings) as index:
        (folder / "thumbs").mkdir()
        (folder / "thumbs" / "0.jpg").write_bytes(b"a picture")
        index.flush(images=RECORDS)
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_reopened_index_answers_the_same(
    folder: Path, settings: IndexSettings, build: Build, bank: Any
) -> None:
    with build(folder.parent / "other", settings) as index:
        expected = index.search(bank.queries, 5)
        engine = index.manifest.engine
    with open_index(folder, verify=True) as index:
        found = index.search(bank.queries, 5)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-6)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(index.patches(np.array([[0, -1], [299, 31]]))[0, 1], [-1, -1, -1])
        np.testing.assert_array_equal(index.patches(np.arange(300)), bank.patches)
        assert index.manifest.counts == {"images": 10, "rows": 300, "removed": 0}
        assert index.manifest.recipe == {"seed": 3} and index.manifest.fingerprints == {"weights": "abc"}
        assert engine == {} and index.manifest.engine["kind"] == settings.engine
        assert index.classes.ignore == (255,) and index.classes.names[1] == "class 1"
    assert read_images(folder) == RECORDS
    np.testing.assert_array_equal(np.load(folder / "labels.npy", allow_pickle=False), bank.labels)


def test_every_file_is_in_the_manifest(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert set(manifest.files) == names(folder) - {"manifest.json"}
    assert "thumbs/0.jpg" in manifest.files and len(manifest.files) == 6


def test_removed_rows_stay_removed_and_ids_are_never_reused(folder: Path, bank: Any) -> None:
    with open_index(folder) as index:
        assert index.remove(4) == 30
        assert index.remove(4) == 0
        assert len(index) == 270
        index.flush()
        before = index.search(bank.vectors[120:150], 3)
    with open_index(folder) as index:
        assert len(index) == 270 and index.manifest.counts["removed"] == 30
        found = index.search(bank.vectors[120:150], 3)
        np.testing.assert_array_equal(found.ids, before.ids)
        assert not np.isin(index.patches(found.ids)[..., 0], [4]).any()
        ids = index.add(bank.vectors[120:150], bank.labels[120:150], bank.patches[120:150])
        np.testing.assert_array_equal(ids, np.arange(300, 330))
        assert ids.dtype == np.int64 and len(index) == 300
        assert index.search(bank.vectors[120:121], 1).ids[0, 0] == 300
        index.flush()
        index.remove(0)
        index.flush()
    with open_index(folder, verify=True) as index:
        assert len(index) == 270 and index.manifest.counts["rows"] == 330
        assert index.search(bank.vectors[120:121], 1).ids[0, 0] == 300
        assert index.remove(4) == 30


def test_adding_after_reopening_equals_adding_at_once(
    tmp_path: Path, settings: IndexSettings, build: Build, bank: Any
) -> None:
    with build(tmp_path / "index", settings, rows=200) as index:
        index.flush()
    with open_index(tmp_path / "index") as index:
        for start in (200, 240, 260):
            stop = {200: 240, 240: 260, 260: 300}[start]
            index.add(bank.vectors[start:stop], bank.labels[start:stop], bank.patches[start:stop])
            index.flush()
    with build(tmp_path / "once", settings) as index:
        index.flush()
    assert {n: e.sha256 for n, e in read_manifest(tmp_path / "index").files.items()} == {
        n: e.sha256 for n, e in read_manifest(tmp_path / "once").files.items()
    }


def test_what_was_not_flushed_is_dropped(folder: Path, bank: Any) -> None:
    before = names(folder)
    with open_index(folder) as index:
        index.add(bank.vectors, bank.labels, bank.patches)
        index.remove(1)
    assert names(folder) == before
    with open_index(folder, verify=True) as index:
        assert len(index) == 300


def test_existing_index_is_not_overwritten(folder: Path, settings: IndexSettings, manifest: Any) -> None:
    with pytest.raises(IndexExistsError, match="choose another folder"):
        create_index(folder, manifest(), rows=1, settings=settings)
    open_index(folder).close()


def test_leftovers_of_a_killed_build_do_no_harm(
    tmp_path: Path, settings: IndexSettings, build: Build, bank: Any
) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("labels.npy", "patches.npy", "removed.npy", "vectors.npy", "vectors.faiss"):
        (folder / name).write_bytes(b"junk")
        (folder / (name + PENDING)).write_bytes(b"junk")
    (folder / ("manifest.json" + PENDING + PARTIAL)).write_bytes(b"{")
    with build(folder, settings) as index:
        index.flush()
    with open_index(folder, verify=True) as index:
        assert index.search(bank.vectors[7:8], 1).ids[0, 0] == 7


@pytest.mark.parametrize("step", range(4))
def test_a_crash_leaves_the_old_index_or_the_new_one(
    folder: Path, bank: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The process dies at each rename of a flush in turn."""
    renames = 0
    replace_file = Path.replace

    def dying(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames > step:
            raise KeyboardInterrupt
        return replace_file(self, target)

    index = open_index(folder)
    index.add(bank.vectors[:30], bank.labels[:30], bank.patches[:30])
    index.remove(9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        crashed = False
        try:
            index.flush(images=RECORDS[:1])
        except KeyboardInterrupt:
            crashed = True
    copy = folder.parent / "copy"  # as the disk is now: closing the index would tidy up
    shutil.copytree(folder, copy)
    index.close()
    assert crashed == (step < 3)  # removed rows, image records, and the manifest last
    before = names(copy)
    with open_index(copy, verify=True) as survivor:
        assert len(survivor) == 300  # 30 more, 30 fewer
        rows, images = (300, 2) if crashed else (330, 1)
        assert survivor.manifest.counts["rows"] == rows
        assert len(read_images(copy)) == images
    assert names(copy) == before  # a reader writes nothing
    with open_index(copy) as index:  # the next change sweeps what the crash left
        index.remove(2)
        index.flush()
    listed = {entry.path or name for name, entry in read_manifest(copy).files.items()}
    assert names(copy) == listed | {"manifest.json"}


@pytest.mark.parametrize(
    "name", ["manifest.json", "labels.npy", "patches.npy", "removed.npy", "thumbs/0.jpg", "vectors"]
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "longer"])
def test_damage_is_noticed(folder: Path, settings: IndexSettings, name: str, damage: str) -> None:
    if name == "vectors":
        name = "vectors.npy" if settings.engine == "exact" else "vectors.faiss"
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        data[middle] ^= 4
        changed = {"truncated": data[:middle], "flipped": data, "longer": data + b"}"}[damage]
        path.write_bytes(changed)
    with pytest.raises(IndexDamagedError, match=Path(name).name):
        open_index(folder)


def test_large_files_are_checked_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "QUICK_BYTES", 1000)
    data = bytearray((folder / "labels.npy").read_bytes())
    data[-1] ^= 1
    (folder / "labels.npy").write_bytes(data)
    open_index(folder).close()
    with pytest.raises(IndexDamagedError, match=r"labels\.npy has changed"):
        open_index(folder, verify=True)
    with pytest.raises(IndexDamagedError, match=r"labels\.npy has changed"):
        verify_folder(folder, read_manifest(folder))


def edit_manifest(folder: Path, **changes: Any) -> None:
    """Rewrite fields of the manifest as a program that knows the format would."""
    write_manifest(folder, replace(read_manifest(folder), **changes))


def test_newer_format_is_refused(folder: Path) -> None:
    data = json.loads((folder / "manifest.json").read_bytes())
    data["format"] = FORMAT + 1
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(IndexMismatchError, match=rf"format {FORMAT + 1}.*update Mycelia"):
        open_index(folder)


def test_unknown_engine_is_refused(folder: Path) -> None:
    edit_manifest(folder, engine={"kind": "abacus"})
    with pytest.raises(IndexMismatchError, match="abacus"):
        open_index(folder)


@pytest.mark.parametrize(
    "engine", [{}, {"kind": "exact"}, {"kind": "exact", "dtype": "object"}, {"kind": "faiss"}]
)
def test_incomplete_engine_is_refused(folder: Path, engine: dict[str, Any]) -> None:
    edit_manifest(folder, engine=engine)
    with pytest.raises(IndexDamagedError):
        open_index(folder)


def test_files_that_do_not_belong_together_are_refused(folder: Path, bank: Any) -> None:
    np.save(folder / "labels.npy", bank.labels[:-1])
    write_manifest(folder, read_manifest(folder))
    with pytest.raises(IndexDamagedError, match="299 labels"):
        open_index(folder)
    np.save(folder / "labels.npy", bank.labels.astype(np.int16))
    write_manifest(folder, read_manifest(folder))
    with pytest.raises(IndexDamagedError, match="int16"):
        open_index(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "x"}', '{"format": 1}'])
def test_half_written_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(IndexDamagedError, match=r"manifest\.json"):
        open_index(folder)


def test_missing_folder_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="mycelia index build"):
        open_index(tmp_path / "nowhere")


def test_writing_the_manifest_again_sums_up_what_it_lists(folder: Path) -> None:
    (folder / "thumbs" / "0.jpg").write_bytes(b"another picture")
    (folder / "features.safetensors").write_bytes(b"of nobody")
    manifest = write_manifest(folder, read_manifest(folder))
    assert manifest.files["thumbs/0.jpg"].bytes == 15 and "features.safetensors" not in manifest.files
    assert read_manifest(folder) == manifest
    open_index(folder, verify=True).close()


def test_full_disk_keeps_the_index(folder: Path, bank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space runs out while the flush syncs its files: nothing changed, and a second try succeeds."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_index(folder) as index:
        index.add(bank.vectors[:30], bank.labels[:30], bank.patches[:30])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="is full; free some space"):
                index.flush()
        with open_index(folder, verify=True) as old:
            assert len(old) == 300
        index.flush()
        with open_index(folder, verify=True) as new:
            assert len(new) == 330


@pytest.mark.parametrize("failing", ["labels.npy", "patches.npy", "vectors.npy"])
def test_rows_that_could_not_be_stored_are_not_added(
    tmp_path: Path, build: Build, bank: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A write fails half-way: no store keeps a part of the block, and later rows are right."""
    from retrieval.store.row_file import RowFile

    append = RowFile.append

    def failing_append(self: RowFile, rows: np.ndarray) -> None:
        if self.name != failing:
            return append(self, rows)
        append(self, rows[: len(rows) // 2])
        self.keep(len(self) - len(rows) // 2)  # bytes are in the file, the count is not
        raise StorageError("full")

    settings = IndexSettings.model_validate({"engine": "exact", "dtype": "float32"})
    with build(tmp_path / "index", settings, rows=200) as index:
        with monkeypatch.context() as patch:
            patch.setattr(RowFile, "append", failing_append)
            with pytest.raises(StorageError):
                index.add(bank.vectors[:50], bank.labels[:50], bank.patches[:50])
        assert len(index) == 200
        index.add(bank.vectors[200:], bank.labels[200:], bank.patches[200:])
        index.flush()
    with open_index(tmp_path / "index") as index:
        found = index.search(bank.vectors, 1)
        np.testing.assert_array_equal(found.ids[:, 0], np.arange(300))
        np.testing.assert_array_equal(found.labels[:, 0], bank.labels)


def test_faiss_that_cannot_write_raises_our_error(tmp_path: Path, build: Build) -> None:
    pytest.importorskip("faiss")
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine="faiss")) as index:
        (folder / "vectors.faiss").mkdir()
        with pytest.raises(StorageError, match=r"vectors\.faiss"):
            index.flush()


def test_concurrent_reader_sees_the_old_index(folder: Path, bank: Any) -> None:
    with open_index(folder) as reader, open_index(folder) as writer:
        before = reader.search(bank.queries, 4)
        writer.add(bank.queries, bank.labels[:12], bank.patches[:12])
        writer.flush()
        after = reader.search(bank.queries, 4, filter=Filter(images=range(10)))
        np.testing.assert_array_equal(before.ids, after.ids)
        assert writer.search(bank.queries, 1).ids.min() >= 300


def test_manifest_round_trip(manifest: Callable[..., Manifest]) -> None:
    assert Manifest.from_json(json.loads(json.dumps(manifest().to_json()))) == manifest()
