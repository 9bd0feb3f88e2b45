"""Events of long work as the command shows them, and the packages' messages."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from retrieval.progress import track
from segmentation.cli import app, progress
from segmentation.cli.progress import ProgressDisplay


def test_lines_go_to_stderr_and_end_with_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    with track(ProgressDisplay(), "reading", 5, done=2) as task:
        for _ in range(3):
            task.advance()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("reading: 5/5  ")
    assert len(printed.err.splitlines()) == 1, "no line for every item"


def test_no_progress_is_no_division_by_zero(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    with track(ProgressDisplay(), "index", 5) as task:
        task.advance(0)
    assert capsys.readouterr().err.startswith("index: 0/5  0.0/s")


def test_a_terminal_shows_a_bar_that_an_error_ends() -> None:
    shown = io.StringIO()
    display = ProgressDisplay(Console(file=shown, force_terminal=True, width=100))
    for name in ("first", "second"):
        with pytest.raises(ValueError, match="enough"), track(display, name, 4) as task:
            task.advance(3)
            raise ValueError("enough")
    assert "first" in shown.getvalue() and "second" in shown.getvalue() and "3/4" in shown.getvalue()


def test_stages_within_a_stage_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay(Console(file=io.StringIO(), force_terminal=True))
    for shown in (display, ProgressDisplay()):
        with track(shown, "outer", 1) as outer, track(shown, "inner", 1) as inner:
            inner.advance()
            outer.advance()
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["inner", "outer"]


def test_messages_of_the_packages_are_lines_on_stderr_and_come_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told(*_: object, **__: object) -> None:
        logging.getLogger("mycelia").info("waiting for %s", "the lock")
        logging.getLogger("mycelia").debug("nobody wants to know")
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.folder.IndexFolder.open", told)
    for _ in range(2):
        result = CliRunner().invoke(app, ["index", "info", str(tmp_path)])
        assert result.stdout == ""
        assert result.stderr.splitlines()[0] == "waiting for the lock"
        assert len(result.stderr.splitlines()) == 2
