from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from PIL import Image

from retrieval.errors import ConfigError
from segmentation import evaluate
from segmentation.scoring import report
from segmentation.scoring.evaluator import ImageScore
from segmentation.scoring.report import choose_examples, write_report


@pytest.fixture
def made(world, dataset, scene):
    """A segmenter, a data set of four scenes, and their evaluation."""
    subject, data = world(), dataset([scene(seed, (40 + seed, 60)) for seed in range(4)])
    return subject, data, evaluate(subject, data, protocol="hummingbird")


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_is_complete(made, tmp_path) -> None:
    subject, data, result = made
    page = write_report(result, subject, data, tmp_path / "deep" / "page")
    assert page == tmp_path / "deep" / "page" / "index.html"
    text = page.read_text(encoding="utf-8")
    links = set(_Page(text).links)
    assert "confusion.png" in links and "report.json" in links
    for link in links:
        assert (page.parent / link).is_file(), link
    assert not re.search(r"https?://|@import|url\(", text)  # nothing from outside
    written = {p.relative_to(page.parent).as_posix() for p in page.parent.rglob("*") if p.is_file()}
    assert written == links | {"index.html"}
    for name in result.per_class:
        assert name in text
    assert f"{100 * result.miou:.1f} %" in text and f"{100 * result.hummingbird_miou:.1f} %" in text
    recipe = re.search(r"<pre>(.*?)</pre>", text, re.S)
    assert recipe and yaml.safe_load(recipe[1].replace("&#39;", "'")) == result.recipe
    assert json.loads((page.parent / "report.json").read_text())["miou"] == pytest.approx(result.miou)
    with Image.open(page.parent / "confusion.png") as plot:
        assert min(plot.size) > 300
    for title in ("Best images", "Median images", "Worst images"):
        assert title in text
    assert [p.name for p in page.parent.parent.iterdir()] == ["page"]


def test_the_page_says_how_sure_and_how_defects_are_found(world, dataset, scene, tmp_path) -> None:
    subject, data = world(), dataset([scene(seed, (40 + seed, 60)) for seed in range(4)])
    result = evaluate(subject, data, defect="tree")
    text = write_report(result, subject, data, tmp_path / "page", examples=0).read_text()
    assert f"{100 * result.reliability.ece:.2f} %" in text
    assert re.search(r"AUROC of tree</dt><dd>100\.0 %", text)
    with Image.open(tmp_path / "page" / "reliability.png") as plot:
        assert min(plot.size) > 300


def test_names_are_escaped(made, tmp_path) -> None:
    subject, data, result = made
    nasty = replace(result, dataset={**result.dataset, "name": "<script>alert(1)</script>"})
    assert "<script>" not in write_report(nasty, subject, data, tmp_path / "page").read_text()


def test_an_earlier_report_is_replaced(made, tmp_path) -> None:
    subject, data, result = made
    write_report(result, subject, data, tmp_path / "page", examples=3)
    (tmp_path / "empty").mkdir()
    for folder in ("page", "empty"):
        write_report(result, subject, data, tmp_path / folder, examples=0)
        assert list((tmp_path / folder / "pictures").iterdir()) == []


@pytest.mark.parametrize("unexpected", ["notes.txt", "pictures/holiday.jpg"])
def test_other_files_are_never_lost(made, tmp_path, unexpected) -> None:
    subject, data, result = made
    page = write_report(result, subject, data, tmp_path / "page")
    (page.parent / unexpected).write_text("mine")
    before = page.read_bytes()
    with pytest.raises(ConfigError, match=re.escape(unexpected)):
        write_report(result, subject, data, page.parent)
    assert (page.parent / unexpected).read_text() == "mine" and page.read_bytes() == before


def test_somebody_elses_page_is_never_lost(made, tmp_path) -> None:
    subject, data, result = made
    for name in ("index.html", "report.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="choose a new or empty folder"):
        write_report(result, subject, data, tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        write_report(result, subject, data, tmp_path / "index.html")


def test_a_failure_keeps_the_earlier_report(made, tmp_path, monkeypatch) -> None:
    subject, data, result = made
    page = write_report(result, subject, data, tmp_path / "page")
    before = page.read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError("no plot")

    monkeypatch.setattr(report, "draw_confusion", fail)
    with pytest.raises(RuntimeError, match="no plot"):
        write_report(result, subject, data, page.parent)
    assert page.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("images", range(12))
def test_examples_are_the_best_the_middle_and_the_worst(images) -> None:
    scores = [ImageScore(str(n), n / 20, 0.0) for n in range(images)] + [ImageScore("none", np.nan, 0.0)]
    chosen = choose_examples(scores, 3)
    best, median, worst = ([score.id for score in group] for group in chosen.values())
    every = best + median + worst
    assert len(every) == len(set(every)) and "none" not in every
    if images >= 9:
        assert best == [str(images - 1), str(images - 2), str(images - 3)]
        assert worst == ["0", "1", "2"]
        assert str(images // 2) in median
    if images:
        assert best[0] == str(images - 1)
