"""The script that sets our scores beside the published ones, on a tiny VOC with a random ViT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import reproduce


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *map(str, words)])
    reproduce.main()


def test_a_table_of_features_sizes_and_seeds(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--voc", voc, "--sizes", 12, 102_400, "--recipes", "voc-dinov2-s14", *tiny]
    words += ["--work", tmp_path / "work", "--out", tmp_path / "out", "--json", tmp_path / "rows.json"]
    run(monkeypatch, *words)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["features"], row["bank"]) for row in rows] == [
        (kind, size) for size in (12, 102_400) for kind in ("embeddings", "fungi")
    ]
    assert rows[0]["rows"] == 12, "two patches of each of three images in two epochs"
    assert [row["published"] for row in rows] == ["", "", "70.2", ""]
    assert {row["difference"] for row in rows} == {""}, "other images and weights are not compared"
    text = (tmp_path / "out" / "reproduce.md").read_text()
    assert "a piece of 5 images" in text and "`backbone.weights=random`" in text
    assert "not those of the published numbers" in text

    def never(*_: object, **__: object) -> None:
        raise AssertionError("what is done is not done again")

    monkeypatch.setattr(reproduce, "build_index", never)
    monkeypatch.setattr(reproduce, "evaluate", never)
    run(monkeypatch, *words)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    with pytest.raises(AssertionError, match="not done again"):
        run(monkeypatch, *words, "--seeds", 1)


def test_what_was_measured_as_published_is_compared() -> None:
    plain, fungi = reproduce.cells(["voc-dino-s16"], [1_024_000], [0], [])
    assert plain.recipe.bank.protocol == "hummingbird" and plain.recipe.bank.epochs == 2
    assert plain.recipe.bank.max_patches == 1_024_000
    found = {"rows": 9, "hummingbird": 44.0, "standard": 40.0, "build_s": 1.0, "evaluate_s": 1.0}
    row = reproduce.row_of(plain, found, comparable=True)
    assert (row["published"], row["difference"]) == ("43.1", "+0.9")
    assert reproduce.row_of(fungi, found, comparable=True)["published"] == ""


def test_faults_are_one_sentence(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: the command line: unknown key image\.sise"):
        run(monkeypatch, "--voc", voc, "--work", tmp_path / "work", "image.sise=[64,64]")
    with pytest.raises(SystemExit, match=r"^error: .*nowhere"):
        run(monkeypatch, "--voc", tmp_path / "nowhere", "--work", tmp_path / "work")
