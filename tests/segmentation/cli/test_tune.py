"""``mycelia tune``: a run from data to an index, and what is refused before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from indexer.recipe import load_recipe
from segmentation.cli import app

TINY = """
backbone: {model: test_vit, weights: random}
image: {size: [32, 32]}
bank: {max_patches: null}
objective: {support_size: 16}
runtime: {device: cpu}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight photos of two patients, left half dark and class 0; a recipe."""
    data, generator = tmp_path / "data", np.random.default_rng(0)
    (data / "images").mkdir(parents=True)
    (data / "masks").mkdir()
    for number in range(8):
        mask = np.zeros((30, 40), dtype=np.uint8)
        mask[:, 20:] = 1
        photo = generator.integers(0, 80, (30, 40, 3)) + 150 * mask[..., None]
        name = f"patient{number // 4}-{number}.png"
        Image.fromarray(photo.astype(np.uint8)).save(data / "images" / name)
        Image.fromarray(mask).save(data / "masks" / name)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture
def tune(folder: Path) -> Callable[..., Result]:
    """``tune("--k", 3)``: the command on that folder, into ``tuned.yaml``."""
    fixed = ("tune", folder / "data", "--config", folder / "tiny.yaml", "--out", folder / "tuned.yaml")
    return lambda *arguments: run(*fixed, *arguments)


SMALL = ("--blocks", "4,5", "--weights", "0,1", "--k", "3,10", "--temperatures", "0.02", "--images", "4")


def test_from_data_to_an_index(tune: Callable[..., Result], folder: Path) -> None:
    result = tune(*SMALL, "--group", "8", "--json", folder / "out" / "tuned.json", "seed=3")
    assert result.exit_code == 0, result.output
    assert "Expected mIoU on images of groups that the memory lacks" in result.stdout
    assert "left-out groups" in result.stdout
    recipe = load_recipe(folder / "tuned.yaml")
    assert recipe.backbone.block in (4, 5) and recipe.transfer.k in (3, 10)
    assert recipe.seed == 3
    data = json.loads((folder / "out" / "tuned.json").read_text())
    assert len(data["settings"]) == 8 and data["groups"] == 2
    text = (folder / "tuned.yaml").read_text()
    assert str(folder) not in text
    assert "--group 8" in text and "tiny.yaml" in text
    built = run(
        "index", "build", folder / "data", "--config", folder / "tuned.yaml", "--out", folder / "i",
        "runtime.device=cpu",
    )  # fmt: skip
    assert built.exit_code == 0, built.output


def test_without_groups_the_limit_is_named(tune: Callable[..., Result], folder: Path) -> None:
    result = tune(*SMALL)
    assert result.exit_code == 0, result.output
    assert "--group says how much" in result.stdout
    assert "left-out images" in result.stdout


def test_a_recipe_in_the_way_is_kept_unless_told(tune: Callable[..., Result], folder: Path) -> None:
    (folder / "tuned.yaml").write_text("mine")
    assert "tuned.yaml exists already" in error_of(tune(*SMALL))
    assert (folder / "tuned.yaml").read_text() == "mine"
    assert tune(*SMALL, "--overwrite").exit_code == 0
    assert load_recipe(folder / "tuned.yaml").backbone.model == "test_vit"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "nurse"], "--group 'nurse' finds no group in the image id"),
        (["--group", "["], "is no regular expression"),
        (["--group", "3"], "there is only one: 'pat'"),
        (["--blocks", "4,17"], "--blocks 17 does not exist: test_vit has blocks 0 to 5"),
        (["--blocks", "four"], "--blocks 'four' should be whole numbers with commas between"),
        (["--weights", "0;1"], "--weights '0;1' should be numbers with commas between"),
        (["--k", "0"], "--k 0 is too small"),
        (["--split", "val"], "val"),
        (["runtime.device=gpu7"], "runtime.device 'gpu7' should be auto, cpu"),
        (["nonsense=1"], "unknown key nonsense"),
        (["features.projection=none"], "set index.engine=exact"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    arguments: list[str], message: str, tune: Callable[..., Result], folder: Path
) -> None:
    assert message in error_of(tune(*arguments))
    assert not (folder / "tuned.yaml").exists()


def test_folders_and_number_of_images(tune: Callable[..., Result], folder: Path) -> None:
    (folder / "data" / "images").rename(folder / "data" / "one")
    (folder / "data" / "masks").rename(folder / "data" / "two")
    assert "--images one --masks two" in error_of(tune(*SMALL))
    result = tune(*SMALL, "--images", "one", "--masks", "two")
    assert result.exit_code == 0, result.output
    assert "--images one --masks two --config" in result.stderr
    assert "should be a number of images from 2 on" in error_of(tune("--images", 1, "--overwrite"))
    assert "takes one number and one folder" in error_of(tune(*SMALL, "--images", 7, "--overwrite"))


def test_one_image_is_not_enough(tune: Callable[..., Result], folder: Path) -> None:
    (folder / "one.txt").write_text("patient0-0\n")
    assert "there is only one: 'patient0-0'" in error_of(tune("--subset", folder / "one.txt"))


def test_out_has_to_be_a_file(folder: Path) -> None:
    result = run("tune", folder / "data", "--config", folder / "tiny.yaml", "--out", folder)
    assert "is a folder, but --out names a YAML file" in error_of(result)
