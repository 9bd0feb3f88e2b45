from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from segmentation.cli import serve
from segmentation.cli.logs import JsonLines

from .command import error_of, run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "needs keys"),
        (("--label-studio-url", "studio"), "should be http://HOST:PORT"),
        (("bank.epochs=2",), "cannot be changed here"),
        (("--keys", "/no/such/file"), "cannot be read"),
    ],
)
def test_what_it_refuses_before_it_listens(index: Path, options: tuple[str, ...], message: str) -> None:
    assert message in error_of(run("serve", index, *options))


def test_an_index_that_is_none(tmp_path: Path) -> None:
    assert "error: " in error_of(run("serve", tmp_path / "none"))


def test_the_missing_extra_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert "pip install 'mycelia[serve]'" in error_of(run("serve", index))


def test_a_log_line_is_json() -> None:
    record = logging.LogRecord("mycelia.service", logging.INFO, "", 0, "GET %s\n", ("/x",), None)
    record.status = 200
    entry = json.loads(JsonLines().format(record))
    assert (entry["message"], entry["level"], entry["status"]) == ("GET /x\n", "info", 200)
    assert "request" not in entry
