"""The start of the command is measured by processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.startup import Cost, cases, least, run
from indexer.bank.build import build_index
from indexer.datasets import load_dataset
from indexer.recipe import config_folder, load_recipe


def test_the_least_of_each_counts() -> None:
    assert least([Cost(3, 1), Cost(2, 4)]) == Cost(2, 1)


def test_a_process_is_counted_with_what_it_burns() -> None:
    idle = run(["-c", "import time; time.sleep(0.5)"])
    busy = run(["-c", "import time\nwhile time.process_time() < 0.5: pass"])
    assert idle.clock >= 0.5
    assert busy.processor >= 0.5
    with pytest.raises(subprocess.CalledProcessError):
        run(["-c", "import sys; sys.exit(3)"])


def test_the_first_pass_comes_before_the_end(voc: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    dataset = load_dataset(voc, split="trainaug")
    index = build_index(
        dataset,
        tmp_path / "tiny.index",
        recipe=load_recipe(config_folder() / "offline.yaml", [*tiny, "backbone.block=2"]),
    ).path
    measured = cases(index, voc / "JPEGImages" / "p3.jpg", tmp_path / "out")
    first = measured["mycelia segment, to the first pass"]()
    assert first.processor > 0
    assert first.clock > 0
    assert (tmp_path / "out" / "p3.png").is_file()
