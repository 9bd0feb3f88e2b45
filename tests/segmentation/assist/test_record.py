"""Which files are assist's own, whatever happened in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import IndexBusyError
from segmentation.assist.record import HIDDEN, LINES, Photo, Record


def write(record: Record, name: str, text: str) -> list[str]:
    (record.staging / name).parent.mkdir(parents=True, exist_ok=True)
    (record.staging / name).write_text(text)
    return record.publish([name], "photo.jpg", Photo("content", "memory", {"unsure": 0.5}))


def test_a_file_is_ours_until_it_is_changed(tmp_path: Path) -> None:
    record = Record(tmp_path)
    assert write(record, "sub/a.png", "one") == []
    again = Record(tmp_path)
    assert again.is_ours("sub/a.png") and not again.is_foreign("sub/a.png")
    assert again.photos["photo.jpg"] == Photo("content", "memory", {"unsure": 0.5})
    (tmp_path / "sub/a.png").write_text("a person's")
    assert again.is_foreign("sub/a.png")
    assert write(again, "sub/a.png", "two") == ["sub/a.png"]
    assert (tmp_path / "sub/a.png").read_text() == "a person's"
    (tmp_path / "sub/a.png").unlink()
    assert write(again, "sub/a.png", "three") == [] and (tmp_path / "sub/a.png").read_text() == "three"


def test_a_file_that_was_there_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("older")
    assert write(Record(tmp_path), "a.png", "ours") == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "older"


def test_a_stop_between_the_line_and_the_file_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path)
    write(record, "a.png", "one")

    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write(record, "a.png", "two")
    again = Record(tmp_path)
    assert (tmp_path / "a.png").read_text() == "one" and again.is_ours("a.png")


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    write(Record(tmp_path), "a.png", "one")
    with (tmp_path / HIDDEN / LINES).open("a") as file:
        file.write('{"files": {"b.png"')
    again = Record(tmp_path)
    write(again, "c.png", "three")
    last = Record(tmp_path)
    assert last.is_ours("a.png") and last.is_ours("c.png")


def test_two_runs_exclude_each_other(tmp_path: Path) -> None:
    with Record(tmp_path).locked(), pytest.raises(IndexBusyError), Record(tmp_path).locked():
        pass
