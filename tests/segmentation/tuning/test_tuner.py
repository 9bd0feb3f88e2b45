"""Tuning as a whole, on folders where the right choice is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexer import build_index
from indexer.datasets import Dataset
from indexer.recipe import Recipe, load_recipe
from retrieval.errors import ConfigError, DatasetError
from segmentation.tuning.cost import Meter
from segmentation.tuning.recipe_file import expectation_lines, write_recipe
from segmentation.tuning.tuner import Candidates, TuningReport, tune

RED, GREEN = (210, 20, 20), (20, 200, 20)
PLAIN = Candidates(metrics=("none",), shifts=(1,), refines=("none",))
ONE = replace(PLAIN, blocks=(1,), weights=(0.0,), ks=(3,), temperatures=(0.02,))


@pytest.fixture
def rooms(flat_images: Callable[..., Dataset]) -> Dataset:
    """Two reds and two greens, a room each, labelled 0 and 1: the nearest other room is always wrong."""
    images = [
        (f"room{room}-{number}", color, room % 2)
        for room, color in enumerate([RED, (210, 70, 20), GREEN, (70, 200, 20)])
        for number in range(3)
    ]
    return flat_images(images)


@pytest.fixture
def labelled(flat_images: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Red is 0 and green 1; of the twelve images, ``wrong`` are labelled the other way round."""

    def make(wrong: tuple[int, ...] = ()) -> Dataset:
        return flat_images(
            [(f"{n % 4}-{n:02d}", RED if n % 2 else GREEN, (n % 2 == 0) ^ (n in wrong)) for n in range(12)]
        )

    return make


