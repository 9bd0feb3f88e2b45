"""A build and a conversion that want the same place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from indexer.bank.build import build_index
from indexer.datasets import Dataset
from indexer.recipe import Recipe
from retrieval import IndexSettings
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.edit.convert import convert_index

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Content = Callable[[Path], dict[str, bytes]]


def test_a_conversion_that_was_killed_gives_a_build_nothing(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, content: Content
) -> None:
    """Features of another index must not be taken for those of this build."""
    dataset = labelled_folder(3)
    build_index(dataset, tmp_path / "other", recipe=tiny_recipe("seed=5"))
    program = (
        "import os, sys\nfrom retrieval import IndexSettings\n"
        "from retrieval.edit.convert import convert_index\n"
        "def die(event):\n    if event.stage == 'converting': os.kill(os.getpid(), 9)\n"
        "convert_index(sys.argv[1], sys.argv[2], settings=IndexSettings(engine='exact'), progress=die)"
    )
    places = [str(tmp_path / "other"), str(tmp_path / "x")]
    done = subprocess.run(
        [sys.executable, "-c", program, *places], check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == -9
    left = [path for path in tmp_path.glob("x.convert-*") if path.is_dir()]
    assert len(left) == 1 and not (tmp_path / "x.partial").exists()
    build_index(dataset, tmp_path / "x", recipe=tiny_recipe())
    build_index(dataset, tmp_path / "fresh", recipe=tiny_recipe())
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


def test_an_unfinished_build_survives_a_conversion_to_its_place(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(3)
    build_index(dataset, tmp_path / "other", recipe=tiny_recipe())
    work = tmp_path / "x.partial"
    work.mkdir()
    (work / "part-000000.safetensors").write_bytes(b"hours of work")
    convert_index(tmp_path / "other", tmp_path / "x", settings=IndexSettings(engine="exact"))
    compact_index(
        tmp_path / "other",
        tmp_path / "y",
        options=CompactOptions(0.5),
        settings=IndexSettings(engine="exact"),
    )
    assert (work / "part-000000.safetensors").read_bytes() == b"hours of work"
