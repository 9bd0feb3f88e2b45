"""``image.size: auto``: decided by the images before anything else, and stated by the index."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.bank import image_size
from indexer.bank.build import build_index
from indexer.bank.image_size import resolve_size
from indexer.datasets import Dataset, load_dataset
from indexer.features.fungi import FungiExtractor
from indexer.recipe import Recipe, load_recipe
from retrieval import IndexFolder
from retrieval.errors import ConfigError

AUTO = ("image.size=auto", "image.auto_size=[48,64]")


@pytest.fixture
def strips(tmp_path: Path) -> Callable[..., Dataset]:
    """``strips((32, 400), (60, 80))``: a data set of images of these shapes, two classes."""

    def make(*shapes: tuple[int, int]) -> Dataset:
        root = tmp_path / "strips"
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True)
        for number, shape in enumerate(shapes):
            rng = np.random.default_rng(number)
            mask = np.zeros(shape, np.uint8)
            mask[:, : shape[1] // 3] = 1
            photo = mask[:, :, None] * 120 + rng.integers(0, 90, (*shape, 3))
            Image.fromarray(photo.astype(np.uint8)).save(root / "images" / f"{number}.png")
            Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        return load_dataset(root)

    return make


def built(dataset: Dataset, out: Path, recipe: Recipe) -> dict[str, object]:
    build_index(dataset, out, recipe=recipe)
    image: dict[str, object] = IndexFolder.open(out).recipe["image"]
    return image


def test_ordinary_images_are_built_as_with_the_fixed_size(
    tmp_path: Path,
    strips: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    content: Callable[[Path], dict[str, bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mycelia")
    dataset = strips((60, 80), (75, 100))
    image = built(dataset, tmp_path / "auto", tiny_recipe(*AUTO, "image.shifts=2"))
    assert "image.size: auto takes [48,64]: the images' median shape is" in caplog.text
    fixed = built(dataset, tmp_path / "fixed", tiny_recipe())
    assert fixed == {
        "size": [48, 64],
        "fit": "stretch",
        "scale": None,
        "overlap": 0.25,
        "shifts": 1,
        "flip": False,
    }
    assert image == {**fixed, "shifts": 2}
    assert content(tmp_path / "auto") == content(tmp_path / "fixed")
    manifests = [IndexFolder.open(tmp_path / name).manifest for name in ("auto", "fixed")]
    assert manifests[0].fingerprints == manifests[1].fingerprints


def test_long_images_get_a_size_of_their_own(
    tmp_path: Path,
    strips: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mycelia")
    image = built(strips((32, 400), (32, 400)), tmp_path / "auto", tiny_recipe(*AUTO))
    assert image["size"] == [32, 400]
    assert "image.size: auto takes [32,400]: the images' median shape is 32 x 400" in caplog.text
    assert "what is thin" not in caplog.text


def test_a_stopped_build_goes_on(
    tmp_path: Path,
    strips: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    small_parts: None,
    stop_after: Callable[[int], object],
    count_parts: Callable[[], list[int]],
) -> None:
    dataset, recipe = strips(*[(32, 400)] * 4), tiny_recipe(*AUTO)
    with stop_after(1):  # type: ignore[attr-defined]
        build_index(dataset, tmp_path / "out", recipe=recipe)
    computed = count_parts()
    build_index(dataset, tmp_path / "out", recipe=recipe)
    assert computed == [1]


def test_a_fixed_size_that_squashes_is_named(
    strips: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = strips((32, 400), (32, 400), (60, 80))
    recipe = tiny_recipe()
    assert resolve_size(recipe, dataset.samples) is recipe
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("2 of 3 images looked at are much longer or wider than image.size [48,64]")
    assert text.endswith("try image.size=[32,400] or image.size=auto")


def test_a_few_long_images_keep_the_usual_size_and_are_named(
    strips: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    recipe = resolve_size(tiny_recipe(*AUTO), strips((32, 400), (60, 80), (60, 80)).samples)
    assert recipe.image.size == (48, 64)
    assert "1 of 3 images" in caplog.text and "in an index of their own" in caplog.text


def test_bad_images_are_left_out(
    strips: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = strips((32, 400), (60, 80), (60, 80))
    dataset.samples[1].image.write_bytes(b"no image")
    dataset.samples[2].image.unlink()
    assert resolve_size(tiny_recipe(*AUTO), dataset.samples).image.size == (32, 400)
    monkeypatch.setattr(image_size, "LOOKED_AT", 1)
    assert len(image_size.shapes_of(dataset.samples)) == 1


def test_auto_is_decided_by_a_build_alone(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigError, match=r"image\.size is auto.*image\.size=\[48,64\]"):
        FungiExtractor.create(tiny_recipe(*AUTO))


@pytest.mark.parametrize("value", ["large", "[1,2,3]", "3", "[a,b]"])
def test_a_size_that_is_none(value: str) -> None:
    with pytest.raises(
        ConfigError, match=r"image\.size = .* does not fit: .*\[height, width\], two whole numbers, or auto"
    ):
        load_recipe(None, [f"image.size={value}"])


@pytest.mark.parametrize(("name", "usual"), [("offline.yaml", (364, 476)), ("default.yaml", (518, 518))])
def test_the_default_recipes_choose(name: str, usual: tuple[int, int]) -> None:
    image = load_recipe(name).image
    assert (image.size, image.auto_size) == ("auto", usual)
    assert load_recipe(name, ["image.size=[28,28]"]).image.fixed_size == (28, 28)


def test_camvid_keeps_its_size() -> None:
    assert load_recipe("camvid.yaml").image.fixed_size == (364, 476)
