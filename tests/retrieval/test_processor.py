"""What is measured of a processor is measured once, and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval import processor
from retrieval.processor import KEPT, measured, speedup


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(processor, "_known", {})
    return tmp_path / "cache"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process knows."""
    monkeypatch.setattr(processor, "_known", {})


def never() -> float:
    raise AssertionError("measured again")


def test_a_figure_is_measured_once_for_all_processes(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured("speed", lambda: 2.5) == 2.5
    assert measured("speed", never) == 2.5
    forget(monkeypatch)
    assert measured("speed", never) == 2.5
    assert measured("other", lambda: 1.0) == 1.0
    kept = json.loads((empty_cache / KEPT).read_text())
    assert list(kept.values()) == [{"speed": 2.5, "other": 1.0}]


def test_another_number_of_threads_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.torch, "get_num_threads", lambda: 1)
    measured("speed", lambda: 2.0)
    monkeypatch.setattr(processor.torch, "get_num_threads", lambda: 64)
    assert measured("speed", lambda: 3.0) == 3.0


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"speed": "fast"}}', "[" * 5000])
def test_a_file_that_makes_no_sense_is_written_again(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    empty_cache.mkdir()
    (empty_cache / KEPT).write_text(content)
    assert measured("speed", lambda: 2.0) == 2.0
    forget(monkeypatch)
    assert measured("speed", never) == 2.0


def test_a_cache_that_cannot_be_written_is_no_error(empty_cache: Path) -> None:
    empty_cache.write_text("a file where the folder should be")
    assert measured("speed", lambda: 2.0) == 2.0
    assert measured("speed", never) == 2.0


def test_the_faster_of_two_is_found() -> None:
    assert speedup(lambda: sum(range(200_000)), lambda: None) > 10
    assert speedup(lambda: None, lambda: sum(range(200_000))) < 0.1


def test_the_product_is_measured() -> None:
    assert 0.01 < processor._product_speedup() < 100
