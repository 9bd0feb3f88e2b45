"""A few kills of every change of an index; ``benchmarks/live_kills.py`` has many more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.live_kills import CHANGES, Ground, Tally, _check, kill_many, prepare
from retrieval.edit.remove import remove_images

KILLS = {"add": 4, "replace": 4, "relabel": 2, "merge": 2}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("kills"), "exact")


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_acknowledged_is_there_and_nothing_is_half_done(ground: Ground, change: str) -> None:
    tally = kill_many(ground, change, KILLS[change], seed=1)
    assert tally.kills == KILLS[change] and tally.lost == tally.broken == 0


def test_a_lost_commit_and_a_half_done_change_are_noticed(ground: Ground, tmp_path: Path) -> None:
    tally = Tally()
    for name in ("lost", "half"):
        shutil.copytree(ground.before, tmp_path / name)
    _check("add", ground, tmp_path / "lost", 2, False, tally)
    assert (tally.lost, tally.broken) == (2, 0)
    remove_images(tmp_path / "half", ["photo00"])
    _check("relabel", ground, tmp_path / "half", 0, False, tally)
    assert tally.broken == 1
