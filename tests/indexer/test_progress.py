"""Plain progress lines where there is no terminal."""

from __future__ import annotations

import pytest

from indexer import progress
from indexer.progress import track


def test_lines_go_to_stderr_and_end_with_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    with track("reading", 5, done=2) as task:
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
    with track("index", 5) as task:
        task.advance(0)
    assert capsys.readouterr().err.startswith("index: 0/5  0.0/s")
