"""Scores that flatter: images that the memory was built from, and one class with nearly all pixels."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer.bank.build import build_index
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import load_recipe
from retrieval import IndexFolder
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.errors import ConfigError
from retrieval.neighbors import Filter
from retrieval.settings import IndexSettings
from segmentation import Segmenter, evaluate
from segmentation.scoring.memory import MemoryImages, without
from segmentation.scoring.report import write_report

from ..cli.command import error_of, run, write_photos

TINY = [
    "backbone.model=test_vit",
    "backbone.weights=random",
    "image.size=[64,64]",
    "bank.max_patches=null",
    "bank.epochs=2",
    "objective.infonce.support_size=16",
    "index.engine=exact",
    "transfer.k=3",
    "runtime.device=cpu",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset(write_photos(tmp_path_factory.mktemp("flatter") / "data", count=4))


@pytest.fixture(scope="module")
def index(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the first three of four images, in two epochs."""
    out = tmp_path_factory.mktemp("flatter") / "three.index"
    build_index(data.select([sample.id for sample in data.samples[:3]]), out, recipe=load_recipe(None, TINY))
    return out


def test_images_of_the_memory_are_counted(index: Path, data: Dataset) -> None:
    with Segmenter.open(index) as segmenter:
        report = evaluate(segmenter, data)
    assert report.in_memory == 3
    assert [score.in_memory for score in report.per_image] == [True, True, True, False]
    assert report.memory_note is not None and report.memory_note.startswith("3 of 4 images are in the memory")
    plain = report.to_json()
    assert (plain["in_memory"], plain["leave_out"]) == (3, False)
    assert plain["per_image"][3]["in_memory"] is False


