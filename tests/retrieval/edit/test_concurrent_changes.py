"""Changes of one index exclude each other, and readers see whole states, whoever changes it meanwhile."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import ImageRecord, IndexFolder, IndexSettings, PatchIndex, open_index, read_manifest
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.change import changing
from retrieval.edit.remove import remove_images
from retrieval.errors import ConfigError, IndexBusyError, IndexClosedError, IndexFileError, StorageError
from retrieval.store.layout import CHANGE_LOCK
from retrieval.store.lock import Lock

Build = Callable[..., PatchIndex]
RECORDS = [ImageRecord(i, f"photo {i}", f"{i}.png", "0" * 64, 60, 50, 30) for i in range(10)]
ENGINES = ["exact", "faiss", "qdrant"]


@pytest.fixture(params=ENGINES)
def stored(request: pytest.FixtureRequest, tmp_path: Path, build: Build) -> Path:
    engine = request.param
    pytest.importorskip({"faiss": "faiss", "qdrant": "qdrant_edge"}.get(engine, "torch"))
    with build(tmp_path / "index", IndexSettings(engine=engine)) as index:
        index.flush(images=RECORDS)
    return tmp_path / "index"


REMOVE = """
import sys
from retrieval.edit.remove import remove_images
print("ready", flush=True)
sys.stdin.readline()
for id in sys.argv[2:]:
    remove_images(sys.argv[1], [id])
