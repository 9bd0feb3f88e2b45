"""Builds of whole images: stopped and resumed, relabelled, with another engine, and what is refused."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.bank.build import build_index
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe
from retrieval import IndexFolder, open_index, read_images, read_manifest
from retrieval.errors import ConfigError, DatasetError

MakeRecipe = Callable[..., Recipe]
StopAfter = Callable[[int], AbstractContextManager[None]]
CountParts = Callable[[], list[int]]
Content = Callable[[Path], dict[str, bytes]]
Table = Callable[..., Dataset]

pytestmark = pytest.mark.usefixtures("small_parts")

#: Nothing is fitted on the images.
PLAIN = ("objective.kind=kl",)
#: Negatives and PCA are fitted on all of them.
FITTED = (
    "objective.kind=[kl,dino,infonce]",
    "objective.dino.local_crops=1",
    "objective.infonce.stride_scale=1",
    "objective.infonce.negatives=3",
    "features.pca=4",
)
LABELS = ("red", "green", "red;blue", "green", "blue", "red")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """``table(labels)``: photos of noise with these labels in a table; written again, the photos stay."""

    def make(labels: tuple[str, ...] = LABELS) -> Dataset:
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for number in range(len(labels)):
            if not (path := root / f"{number}.png").exists():
                pixels = np.random.default_rng(number).integers(0, 256, (40, 50 + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
        with (root / "labels.csv").open("w", newline="") as file:
            rows = [(f"{number}.png", label) for number, label in enumerate(labels)]
            csv.writer(file).writerows([("path", "label"), *rows])
        return load_dataset(root)

    return make


def turn(path: Path) -> None:
    """Replace an image by itself upside down: as large, but another."""
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)


def labels_of(index: Path) -> dict[str, list[str]]:
    """The class names of each memory image by its id."""
    records = {record.number: record.id for record in read_images(index)}
    with open_index(index) as opened:
        names = opened.classes.names
        (rows,) = opened.stream(batch=100)
        return {
            records[int(number)]: [names[column] for column in np.flatnonzero(label)]
            for number, label in zip(rows.patches[:, 0], rows.labels, strict=True)
        }


@pytest.mark.parametrize("settings", [PLAIN, FITTED])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_build_that_was_stopped_equals_one_in_one_go(
    settings: tuple[str, ...],
    parts: int,
    table: Table,
    tiny_recipe: MakeRecipe,
    stop_after: StopAfter,
    count_parts: CountParts,
    content: Content,
    tmp_path: Path,
) -> None:
    dataset, recipe = table(), tiny_recipe(*settings)
    with stop_after(parts):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    computed = count_parts()
    report = build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == [0, 1, 2][parts:]
    assert (report.rows, report.images, report.whole) == (6, 6, True)
    build_index(dataset, tmp_path / "fresh", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


@pytest.mark.parametrize("settings", [PLAIN, FITTED])
def test_a_label_that_changed_in_the_table_is_noticed(
    settings: tuple[str, ...],
    table: Table,
    tiny_recipe: MakeRecipe,
    stop_after: StopAfter,
    count_parts: CountParts,
    content: Content,
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe(*settings)
    with stop_after(2):
        build_index(table(), tmp_path / "x", recipe=recipe)
    changed = table((LABELS[0], "blue;red", *LABELS[2:]))
    computed = count_parts()
    build_index(changed, tmp_path / "x", recipe=recipe)
    assert computed == [0, 2]
    assert labels_of(tmp_path / "x")["1"] == ["blue", "red"]
    build_index(changed, tmp_path / "fresh", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


@pytest.mark.parametrize(("settings", "again"), [(PLAIN, [0, 2]), (FITTED, [0, 1, 2])])
def test_an_image_that_was_replaced_is_noticed(
    settings: tuple[str, ...],
    again: list[int],
    table: Table,
    tiny_recipe: MakeRecipe,
    stop_after: StopAfter,
    count_parts: CountParts,
    content: Content,
    tmp_path: Path,
) -> None:
    dataset, recipe = table(), tiny_recipe(*settings)
    with stop_after(2):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    turn(dataset.root / "1.png")
    computed = count_parts()
    build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == again
    build_index(dataset, tmp_path / "fresh", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


def test_faiss_finds_what_the_exact_engine_finds(
    table: Table, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    dataset = table()
    for engine, settings in (("exact", ()), ("faiss", ("index.faiss.factory=Flat",))):
        recipe = tiny_recipe(*PLAIN, f"index.engine={engine}", *settings)
        build_index(dataset, tmp_path / engine, recipe=recipe)
    with open_index(tmp_path / "exact") as exact, open_index(tmp_path / "faiss") as faiss:
        (rows,) = exact.stream(batch=100)
        ours, theirs = exact.search(rows.vectors, 6), faiss.search(rows.vectors, 6)
        np.testing.assert_array_equal(exact.patches(ours.ids.ravel()), faiss.patches(theirs.ids.ravel()))
        np.testing.assert_allclose(ours.similarities, theirs.similarities, atol=2e-3)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert read_manifest(tmp_path / "faiss").engine["kind"] == "faiss"


def test_what_patches_alone_need_is_said_and_ignored(
    table: Table, tiny_recipe: MakeRecipe, tmp_path: Path, content: Content, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mycelia")
    settings = ("image.fit=pad", "bank.max_patches=1", "bank.augmentation=hummingbird")
    said: dict[str, list[str]] = {}
    for name, more in (("plain", ("bank.max_patches=102400",)), ("odd", settings)):
        caplog.clear()
        build_index(table(), tmp_path / name, recipe=tiny_recipe(*PLAIN, *more))
        messages = [record.getMessage() for record in caplog.records]
        said[name] = [message for message in messages if "ignored" in message]
    ignored = "image.fit, bank.max_patches, bank.augmentation"
    assert said == {"plain": [], "odd": [f"{ignored}: of patches alone, and ignored for whole images"]}
    assert content(tmp_path / "plain") == content(tmp_path / "odd")
    fingerprints = [IndexFolder.open(tmp_path / name).manifest.fingerprints for name in ("plain", "odd")]
    assert fingerprints[0] == fingerprints[1]


def test_one_class_alone_is_refused(table: Table, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"^'red' is the only class of .*photos, and a memory"):
        build_index(table(("red", "red")), tmp_path / "x", recipe=tiny_recipe(*PLAIN))
    assert not list(tmp_path.glob("x*"))


def test_no_image_that_can_be_read_is_refused(table: Table, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    dataset = table(("red", "blue"))
    for number in range(2):
        (dataset.root / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"photos: no image with a class can be read: .*0\.png"):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe(*PLAIN), skip_bad=True)


def test_windows_are_checked_once_the_size_is_known(
    table: Table, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("image.size=auto", "objective.infonce.patches=40000")
    with pytest.raises(ConfigError, match=r"224 x 224 pixels into windows of 1 x 1, .*at most 12544"):
        build_index(table(), tmp_path / "x", recipe=recipe)
