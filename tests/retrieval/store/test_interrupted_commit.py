"""A commit that breaks off leaves the old state or the new one, and nobody has to complete anything."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval import (
    ClassInfo,
    ClassMap,
    Cosine,
    ImageRecord,
    IndexFolder,
    IndexSettings,
    Manifest,
    create_index,
    open_index,
    read_manifest,
)
from retrieval.edit.remove import remove_images
from retrieval.errors import StorageError
from retrieval.store.files import sha256_file
from retrieval.store.manifest import PENDING, FileEntry, encode_manifest

CLASSES = ClassMap((ClassInfo(0, "sky", (1, 2, 3)), ClassInfo(1, "road", (4, 5, 6))))
GOLDEN = Path(__file__).parents[2] / "golden"


def rows(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vectors = np.eye(8, dtype=np.float32)[:count]
    labels = np.tile(np.array([255, 0], np.uint8), (count, 1))
    patches = np.stack([np.zeros(count), np.arange(count), np.zeros(count)], axis=1).astype(np.int32)
    return vectors, labels, patches


def fail_at(monkeypatch: pytest.MonkeyPatch, function: str, step: int) -> list[object]:
    """``os.FUNCTION`` works ``step`` times and is denied from then on; the calls that worked are returned."""
    real: Callable[..., None] = getattr(os, function)
    done: list[object] = []

    def denied(*arguments: object) -> None:
        if len(done) == step:
            raise OSError(errno.EACCES, "denied")
        done.append(arguments)
        real(*arguments)

    monkeypatch.setattr(os, function, denied)
    return done


@pytest.mark.parametrize("engine", ["exact", "faiss", "qdrant"])
@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("step", [*range(7), 12])
def test_a_flush_that_fails_at_any_step_leaves_the_old_index_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, function: str, step: int
) -> None:
    folder = tmp_path / "bank.index"
    manifest = Manifest(classes=CLASSES, similarity=Cosine(8))
    with create_index(folder, manifest, rows=5, settings=IndexSettings(engine=engine)) as index:
        index.add(*rows(5))
        index.flush()
    with open_index(folder) as index:
        index.add(*rows(7))
        with monkeypatch.context() as patch:
            done = fail_at(patch, function, step)
            try:
                index.flush()
                assert len(done) <= step  # there were no more steps
                failed = False
            except StorageError:
                failed = True
    with open_index(folder, verify=True) as index:
        assert len(index) in ({5, 12} if failed else {12})
        assert index.search(np.eye(8, dtype=np.float32)[2:3], 1).similarities[0, 0] > 0.99
    assert remove_images_of(folder) == 0


def remove_images_of(folder: Path) -> int:
    """Any change works afterwards, and leaves no file that the manifest does not list."""
    with open_index(folder) as index:
        removed = index.remove(99)
        index.flush()
    assert IndexFolder.open(folder).verify() == []
    return removed


def old_commit(folder: Path, renamed: int) -> None:
    """What format 2 left on the disk when a commit of one removed image broke off after some renames."""
    before = read_manifest(folder)
    removed = folder / "removed.npy"
    np.save(removed.with_suffix(".tmp.npy"), np.arange(4, dtype=np.int64))
    removed.with_suffix(".tmp.npy").rename(folder / ("removed.npy" + PENDING))
    pending = folder / ("removed.npy" + PENDING)
    entry = FileEntry(pending.stat().st_size, sha256_file(pending))
    after = replace(
        before,
        files={**before.files, "removed.npy": entry},
        counts={**before.counts, "removed": 4},
        format=2,
        generation=0,
    )
    data = json.loads(encode_manifest(after))
    del data["generation"], data["checksum"]
    data["checksum"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    (folder / ("manifest.json" + PENDING)).write_text(json.dumps(data, indent=1))
    if renamed:
        pending.replace(removed)


@pytest.mark.parametrize("renamed", [0, 1])
def test_a_commit_that_format_2_had_begun_is_read_as_done_by_everyone(tmp_path: Path, renamed: int) -> None:
    folder = Path(shutil.copytree(GOLDEN / "format-2-exact", tmp_path / "bank.index"))
    old_commit(folder, renamed)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    opened = IndexFolder.open(folder)
    assert opened.live_rows == 20 and opened.manifest.format == 2
    assert "manifest.json.new" not in opened.verify()  # it is the index
    with opened.index(verify=True) as index:
        assert len(index) == 20
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before  # a reader writes nothing
    remove_images(folder, ["image-0"])
    opened = IndexFolder.open(folder)
    assert opened.manifest.format == 4 and opened.verify() == []
    assert not list(folder.glob("*.new"))
    assert [record.removed for record in opened.records] == [True, False, False]


def test_what_an_old_commit_left_is_ignored_once_a_newer_state_is_there(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "format-2-exact", tmp_path / "bank.index"))
    old_commit(folder, 0)
    left = (folder / "manifest.json.new").read_bytes()
    remove_images(folder, ["image-2"])
    live = IndexFolder.open(folder).live_rows
    (folder / "manifest.json.new").write_bytes(left)
    assert IndexFolder.open(folder).live_rows == live


def test_records_are_of_the_state_that_was_opened(tmp_path: Path) -> None:
    folder = tmp_path / "bank.index"
    manifest = Manifest(classes=CLASSES, similarity=Cosine(8))
    records = [ImageRecord(0, "a", "a.png", "0" * 64, 8, 8, 5)]
    with create_index(folder, manifest, rows=5, settings=IndexSettings(engine="exact")) as index:
        index.add(*rows(5))
        index.flush(images=records)
    opened = IndexFolder.open(folder)
    with opened.index() as index:
        remove_images(folder, ["a"])
        assert len(index) == 5 and opened.records == records
    assert IndexFolder.open(folder).records == [replace(records[0], removed=True)]
