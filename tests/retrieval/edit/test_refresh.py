"""An open index sees what others commit; and what a change writes of a large index."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import ImageRecord, IndexFolder, IndexSettings, PatchIndex, open_index
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.remove import remove_images
from retrieval.engines import tail
from retrieval.engines.tail import TAIL
from retrieval.errors import IndexDamagedError, IndexMismatchError
from retrieval.store import blocks, manifest
from retrieval.store.manifest import read_manifest

RECORDS = [ImageRecord(i, f"photo-{i}", f"{i}.png", f"{i:064d}", 60, 50, 30) for i in range(10)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 1000)


@pytest.fixture
def stored(build: Callable[..., PatchIndex], settings: IndexSettings, tmp_path: Path) -> Path:
    with build(tmp_path / "index", settings) as index:
        index.flush(images=RECORDS)
    return tmp_path / "index"


def new_image(bank: Any, id: str, rows: slice = slice(0, 6)) -> NewImage:
    places = bank.patches[rows, 1:]
    return NewImage(replace(RECORDS[0], id=id), -bank.vectors[rows], bank.labels[rows], places)


def test_an_open_index_sees_a_commit_after_refresh(stored: Path, bank: Any) -> None:
    folder = IndexFolder.open(stored)
    with folder.index() as index:
        assert not index.refresh()
        add_images(stored, [new_image(bank, "new")])
        remove_images(stored, ["photo-9"])
        assert len(index) == 300 and index.patches(index.search(-bank.vectors[:1], 1).ids)[0, 0, 0] != 10
        assert index.refresh() and not index.refresh()
        assert len(index) == 276
        found = index.search(-bank.vectors[:6], 1)
        assert index.patches(found.ids)[:, 0, 0].tolist() == [10] * 6
        assert folder.refresh() and folder.records[-1].id == "new" and not folder.refresh()
        index.remove(0)  # and it may be changed, as the newest
        assert not index.refresh()
        index.flush()
    assert read_manifest(stored).live_rows == 246


def test_an_index_of_other_features_in_its_place_is_refused(stored: Path) -> None:
    with open_index(stored) as index:
        with open_index(stored) as other:
            other.manifest = replace(other.manifest, fingerprints={"weights": "other"})
            other.flush()
        with pytest.raises(IndexMismatchError, match="other features"):
            index.refresh()


def rows_of(path: Path) -> list[bytes]:
    with open_index(path, verify=True) as index:
        return [
            vector.astype(np.float16).tobytes() + label.tobytes() + patch.tobytes()
            for rows in index.stream()
            for vector, label, patch in zip(rows.vectors, rows.labels, rows.patches, strict=True)
        ]


def test_adding_to_a_large_index_writes_behind_what_is_there(
    small_blocks: None, stored: Path, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "SMALL_ROWS", 100)
    monkeypatch.setattr(tail, "TAIL_ROWS", 20)
    before = rows_of(stored)
    size = {path.name: path.stat().st_size for path in stored.iterdir()}
    inodes = {path.name: path.stat().st_ino for path in stored.iterdir()}
    add_images(stored, [new_image(bank, "a")])
    add_images(stored, [new_image(bank, "b", slice(6, 12))])
    files = read_manifest(stored).files
    same = [n for n in inodes if n in files and files[n].path is None]
    kept = {n for n in same if (stored / n).stat().st_ino == inodes[n]}
    assert kept >= {"labels.npy", "patches.npy", next(n for n in files if n.startswith("vectors."))}
    grown = sum((stored / n).stat().st_size - size[n] for n in kept)
    assert grown <= 12 * (4 * 32 + 4 + 12)
    assert (TAIL in files) == ("vectors.faiss" in files)
    rows = rows_of(stored)
    assert rows[:300] == before and len(rows) == 312
    entry = files["labels.npy"]
    content = (stored / "labels.npy").read_bytes()[128:]
    pieces = [content[i : i + 1000] for i in range(0, len(content), 1000)]
    assert entry.blocks == tuple(hashlib.sha256(piece).hexdigest() for piece in pieces)


def test_a_long_tail_becomes_part_of_its_engine(
    stored: Path, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "SMALL_ROWS", 100)
    monkeypatch.setattr(tail, "TAIL_ROWS", 20)
    for number in range(4):
        first = 6 * number
        add_images(stored, [new_image(bank, f"new {number}", slice(first, first + 6))])
        with open_index(stored, verify=True) as index:
            found = index.search(-bank.vectors[: first + 6], 2)
            numbers = index.patches(found.ids)[:, 0, 0]
            assert numbers.tolist() == [10 + i for i in range(number + 1) for _ in range(6)]
            np.testing.assert_allclose(found.similarities[:, 0], 1, atol=1e-3)
            assert (np.diff(found.similarities, axis=1) <= 0).all()
    assert TAIL not in read_manifest(stored).files and len(rows_of(stored)) == 324
    remove_images(stored, ["new 0"])
    with open_index(stored) as index:
        assert (index.patches(index.search(-bank.vectors[:6], 300).ids)[..., 0] != 10).all()


def test_rows_of_an_unfinished_change_are_no_part_of_the_index(stored: Path, bank: Any) -> None:
    before = rows_of(stored)
    with open_index(stored) as index:
        index.add(bank.vectors[:50], bank.labels[:50], bank.patches[:50])
    for name in ("labels.npy", "patches.npy"):
        with (stored / name).open("ab") as file:
            file.write(b"of a killed change")
    assert rows_of(stored) == before
    add_images(stored, [new_image(bank, "new")])
    assert rows_of(stored)[:300] == before and len(rows_of(stored)) == 306
    assert (stored / "labels.npy").stat().st_size == read_manifest(stored).files["labels.npy"].bytes
    assert np.load(stored / "patches.npy").shape == (306, 3)  # a plain array file, too


def test_a_changed_byte_of_a_growing_file_is_noticed(
    small_blocks: None, stored: Path, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "QUICK_BYTES", 0)
    add_images(stored, [new_image(bank, "new")])
    open_index(stored, verify=True).close()
    content = bytearray((stored / "labels.npy").read_bytes())
    content[700] ^= 1
    (stored / "labels.npy").write_bytes(content)
    open_index(stored).close()  # which sums up no large file
    with pytest.raises(IndexDamagedError, match=r"labels.npy has changed"):
        open_index(stored, verify=True)


def test_copies_by_hard_links_grow_apart(
    build: Callable[..., PatchIndex], settings: IndexSettings, bank: Any, tmp_path: Path
) -> None:
    one, two = tmp_path / "index", tmp_path / "snapshot"
    with build(one, settings) as index:
        index.flush(images=RECORDS)
    add_images(one, [new_image(bank, "before")])  # so that its files have grown
    shutil.copytree(one, two, copy_function=os.link)
    add_images(one, [new_image(bank, "first", slice(0, 12))])
    add_images(two, [new_image(bank, "second")])
    for path, rows in ((one, 318), (two, 312)):
        assert IndexFolder.open(path).verify() == []
        with open_index(path, verify=True) as index:
            assert len(index) == rows
            found = index.search(-bank.vectors[:6], 2)
            assert sorted(index.patches(found.ids)[0, :, 0].tolist()) == [10, 11]