def test_a_copy_under_another_name_is_in_the_memory(index: Path, data: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "other.png"
    copy.write_bytes(data.samples[1].image.read_bytes())
    memory = MemoryImages(IndexFolder.open(index).records)
    assert len(memory) == 3
    records = [r for r in IndexFolder.open(index).records if r.id == data.samples[1].id]
    assert memory.numbers_of(copy) == [r.number for r in records]
    assert len(records) == 2
    assert MemoryImages([replace(r, removed=True) for r in records]).numbers_of(copy) == []
    assert memory.numbers_of(tmp_path / "gone.png") == []


def test_leaving_out_is_a_memory_without_the_image(index: Path, data: Dataset, tmp_path: Path) -> None:
    """Each image is labelled as with a filter by hand: all its epochs, and nothing else."""
    records = IndexFolder.open(index).records
    with Segmenter.open(index) as segmenter:
        report = evaluate(segmenter, data, leave_out=True)
        expected = np.zeros((2, 2), np.int64)
        for sample in data.samples:
            own = [r.number for r in records if r.id == sample.id]
            photo, truth = data.read(sample)
            mask = segmenter.label(segmenter.describe(photo), filter=Filter(not_images=own))
            found = {vote.image_id for vote in mask.explain(10, 10)}
            assert sample.id not in found and found
            np.add.at(expected, (truth.ravel(), mask.columns.ravel()), 1)
        np.testing.assert_array_equal(report.confusion, expected)
        assert report.memory_note == "3 of 4 images are in the memory, and each was scored without itself"
        page = write_report(report, segmenter, data, tmp_path / "page").read_text(encoding="utf-8")
    assert "3 of 4 images are in the memory, and each was scored without itself" in page
    assert json.loads((tmp_path / "page" / "report.json").read_text())["leave_out"] is True


def test_other_filters_still_count() -> None:
    assert without([3, 1], None) == Filter(not_images=[1, 3])
    assert without([3], Filter(not_images=[2], not_classes=[0])) == Filter(not_images=[2, 3], not_classes=[0])


def test_what_cannot_be_left_out(index: Path, data: Dataset, tmp_path: Path) -> None:
    folder = IndexFolder.open(index)
    compact_index(
        folder, tmp_path / "small", options=CompactOptions(0.5), settings=IndexSettings(engine="exact")
    )
    with Segmenter.open(tmp_path / "small") as segmenter, pytest.raises(ConfigError, match="compacted"):
        evaluate(segmenter, data, leave_out=True)
    one = data.select([data.samples[0].id])
    build_index(one, tmp_path / "one", recipe=load_recipe(None, TINY))
    with Segmenter.open(tmp_path / "one") as segmenter, pytest.raises(ConfigError, match="at least two"):
        evaluate(segmenter, data, leave_out=True)


def test_the_command_warns(index: Path, data: Dataset, tmp_path: Path) -> None:
    result = run("evaluate", index, data.root, "--json", tmp_path / "r.json", "--report", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert "warning: 3 of 4 images are in the memory, which flatters the score" in result.stderr
    assert json.loads((tmp_path / "r.json").read_text())["in_memory"] == 3
    assert "3 of 4 images are in the memory" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    result = run("evaluate", index, data.root, "--leave-out")
    assert "note: 3 of 4 images are in the memory, and each was scored without itself" in result.stderr


def test_the_command_refuses_what_cannot_be_left_out(data: Dataset, tmp_path: Path) -> None:
    one = data.select([data.samples[0].id])
    build_index(one, tmp_path / "one", recipe=load_recipe(None, TINY))
    assert "at least two images" in error_of(run("evaluate", tmp_path / "one", data.root, "--leave-out"))


def with_confusion(report, confusion: list[list[int]]):
    return replace(report, confusion=np.array(confusion, dtype=np.int64))


@pytest.fixture
def report(world, dataset, scene):
    """Of four classes: sky, road, tree, background."""
    return evaluate(world(), dataset([scene(0, (64, 96))]))


def test_the_rare_class_leads(report) -> None:
    made = with_confusion(report, [[9600, 50, 0, 0], [120, 180, 0, 0], [0] * 4, [0] * 4])
    road = 100 * 180 / (180 + 50 + 120)
    assert made.summary is not None
    assert made.summary.startswith(f"road {road:.1f} % IoU found; sky has 97.0 % of the pixels, mean ")
    assert [row.name for row in made.rare] == ["road"]
    assert made.rare_miou == pytest.approx(road / 100)
    assert made.to_json()["rare"] == {
        "dominant": "sky",
        "dominant_share": pytest.approx(0.97, abs=1e-3),
        "miou": pytest.approx(road / 100),
    }


def test_no_class_has_nearly_all(report) -> None:
    made = with_confusion(report, np.diag([94, 2, 2, 2]).tolist())
    assert made.summary is None and made.dominant is None and made.rare == []
    assert made.to_json()["rare"] is None


def test_nothing_but_the_dominant_class(report) -> None:
    made = with_confusion(report, np.diag([94, 0, 0, 0]).tolist())
    assert made.summary is not None and made.summary.startswith("no class but sky occurs")
    assert math.isnan(made.rare_miou) and made.to_json()["rare"]["miou"] is None


def test_many_rare_classes_are_one_number(report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.scoring.evaluator.MOST_NAMED", 2)
    made = with_confusion(report, [[9900, 0, 0, 0], [5, 5, 0, 0], [0, 0, 10, 0], [3, 0, 0, 7]])
    assert made.summary is not None
    assert made.summary.startswith(
        "the 3 rarer classes 73.3 % IoU found on average, road 50.0 % least; sky has"
    )


def test_command_and_page_lead_with_the_rare_class(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "data", size=(64, 128))
    from PIL import Image

    for mask in (folder / "masks").iterdir():
        small = np.zeros((64, 128), np.uint8)
        small[20:24, 20:30] = 1
        Image.fromarray(small).save(mask)
    build_index(load_dataset(folder), tmp_path / "i", recipe=load_recipe(None, TINY))
    result = run("evaluate", tmp_path / "i", folder, "--report", tmp_path / "page")
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]
    assert first.startswith("bright ") and "% IoU found; dark has 99.5 % of the pixels, mean " in first
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert first in page
    assert page.index("<dt>bright IoU</dt>") < page.index("<dt>mean IoU, dark included</dt>")
