"""A folder appears in its place whole and synced, or not at all; two commands with one target take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.errors import IndexBusyError, IndexExistsError, StorageError
from retrieval.store import staging as staging_module
from retrieval.store.staging import check_free, publish, reserved, staging, workspace


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with staging(out, "convert") as work:
        (work / "file").write_text("content")
        assert not out.exists() and work.parent == out.parent
        assert ".out.lock" in names(out.parent)
    assert names(out.parent) == ["out"] and (out / "file").read_text() == "content"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), staging(tmp_path / "out", "convert") as work:
        (work / "file").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_an_unfinished_build_beside_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "part").write_text("hours of work")
    with staging(tmp_path / "out", "convert"):
        pass
    assert (tmp_path / "out.partial" / "part").read_text() == "hours of work"


def test_what_a_killed_run_left_goes_and_nothing_else(tmp_path: Path) -> None:
    kept = ["out.convert", "out.convert-1", "other.convert-0123abcd", "out.compact-0123abcd"]
    for name in [*kept, "out.convert-0123abcd"]:
        (tmp_path / name).mkdir()
    with staging(tmp_path / "out", "convert"):
        pass
    assert names(tmp_path) == sorted([*kept, "out"])


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with staging(tmp_path / "out", "convert"):
        pass  # an empty folder is free
    (tmp_path / "out" / "letter").write_text("dear")
    with (
        pytest.raises(IndexExistsError, match="is no index; choose another --out"),
        staging(tmp_path / "out", "convert"),
    ):
        pass
    with staging(tmp_path / "out", "report", replace=True) as work:
        (work / "page").touch()
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["page"]


def test_two_commands_with_one_target_exclude_each_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "from pathlib import Path\nfrom retrieval.store.staging import staging\n"
        f"with staging(Path({str(out)!r}), 'compact'): pass"
    )
    with reserved(out):
        with (
            pytest.raises(IndexBusyError, match=r"another process is making .*out right now"),
            staging(out, "convert"),
        ):
            pass
        second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "IndexBusyError" in second.stderr
        with staging(tmp_path / "another", "convert"):
            pass
    assert names(tmp_path) == ["another"]


def test_a_workspace_survives_errors_and_goes_when_done(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "out.partial"
    with pytest.raises(RuntimeError), workspace(out, folder, "index"):
        (folder / "part").touch()
        raise RuntimeError
    assert names(tmp_path) == ["out.partial"] and names(folder) == ["part"]
    with workspace(out, folder, "index"):
        (folder / "index").mkdir()
        (folder / "index" / "rows").touch()
    assert names(tmp_path) == ["out"] and names(out) == ["rows"]


def test_a_workspace_that_was_killed_in_its_last_step(tmp_path: Path) -> None:
    """Before its result had the name it is one again; after that it is swept, though ``out`` is taken."""
    out, folder, done = tmp_path / "out", tmp_path / "out.partial", tmp_path / "out.done-0123abcd"
    (done / "index").mkdir(parents=True)
    (done / "part").touch()
    with pytest.raises(RuntimeError), workspace(out, folder, "index"):
        raise RuntimeError
    assert names(tmp_path) == ["out.partial"] and names(folder) == ["index", "part"]
    (folder / "index").rmdir()
    folder.rename(done)
    out.mkdir()
    with pytest.raises(IndexExistsError):
        (out / "manifest.json").touch()
        check_free(out)
    assert names(tmp_path) == ["out"]


def test_everything_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, folders, and in the end the folder that holds the name."""
    synced: list[tuple[int, bool]] = []
    real, out = os.fsync, tmp_path / "out"

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, out.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staging(out, "convert") as work:
        (work / "thumbs").mkdir()
        (work / "thumbs" / "0.jpg").write_text("picture")
        (work / "features").write_text("tensors")
        inodes = {path.stat().st_ino for path in [work, *work.rglob("*")]}
    before = {inode for inode, there in synced if not there}
    assert inodes <= before
    assert synced[-1] == (tmp_path.stat().st_ino, True)


def test_what_was_there_stays_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()

    def denied(self: Path, target: Path) -> Path:
        raise PermissionError(13, "denied", str(self))

    monkeypatch.setattr(staging_module.Path, "replace", denied)
    with pytest.raises(StorageError), staging(out, "report", replace=True) as work:
        (work / "new").touch()
    assert names(tmp_path) == ["out"] and names(out) == ["old"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_neighbour_with_a_like_name_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    (tmp_path / "index.old").mkdir()
    (tmp_path / "index.old" / "mine").touch()
    (tmp_path / "index.partial" / "index").mkdir(parents=True)

    def denied(self: Path, target: Path) -> Path:
        raise PermissionError(13, "denied", str(self))

    if fails:
        monkeypatch.setattr(staging_module.Path, "replace", denied)
        with pytest.raises(StorageError):
            publish(tmp_path / "index.partial" / "index", tmp_path / "index")
    else:
        publish(tmp_path / "index.partial" / "index", tmp_path / "index")
    assert names(tmp_path / "index.old") == ["mine"] and (tmp_path / "index").exists() != fails


def test_what_a_killed_run_put_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / "out.report-0123abcd.old"
    aside.mkdir()
    (aside / "page").write_text("the only one")
    with pytest.raises(RuntimeError), staging(tmp_path / "out", "report", replace=True):
        raise RuntimeError
    assert (tmp_path / "out" / "page").read_text() == "the only one" and names(tmp_path) == ["out"]


def test_the_folder_one_stands_in_is_no_free_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IndexExistsError, match="is no index"), staging(Path(), "convert"):
        pass


def test_copies_of_read_only_files_are_synced(tmp_path: Path) -> None:
    with staging(tmp_path / "out", "convert") as work:
        (work / "file").write_text("content")
        (work / "file").chmod(0o444)
    assert (tmp_path / "out" / "file").read_text() == "content"