"""


def remover(folder: Path, *ids: str) -> subprocess.Popen[str]:
    """A process that waits for a line and then removes images, one change each."""
    process = subprocess.Popen(
        [sys.executable, "-c", REMOVE, str(folder), *ids],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_removals_of_two_processes_are_both_kept(stored: Path) -> None:
    ids = [record.id for record in RECORDS]
    processes = [remover(stored, *ids[:4]), remover(stored, *ids[4:8])]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    folder = IndexFolder.open(stored)
    assert folder.verify() == []
    assert [record.removed for record in folder.records] == [True] * 8 + [False] * 2
    with folder.index() as index:
        assert len(index) == 60


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_readers_see_whole_states_while_an_index_is_changed(
    tmp_path: Path, build: Build, bank: Any, engine: str
) -> None:
    pytest.importorskip("faiss")
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine=engine)) as index:
        index.flush(images=RECORDS)
    failures: list[BaseException] = []

    def change() -> None:
        try:
            for number in range(8):
                remove_images(folder, [f"photo {number}"])
                image = NewImage(
                    RECORDS[number], bank.vectors[:30], bank.labels[:30], bank.patches[:30, 1:], b"jpeg"
                )
                add_images(folder, [replace(image, record=replace(RECORDS[number], id=f"new {number}"))])
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=change)
    writer.start()
    opened = 0
    while writer.is_alive() or opened == 0:
        state = IndexFolder.open(folder)
        with state.index(verify=True) as index:
            live = sum(record.patches for record in state.records if not record.removed)
            assert len(index) == live == state.live_rows
            assert (index.search(bank.queries, 3).ids >= 0).all()
        state.verify()
        opened += 1
    writer.join()
    assert not failures and opened > 1
    assert len(IndexFolder.open(folder).records) == 18


def test_a_reader_writes_nothing_and_needs_no_permission_to(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine="exact")) as index:
        index.flush(images=RECORDS)
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    state = IndexFolder.open(folder)
    with state.index(verify=True) as index:
        assert state.verify() == [] and len(index) == 300
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_a_second_change_waits_says_so_and_gives_up(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mycelia")
    lock = Lock(stored / CHANGE_LOCK)
    lock.acquire("change it")
    with pytest.raises(IndexBusyError, match="has not finished after 0 s; wait for it"):
        remove_images(stored, ["photo 1"], wait=0.2)
    assert "waiting for another process to change" in caplog.text
    order: list[str] = []

    def release() -> None:
        order.append("released")
        lock.release()

    threading.Timer(0.3, release).start()
    assert remove_images(stored, ["photo 1"], wait=60).rows == 30
    order.append("removed")
    assert order == ["released", "removed"]
    assert not (stored / CHANGE_LOCK).exists()


def test_an_index_that_somebody_changed_meanwhile_is_not_overwritten(tmp_path: Path, build: Build) -> None:
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine="exact")) as index:
        index.flush(images=RECORDS)
    with open_index(folder) as index:
        remove_images(folder, ["photo 1"])
        with pytest.raises(IndexBusyError, match="since it was opened here; open it again"):
            index.remove(2)
        assert len(index) == 300  # as it was opened
    assert IndexFolder.open(folder).live_rows == 270


def test_a_change_that_fails_keeps_nothing_and_gives_the_lock_back(stored: Path) -> None:
    before = read_manifest(stored)
    with pytest.raises(ConfigError, match=r"no memory image 'photo 11'; did you mean 'photo 1'"):
        remove_images(stored, ["photo 2", "photo 11"])
    with pytest.raises(RuntimeError), changing(stored) as change:
        change.index.remove(3)
        raise RuntimeError
    assert read_manifest(stored) == before and not (stored / CHANGE_LOCK).exists()
    with open_index(stored, verify=True) as index:
        assert len(index) == 300


def test_there_is_nothing_to_change_where_there_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match="mycelia index build"):
        remove_images(tmp_path / "nowhere", ["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexFileError, match="run `mycelia index build`"):
        remove_images(tmp_path / "empty", ["a"])
    assert list((tmp_path / "empty").iterdir()) == []


def test_added_images_are_found_with_their_records_and_thumbnails(stored: Path, bank: Any) -> None:
    vectors = -bank.vectors[:6]
    image = NewImage(
        replace(RECORDS[0], id="new"), vectors, bank.labels[:6], bank.patches[:6, 1:], thumbnail=b"jpeg"
    )
    report = add_images(stored, [image])
    assert report.numbers == (10,) and report.rows == 6
    folder = IndexFolder.open(stored)
    thumbnail = folder.thumbnail(10)
    assert thumbnail is not None and thumbnail.read_bytes() == b"jpeg" and folder.thumbnail(9) is None
    with folder.index(verify=True) as index:
        found = index.search(vectors, 1)
        assert index.patches(found.ids)[:, 0, 0].tolist() == [10] * 6
        assert len(index) == 306
    assert folder.records[-1].id == "new" and folder.records[-1].patches == 6
    with pytest.raises(ConfigError, match="has the memory image 'new' already; take `mycelia index replace`"):
        add_images(stored, [image])
    assert IndexFolder.open(stored).live_rows == 306


def test_a_stray_file_changes_no_answer_and_is_named(tmp_path: Path, build: Build, bank: Any) -> None:
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine="exact")) as index:
        index.flush(images=RECORDS)
        expected = index.search(bank.queries, 5)
    np.save(folder / "weights.npy", np.linspace(1, 90, 300).astype(np.float32))
    (folder / "thumbs").mkdir()
    (folder / "thumbs" / "000001.jpg").write_bytes(b"of something else")
    state = IndexFolder.open(folder)
    assert state.verify() == ["thumbs/000001.jpg", "weights.npy"] and state.thumbnail(1) is None
    remove_images(folder, ["photo 9"])
    state = IndexFolder.open(folder)
    assert state.verify() == ["thumbs/000001.jpg", "weights.npy"]  # a change neither takes nor deletes them
    with state.index() as index:
        found = index.search(bank.queries, 5)
        assert found.multiplicity is None
    kept = ~np.isin(expected.ids, np.arange(270, 300)).any(axis=1)
    np.testing.assert_array_equal(found.ids[kept], expected.ids[kept])


def test_closed_means_closed(stored: Path, bank: Any) -> None:
    index = open_index(stored)
    index.close()
    index.close()
    rows = bank.vectors[:3], bank.labels[:3], bank.patches[:3]
    for use in (
        lambda: index.search(bank.queries, 3),
        lambda: index.add(*rows),
        lambda: index.remove(1),
        lambda: index.flush(),
        lambda: index.patches(np.array([0])),
        lambda: next(index.stream()),
    ):
        with pytest.raises(IndexClosedError, match="was closed; open it again"):
            use()
    with open_index(stored, verify=True) as again:
        assert len(again) == 300


def test_an_index_that_was_made_and_closed_takes_no_rows(tmp_path: Path, build: Build, bank: Any) -> None:
    index = build(tmp_path / "index", IndexSettings(engine="faiss"))
    index.flush()
    index.close()
    with pytest.raises(IndexClosedError):
        index.add(bank.vectors[:3], bank.labels[:3], bank.patches[:3])
    with pytest.raises(IndexClosedError):
        index.flush()
    with open_index(tmp_path / "index", verify=True) as again:
        assert len(again) == 300


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_who_changed_an_index_can_still_ask_it_after_others_did(
    tmp_path: Path, build: Build, bank: Any, engine: str
) -> None:
    pytest.importorskip("faiss")
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine=engine)) as index:
        index.flush(images=RECORDS)
    rows = bank.vectors[:30], bank.labels[:30], bank.patches[:30]
    with open_index(folder) as index:
        index.add(*rows)
        index.flush()
        image = NewImage(replace(RECORDS[0], id="new"), *rows[:2], rows[2][:, 1:])
        add_images(folder, [image])
        assert (index.search(bank.queries, 3).ids >= 0).all() and len(index) == 330


def test_after_a_commit_of_unknown_outcome_nothing_more_is_written(
    tmp_path: Path, build: Build, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is in place, and then the disk fails: its files must not be written over."""
    folder = tmp_path / "index"
    with build(folder, IndexSettings(engine="exact")) as index:
        index.flush(images=RECORDS)

    def failing(path: Path) -> None:
        if read_manifest(folder).generation == 1:
            raise OSError(errno.EIO, "input or output error")

    with open_index(folder) as index:
        index.remove(1)
        with monkeypatch.context() as patch:
            patch.setattr("retrieval.store.files.sync_folder", failing)
            with pytest.raises(StorageError, match="fails"):
                index.flush()
        with pytest.raises(StorageError, match=r"could not be completed.*open the index again"):
            index.flush()
    with open_index(folder, verify=True) as index:
        assert len(index) == 270


def test_an_index_may_be_closed_in_another_thread(stored: Path) -> None:
    index = open_index(stored)
    closing = threading.Thread(target=index.close)
    closing.start()
    closing.join()
    open_index(stored).close()
