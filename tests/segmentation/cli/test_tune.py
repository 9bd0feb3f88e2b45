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
    result = tune(*SMALL, "--widths", 4, "--group", "8", "--json", folder / "out" / "tuned.json", "seed=3")
    assert result.exit_code == 0, result.output
    assert "Expected mIoU on images of groups that the memory lacks" in result.stdout
    assert "left-out groups" in result.stdout
    recipe = load_recipe(folder / "tuned.yaml")
    assert recipe.backbone.block in (4, 5) and recipe.transfer.k in (3, 10)
    assert recipe.seed == 3
    data = json.loads((folder / "out" / "tuned.json").read_text())
    tried = [row for row in data["settings"] if row["round"] == "blocks"]
    assert len(tried) == 2 * 2 * 2 and data["groups"] == 2  # two blocks, plain and the middle metric, two k
    assert {row["setting"]["weight"] for row in tried} == {0.0}
    assert min(data["processor_seconds"], data["seconds"]) > 0
    assert list(data["choices"]) == ["fast", "balanced", "best"] and data["written"] == "balanced"
    assert {"features", "search", "labels", "total"} < set(data["choices"]["fast"]["milliseconds"])
    last = result.stdout.split("gains over plain")[-1]
    assert all(name in last for name in ("fast: ", "balanced (written): ", "best: ", " ms", " bytes"))
    text = (folder / "tuned.yaml").read_text()
    assert str(folder) not in text
    assert "--group 8" in text and "tiny.yaml" in text
    built = run(
        "index", "build", folder / "data", "--config", folder / "tuned.yaml", "--out", folder / "i",
        "runtime.device=cpu",
    )  # fmt: skip
    assert built.exit_code == 0, built.output


def test_another_choice_is_written_and_the_others_are_told(tune: Callable[..., Result], folder: Path) -> None:
    result = tune(
        *SMALL[2:], "--blocks", "4", "--group", "8", "--write", "best", "--metrics", "none,class",
        "--widths", "8", "--shrinkage", "0.2", "--shifts", "2", "--refine", "guided",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "best (written)" in result.stdout
    text = (folder / "tuned.yaml").read_text()
    told = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert "this is the best one: mIoU" in told
    recipe = load_recipe(folder / "tuned.yaml")
    assert recipe.transfer.refine == "guided" or recipe.image.shifts == 1
    for line in (part for part in told.split("The ")[1:] if " one, mIoU" in part):
        changes = [word for word in line.split(": ", 1)[1].split() if "=" in word]
        assert load_recipe(folder / "tuned.yaml", changes) != recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--write", "cheap"], "--write 'cheap' should be one of fast, balanced, best"),
        (["--metrics", "none,colour"], "--metrics 'colour' is not known; take of none, whiten, class"),
        (["--refine", "crf"], "--refine 'crf' is not known"),
        (["--shifts", "1,3"], "--shifts should be of 1, 2 and 4"),
        (["--shrinkage", "1.5"], "--shrinkage has to be from 0 to 1"),
        (["--widths", "0"], "--widths 0 is too small"),
    ],
)
def test_new_values_are_checked(
    arguments: list[str], message: str, tune: Callable[..., Result], folder: Path
) -> None:
    assert message in error_of(tune(*arguments))


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
        (["features.projection=none", "index.engine=faiss"], "set index.engine=exact"),
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


@pytest.fixture
def colors(folder: Path) -> Path:
    """Six photos of each of two classes, in a folder each."""
    generator = np.random.default_rng(0)
    for name, color in {"blue": (60, 80, 170), "red": (170, 80, 60)}.items():
        (folder / "colors" / name).mkdir(parents=True)
        for number in range(6):
            photo = np.array(color) + generator.normal(0, 45, 3) + generator.normal(0, 20, (40, 50, 3))
            Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(
                folder / "colors" / name / f"{name}{number}.png"
            )
    return folder / "colors"


FEW = ("--objectives", "kl", "--weights", "1", "--k", "1,3", "--temperatures", "0.05")


def test_whole_images_from_data_to_an_index(colors: Path, folder: Path) -> None:
    out, results = folder / "whole.yaml", folder / "out" / "whole.json"
    fixed = ("tune", colors, "--config", folder / "tiny.yaml", "--out", out)
    result = run(*fixed, *FEW, "--blocks", "4,5", "--json", results, "seed=3")
    assert result.exit_code == 0, result.output
    assert "top-1 of left-out images, percent" in result.stdout and "ms an image" in result.stdout
    assert "Expected top-1 on new images" in result.stdout and "With plain embeddings" in result.stdout
    assert "chosen" in result.stdout and "infonce" not in result.output
    recipe = load_recipe(out)
    assert recipe.features.level == "image" and recipe.transfer.k in (1, 3) and recipe.seed == 3
    assert recipe.backbone.block in (4, 5)
    data = json.loads(results.read_text())
    assert len(data["settings"]) == 2 * 2 * 2 and data["measure"] == "top-1"
    assert str(folder) not in out.read_text() and "tiny.yaml" in out.read_text()
    built = run("index", "build", colors, "--config", out, "--out", folder / "i", "runtime.device=cpu")
    assert built.exit_code == 0, built.output
    assert "exists already" in error_of(run(*fixed, *FEW))


def test_groups_and_a_number_of_whole_images(colors: Path, folder: Path) -> None:
    fixed = ("tune", colors, "--config", folder / "tiny.yaml", "--out", folder / "whole.yaml", *FEW)
    result = run(*fixed, "--group", "([0-9])", "--images", 8)
    assert result.exit_code == 0, result.output
    assert "top-1 of left-out groups" in result.stdout and "groups that the memory lacks" in result.stdout
    assert "8 of 12 images, each with its group (--group ([0-9]))" in " ".join(
        (folder / "whole.yaml").read_text().replace("#", "").split()
    )


def test_the_cost_of_infonce_is_said(colors: Path, folder: Path) -> None:
    settings = ("objective.infonce.negatives=2", "objective.dino.local_crops=1")
    result = run(
        "tune", colors, "--config", folder / "tiny.yaml", "--out", folder / "whole.yaml", "--k", "1",
        "--temperatures", "0.05", "--weights", "1", "--images", "6", *settings,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "--objectives kl,kl+dino leaves it out" in result.stderr
    assert "infonce" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objectives", "simclr"], "there is no objective 'simclr'"),
        (["--pca", "wide"], "--pca 'wide' should be whole numbers"),
        (["--pca", "11"], "a PCA of width 11 needs more images"),
        (["--blocks", "17"], "--blocks 17 does not exist"),
        (["--weights", "-1"], "--weights -1.0 is too small"),
        (["features.level=patch"], "features.level=patch needs masks"),
        (["rerank.candidates=60", "features.level=image"], "orders patches"),
    ],
)
def test_what_cannot_be_tuned_of_whole_images_is_refused(
    arguments: list[str], message: str, colors: Path, folder: Path
) -> None:
    out = folder / "whole.yaml"
    result = run("tune", colors, "--config", folder / "tiny.yaml", "--out", out, *arguments)
    assert message in error_of(result)
    assert not out.exists()


@pytest.mark.parametrize(("option", "value"), [("--objectives", "kl"), ("--pca", "0")])
def test_patches_have_no_objectives_to_try(
    option: str, value: str, tune: Callable[..., Result], folder: Path
) -> None:
    result = tune(*SMALL, option, value)
    assert result.exit_code == 2, result.output
    told = " ".join(result.stderr.replace("│", " ").split())
    assert option in told and "features.level=image" in told
    assert not (folder / "tuned.yaml").exists()
