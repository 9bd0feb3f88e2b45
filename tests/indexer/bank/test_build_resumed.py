"""A build that goes on after its images or labels were replaced, and folders that are no unfinished build."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from indexer.bank.build import build_index
from indexer.datasets import Dataset
from indexer.recipe import Recipe
from retrieval import read_images
from retrieval.errors import IndexMismatchError
from retrieval.store.files import sha256_file

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Content = Callable[[Path], dict[str, bytes]]
AsFresh = Callable[..., bool]
CountParts = Callable[[], list[int]]
StopAfter = Callable[[int], AbstractContextManager[None]]

pytestmark = pytest.mark.usefixtures("small_parts")

#: Nothing is fitted on the images.
PLAIN = "features.kind=embeddings"
#: Support bank and PCA are fitted on all of them.
FITTED = "features.pca=10"


@pytest.fixture
def stopped(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, stop_after: StopAfter, tmp_path: Path
) -> Callable[..., tuple[Dataset, Recipe]]:
    """``stopped(*overrides)``: six images, and a build of them in ``x`` that was stopped after two parts."""

    def make(*overrides: str, skip_bad: bool = False, spoil: str | None = None) -> tuple[Dataset, Recipe]:
        dataset, recipe = labelled_folder(6), tiny_recipe(*overrides)
        if spoil is not None:
            (dataset.root / spoil).write_bytes(b"no image")
        with stop_after(2):
            build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=skip_bad)
        return dataset, recipe

    return make


@pytest.fixture
def as_fresh(tmp_path: Path, content: Content) -> Callable[..., bool]:
    """``as_fresh(dataset, recipe)``: whether the index in ``x`` has the bytes of a build in one go."""

    def compare(dataset: Dataset, recipe: Recipe, *, skip_bad: bool = False) -> bool:
        build_index(dataset, tmp_path / "fresh", recipe=recipe, skip_bad=skip_bad)
        return content(tmp_path / "x") == content(tmp_path / "fresh")

    return compare


def turn(path: Path) -> None:
    """Replace an image by itself upside down: as large, but another."""
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)


@pytest.mark.parametrize(
    ("recipe_of", "kind", "again"),
    [
        (PLAIN, "masks", [0, 2]),
        (PLAIN, "images", [0, 2]),
        (FITTED, "masks", [0, 2]),
        (FITTED, "images", [0, 1, 2]),  # support bank and PCA change with it, and with them every row
    ],
)
def test_what_was_replaced_is_read_again(
    recipe_of: str,
    kind: str,
    again: list[int],
    stopped: Callable[..., tuple[Dataset, Recipe]],
    count_parts: CountParts,
    tmp_path: Path,
    as_fresh: AsFresh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset, recipe = stopped(recipe_of)
    turn(dataset.root / kind / "photo1.png")
    computed = count_parts()
    with caplog.at_level(logging.INFO, logger="mycelia"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == again
    assert "computed again" in caplog.text and "photo1.png" in caplog.text
    assert as_fresh(dataset, recipe)
    records = read_images(tmp_path / "x")
    assert [record.sha256 for record in records] == [sha256_file(Path(record.path)) for record in records]


def test_what_was_only_touched_is_not_computed_again(
    stopped: Callable[..., tuple[Dataset, Recipe]],
    count_parts: CountParts,
    tmp_path: Path,
    as_fresh: AsFresh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset, recipe = stopped(FITTED)
    for path in dataset.root.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    computed = count_parts()
    with caplog.at_level(logging.INFO, logger="mycelia"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == [2] and not caplog.records
    assert as_fresh(dataset, recipe)


def test_only_what_may_have_changed_is_read(
    stopped: Callable[..., tuple[Dataset, Recipe]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, recipe = stopped(FITTED)
    os.utime(dataset.root / "masks" / "photo0.png", ns=(1, 1))
    read: list[str] = []

    def reading(path: Path) -> str:
        read.append(str(path.relative_to(dataset.root)))
        return sha256_file(path)

    monkeypatch.setattr("indexer.datasets.keys.sha256_file", reading)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    last = [f"{kind}/photo{number}.png" for number in (4, 5) for kind in ("images", "masks")]
    assert read == ["masks/photo0.png", *last]


def test_an_older_workspace_is_computed_anew(
    stopped: Callable[..., tuple[Dataset, Recipe]], count_parts: CountParts, tmp_path: Path, as_fresh: AsFresh
) -> None:
    dataset, recipe = stopped(FITTED)
    partial = tmp_path / "x.partial"
    (partial / "fitted.json").unlink()
    for path in partial.glob("part-*"):
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in ("vectors", "labels", "patches")}
            metadata = json.loads(file.metadata()["images"])
        kept = {name: metadata[name] for name in ("records", "skipped")}
        arrays["vectors"] += np.float16(0.5)  # nobody knows of what
        save_file(arrays, path, metadata={"images": json.dumps(kept)})
    computed = count_parts()
    build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == [0, 1, 2]
    assert as_fresh(dataset, recipe)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_what_was_skipped_and_is_good_now_comes_in(
    kind: str,
    stopped: Callable[..., tuple[Dataset, Recipe]],
    labelled_folder: Folder,
    tmp_path: Path,
    as_fresh: AsFresh,
) -> None:
    bad = f"{kind}/photo1.png"
    dataset, recipe = stopped(FITTED, skip_bad=True, spoil=bad)
    shutil.copy(labelled_folder(6, name="good").root / bad, dataset.root / bad)
    assert build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=True).images == 6
    assert as_fresh(dataset, recipe)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_what_was_good_and_is_bad_now_leaves_nothing(
    kind: str, stopped: Callable[..., tuple[Dataset, Recipe]], tmp_path: Path, as_fresh: AsFresh
) -> None:
    dataset, recipe = stopped(PLAIN)
    (dataset.root / kind / "photo1.png").unlink()
    report = build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=True)
    assert [bad.id for bad in report.skipped] == ["photo1"]
    assert as_fresh(dataset, recipe, skip_bad=True)


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    "name", ["features.safetensors", "manifest.json", "thumbs/000000.jpg", "letters/a.txt"]
)
def test_a_folder_of_something_else_is_refused_and_kept(
    name: str, labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, recipe = labelled_folder(3), tiny_recipe()
    build_index(dataset, tmp_path / "other", recipe=tiny_recipe("seed=5"))
    partial = tmp_path / "x.partial"
    (partial / name).parent.mkdir(parents=True)
    (partial / name).write_bytes((tmp_path / "other" / "features.safetensors").read_bytes())
    before = everything_in(partial)
    first = name.split("/")[0]
    with pytest.raises(
        IndexMismatchError, match=rf"not of an unfinished build .*\({first}.*choose another --out"
    ):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert everything_in(partial) == before
    assert not (tmp_path / "x").exists()


def test_a_build_that_was_stopped_before_its_plan_goes_on(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    partial = tmp_path / "x.partial"
    (partial / "thumbs").mkdir(parents=True)
    (partial / "lock").touch()
    (partial / "plan.json.part").write_bytes(b"{")
    assert build_index(labelled_folder(2), tmp_path / "x", recipe=tiny_recipe()).rows > 0
    assert not partial.exists()


def test_features_of_nobody_knows_what_are_not_taken(
    stopped: Callable[..., tuple[Dataset, Recipe]],
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    as_fresh: AsFresh,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset, recipe = stopped(FITTED)
    build_index(dataset, tmp_path / "other", recipe=tiny_recipe(FITTED, "seed=5"))
    shutil.copy(tmp_path / "other" / "features.safetensors", tmp_path / "x.partial" / "features.safetensors")
    with caplog.at_level(logging.INFO, logger="mycelia"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert "fitted again" in caplog.text
    assert as_fresh(dataset, recipe)
