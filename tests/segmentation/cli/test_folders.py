"""Data sets in folders of any name: what build and evaluate take, and what they say of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .command import error_of, run


@pytest.fixture
def odd(data: Path, tmp_path: Path) -> Path:
    """The photos under names that say nothing, with files that are not read."""
    root = tmp_path / "odd"
    shutil.copytree(data / "images", root / "one")
    shutil.copytree(data / "masks", root / "two")
    (root / "one" / "film.mov").write_bytes(b"x")
    return root


def test_folders_are_named_by_options(odd: Path, tiny: Path, tmp_path: Path) -> None:
    index = tmp_path / "odd.index"
    build = ("index", "build", odd, "--config", tiny, "--out", index)
    refused = error_of(run(*build))
    assert "one/, two/" in refused and "--images one --masks two" in refused
    built = run(*build, "--images", "one", "--masks", odd / "two")
    assert built.exit_code == 0, built.output
    assert f"left out of {odd / 'one'}: 1 .mov" in built.stderr
    scored = run("evaluate", index, odd, "--images", "one", "--masks", "two")
    assert scored.exit_code == 0, scored.output
    assert f"left out of {odd / 'one'}: 1 .mov" in scored.stderr


def test_folders_are_taken_by_their_names(odd: Path, tiny: Path, tmp_path: Path) -> None:
    (odd / "one").rename(odd / "JPEGImages")
    (odd / "two").rename(odd / "SegmentationClassPNG")
    built = run("index", "build", odd, "--config", tiny, "--out", tmp_path / "odd.index")
    assert built.exit_code == 0, built.output
    assert "JPEGImages/ with SegmentationClassPNG/" in built.stderr