def test_a_group_left_out_is_left_out_whole(rooms: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    # with a row of its own room in the bank every image would score 100
    report = tune(rooms, tiny_recipe(), group="5", candidates=ONE)
    assert report.new is not None
    assert report.new.score < 0.05
    assert report.near.score > 0.9
    assert report.interval == (report.new.low, report.near.high)
    assert (report.groups, report.images, report.queries) == (4, 12, 12)


def test_an_image_left_out_is_left_out(
    flat_images: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    dataset = flat_images([("a", RED, 0), ("b", RED, 1), ("c", GREEN, 0), ("d", GREEN, 1)])
    report = tune(dataset, tiny_recipe(), candidates=ONE)
    assert report.near.score < 0.05
    assert report.new is None


@pytest.mark.parametrize(
    ("wrong", "candidates", "k", "temperature"),
    [
        # a few wrong labels: the nearest patch is often wrong, the many are not
        ((0, 3), ((1, 60), (1.0,)), 60, 1.0),
        # all labels right, but more neighbours than patches of the class: only a small T tells them apart
        ((), ((300,), (0.001, 100.0)), 300, 0.001),
        ((), ((2, 300), (100.0,)), 2, 100.0),
    ],
)
def test_planted_k_and_temperature_are_chosen(
    wrong: tuple[int, ...],
    candidates: tuple[tuple[int, ...], tuple[float, ...]],
    k: int,
    temperature: float,
    labelled: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
) -> None:
    ks, temperatures = candidates
    tried = replace(ONE, ks=ks, temperatures=temperatures)
    report = tune(labelled(wrong), tiny_recipe(), candidates=tried)
    assert (report.recipe.transfer.k, report.recipe.transfer.temperature) == (k, temperature)
    assert max(row.behind for row in report.earlier) > 0.02  # there was something to choose


def test_blocks_and_weights_are_all_tried_with_the_recipes_own(
    labelled: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe("features.gradient_weight=0.7", "transfer.k=4")
    report = tune(labelled(), recipe, candidates=replace(PLAIN, temperatures=(0.02,)), images=4)
    first = [row.setting for row in report.earlier if row.round == "blocks"]
    assert len(set(first)) == len(first)
    assert {setting.block for setting in first} == {1, 4, 5}  # the last third of six, and the recipe's
    assert {setting.weight for setting in first} == {0.0}
    second = [row.setting for row in report.earlier if row.round == "vectors"]
    assert {setting.weight for setting in second} == {0.0, 0.25, 0.5, 0.7, 1.0}
    assert {setting.k for setting in first} == {setting.k for setting in second} == {4, 10, 30, 90}
    assert report.base is not None
    assert (report.base.setting.weight, report.base.setting.k) == (0.7, 4)


@pytest.mark.parametrize(
    "change",
    [
        "features.projection=none",
        "features.projection=dense",
        "bank.epochs=2",
        "bank.augmentation=hummingbird",
    ],
)
def test_other_recipes_are_tuned_too(change: str, rooms: Dataset, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(change, "index.engine=exact")
    report = tune(rooms, recipe, group="5", candidates=replace(ONE, weights=(0.5,)))
    assert report.recipe.features.gradient_weight == 0.5
    assert report.new is not None and report.new.score < 0.05 < report.near.score


def test_tuning_twice_gives_the_same(
    rooms: Dataset, tiny_recipe: Callable[..., Recipe], meter: Meter
) -> None:
    first, second = (tune(rooms, tiny_recipe(), group="5", candidates=ONE, meter=meter) for _ in range(2))
    assert min(first.seconds, first.processor_seconds) > 0
    first, second = (replace(report, seconds=0, processor_seconds=0) for report in (first, second))
    assert first == second


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (Candidates(blocks=(1, 6)), "--blocks 6 does not exist: test_vit has blocks 0 to 5"),
        (Candidates(blocks=(-1,)), "--blocks -1 does not exist"),
        (Candidates(weights=(-0.5,)), "--weights -0.5 is too small"),
        (Candidates(ks=(0, 3)), "--k 0 is too small"),
        (Candidates(temperatures=(0.0,)), "--temperatures 0.0 has to be above 0"),
    ],
)
def test_impossible_candidates_are_refused(
    candidates: Candidates, message: str, rooms: Dataset, tiny_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(ConfigError) as error:
        tune(rooms, tiny_recipe(), candidates=candidates)
    assert message in str(error.value)


def test_data_that_cannot_be_left_out_is_refused(
    rooms: Dataset, tiny_recipe: Callable[..., Recipe], flat_images: Callable[..., Dataset]
) -> None:
    alone = replace(rooms, samples=rooms.samples[:1])
    with pytest.raises(ConfigError, match="there is only one"):
        tune(alone, tiny_recipe())
    with pytest.raises(ConfigError, match=r"backbone\.blocks=\[2, 4\] joins some; leave it empty"):
        tune(rooms, tiny_recipe("backbone.blocks=[2,4]", "backbone.block=4"))


def test_masks_without_labels_are_refused(
    flat_images: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    dataset = flat_images([("a", RED, 0), ("b", GREEN, 1), ("c", RED, 255), ("d", GREEN, 255)])
    with pytest.raises(DatasetError, match="no labelled patch"):
        tune(replace(dataset, samples=dataset.samples[2:]), tiny_recipe(), candidates=ONE)


@pytest.fixture
def report(rooms: Dataset, tiny_recipe: Callable[..., Recipe]) -> TuningReport:
    recipe = tiny_recipe("features.projection_width=24", "bank.epochs=2")
    return tune(rooms, recipe, group="5", candidates=replace(ONE, weights=(0.5,)))


def test_the_recipe_loads_back_and_builds(rooms: Dataset, report: TuningReport, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    write_recipe(path, report, base="tiny.yaml", data="rooms (train)", rule="5")
    loaded = load_recipe(path)
    assert loaded == report.recipe.model_copy(update={"runtime": loaded.runtime})
    built = build_index(rooms, tmp_path / "tuned.index", recipe=loaded)
    assert built.images == 12


def test_the_recipe_says_how_it_was_made_and_what_is_expected(report: TuningReport, tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    write_recipe(path, report, base="tiny.yaml", data="rooms (train)", rule="^(room\n.)")
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    told = " ".join(line.lstrip("# ") for line in comments)
    assert "tiny.yaml" in told and "rooms (train)" in told and "one of 4 groups" in told
    assert "\n".join(comments) in path.read_text()  # the comments come first, in one piece
    for line in expectation_lines(report):
        assert line in told
    assert str(tmp_path) not in path.read_text()


def test_a_recipe_of_embeddings_names_no_weight(
    rooms: Dataset, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    report = tune(rooms, tiny_recipe(), candidates=ONE)
    path = tmp_path / "tuned.yaml"
    write_recipe(path, report, base="tiny.yaml", data="rooms", rule=None)
    assert load_recipe(path).features.kind == "embeddings"
    assert "gradient_weight" not in path.read_text()


def test_the_report_is_strict_json(report: TuningReport) -> None:
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["expected"]["low"] <= data["expected"]["new_group"]["miou"] <= data["expected"]["high"]
    assert load_recipe(None).model_validate(data["recipe"]) == report.recipe
    assert np.isclose(data["settings"][0]["miou"], report.rows[0].miou)


def test_auto_is_decided_before_tuning_and_written_down(
    tmp_path: Path, labelled: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    auto = tiny_recipe("image.size=auto", "image.auto_size=[32,32]")
    dataset = labelled()
    report, fixed = (tune(dataset, recipe, candidates=ONE) for recipe in (auto, tiny_recipe()))
    assert report.recipe == fixed.recipe
    write_recipe(tmp_path / "tuned.yaml", report, base="base.yaml", data="data", rule=None)
    assert load_recipe(tmp_path / "tuned.yaml").image.size == (32, 32)
