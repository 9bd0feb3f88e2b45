"""Builds that are stopped, killed, continued, refused or short of disk: nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from indexer.bank import fitting
from indexer.bank.build import build_index
from indexer.datasets import Dataset
from indexer.datasets.labels import MaskFile
from indexer.features.weights import create_model
from indexer.recipe import Recipe
from retrieval import open_index, read_images
from retrieval.errors import (
    DatasetError,
    ImageError,
    IndexBusyError,
    IndexExistsError,
    IndexMismatchError,
    MaskError,
    StorageError,
)
from retrieval.store.staging import reserved

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Content = Callable[[Path], dict[str, bytes]]
CountParts = Callable[[], list[int]]
StopAfter = Callable[[int], AbstractContextManager[None]]

pytestmark = pytest.mark.usefixtures("small_parts")


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from indexer import build_index, load_dataset, load_recipe
from indexer.bank import parts

torch.set_num_threads(int(sys.argv[4]))
parts.PART_IMAGES = 2
write = parts.PartStore.write

def killing(self, number, part):
    write(self, number, part)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)

parts.PartStore.write = killing
build_index(load_dataset(sys.argv[1]), sys.argv[2], recipe=load_recipe(sys.argv[3]))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_build_is_finished_to_the_same_bytes(
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    count_parts: CountParts,
    content: Content,
) -> None:
    # said, since another process would choose by itself
    dataset, recipe = labelled_folder(6), tiny_recipe("features.pca=10", "runtime.precision=float32")
    build_index(dataset, tmp_path / "whole", recipe=recipe)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    places = [str(dataset.root), str(tmp_path / "killed"), str(tmp_path / "recipe.yaml")]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *places, str(torch.get_num_threads())],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "killed").exists(), "an index has its name only once it is whole"
    partial = tmp_path / "killed.partial"
    assert sorted(path.name for path in partial.glob("part-*")) == [
        f"part-00000{n}.safetensors" for n in (0, 1)
    ]
    (partial / "part-000002.safetensors.part").write_bytes(b"cut off in the middle of a write")

    computed = count_parts()
    build_index(dataset, tmp_path / "killed", recipe=recipe)
    assert computed == [2], "parts that were there are not computed again"
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not partial.exists()


@pytest.mark.parametrize("after", [1, 3])
def test_interrupted_build_is_finished_to_the_same_bytes(
    after: int,
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    stop_after: StopAfter,
    count_parts: CountParts,
    content: Content,
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe()
    build_index(dataset, tmp_path / "whole", recipe=recipe)
    with stop_after(after):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert not (tmp_path / "x").exists()
    computed = count_parts()
    build_index(dataset, tmp_path / "x", recipe=recipe)
    assert len(computed) == 3 - after
    assert content(tmp_path / "x") == content(tmp_path / "whole")


def test_interrupted_while_fitting(
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
) -> None:
    dataset, recipe = labelled_folder(3), tiny_recipe()
    build_index(dataset, tmp_path / "whole", recipe=recipe)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "read_sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_index(dataset, tmp_path / "x", recipe=recipe)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "whole")


def test_second_builder_is_refused(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    dataset = labelled_folder(2)
    with (
        reserved(tmp_path / "x"),  # as `index convert --out x` does too
        pytest.raises(IndexBusyError, match="another process is making"),
    ):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe())
    assert not (tmp_path / "x").exists()
    build_index(dataset, tmp_path / "x", recipe=tiny_recipe())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".x", "x"))) == ["x"]


def test_existing_folder_is_refused_and_kept(
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    content: Content,
) -> None:
    dataset, recipe = labelled_folder(2), tiny_recipe()
    build_index(dataset, tmp_path / "x", recipe=recipe)
    before = content(tmp_path / "x")
    with pytest.raises(IndexExistsError, match="holds an index already"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert content(tmp_path / "x") == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother.txt").write_text("dear mother")
    (tmp_path / "file").write_text("a file")
    for name in ("letters", "file"):
        with pytest.raises(IndexExistsError, match=f"{name} exists and is no index"):
            build_index(dataset, tmp_path / name, recipe=recipe)
    assert (tmp_path / "letters" / "to_mother.txt").read_text() == "dear mother"
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def unfinished(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, stop_after: StopAfter, tmp_path: Path
) -> Callable[..., tuple[Dataset, Recipe, Path]]:
    """A data set of six images, a recipe with weights in a file, and a build stopped after its first part."""

    def make() -> tuple[Dataset, Recipe, Path]:
        weights = tmp_path / "w.safetensors"
        save_file(create_model("test_vit", "random", seed=1).state_dict(), weights)
        dataset, recipe = labelled_folder(6), tiny_recipe(f"backbone.weights=file:{weights}")
        with stop_after(1):
            build_index(dataset, tmp_path / "x", recipe=recipe)
        return dataset, recipe, weights

    return make


def test_unfinished_build_of_something_else_is_refused_and_kept(
    unfinished: Callable[..., tuple[Dataset, Recipe, Path]], labelled_folder: Folder, tmp_path: Path
) -> None:
    dataset, recipe, weights = unfinished()
    out = tmp_path / "x"
    other_recipe = recipe.model_copy(update={"seed": 1})
    with pytest.raises(IndexMismatchError, match=r"x\.partial holds an unfinished build with another recipe"):
        build_index(dataset, out, recipe=other_recipe)
    with pytest.raises(IndexMismatchError, match="another data set"):
        build_index(labelled_folder(6, name="other"), out, recipe=recipe)
    first = weights.read_bytes()
    save_file(create_model("test_vit", "random", seed=2).state_dict(), weights)
    with pytest.raises(IndexMismatchError, match="another weights"):
        build_index(dataset, out, recipe=recipe)
    weights.write_bytes(first)
    assert build_index(dataset, out, recipe=recipe).rows == 48


def test_where_it_runs_may_change_between_runs(
    unfinished: Callable[..., tuple[Dataset, Recipe, Path]], tmp_path: Path
) -> None:
    dataset, recipe, _ = unfinished()
    changed = recipe.model_copy(update={"runtime": recipe.runtime.model_copy(update={"batch_size": 1})})
    assert build_index(dataset, tmp_path / "x", recipe=changed).rows == 48


def mask_of(dataset: Dataset, position: int) -> Path:
    labels = dataset.samples[position].labels
    assert isinstance(labels, MaskFile)
    return labels.path


def spoil(dataset: Dataset) -> tuple[bytes, bytes]:
    """Truncate the second image and turn the fourth mask; what they were."""
    image, mask = dataset.samples[1].image, mask_of(dataset, 3)
    before = image.read_bytes(), mask.read_bytes()
    image.write_bytes(before[0][: len(before[0]) // 2])
    Image.open(mask).rotate(90, expand=True).save(mask)
    return before


def test_bad_images_stop_the_build_until_they_are_repaired(
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    content: Content,
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe()
    build_index(dataset, tmp_path / "whole", recipe=recipe)
    image, mask = spoil(dataset)
    with pytest.raises(ImageError, match=r"photo1\.png"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    dataset.samples[1].image.write_bytes(image)
    with pytest.raises(MaskError, match=r"photo3\.png"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert not (tmp_path / "x").exists()
    mask_of(dataset, 3).write_bytes(mask)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "whole")


def test_bad_images_can_be_skipped_and_are_listed(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe("bank.epochs=2")
    spoil(dataset)
    report = build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=True)
    assert [bad.id for bad in report.skipped] == ["photo1", "photo3"]
    assert "photo1.png" in report.skipped[0].reason
    assert "swapped" in report.skipped[1].reason
    assert report.images == 4
    assert {record.id for record in read_images(tmp_path / "x")} == {"photo0", "photo2", "photo4", "photo5"}
    with open_index(tmp_path / "x") as index:
        assert index.manifest.counts["images"] == 4
        assert len(index) == report.rows


def test_skipped_images_come_back_once_nothing_may_be_skipped(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, stop_after: StopAfter
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe()
    _, mask = spoil(dataset)
    shutil.copy(dataset.samples[0].image, dataset.samples[1].image)  # only the mask stays bad
    with stop_after(2):
        build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=True)
    with pytest.raises(MaskError, match=r"photo3\.png"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    mask_of(dataset, 3).write_bytes(mask)
    assert build_index(dataset, tmp_path / "x", recipe=recipe).images == 6


def test_nothing_but_bad_images(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    dataset = labelled_folder(2)
    for sample in dataset.samples:
        sample.image.write_bytes(b"no image")
    for kind in ("fungi", "embeddings"):
        with pytest.raises(DatasetError, match=r"can be read|no labelled patch"):
            build_index(dataset, tmp_path / kind, recipe=tiny_recipe(f"features.kind={kind}"), skip_bad=True)


def full_disk_at(patch: pytest.MonkeyPatch, ending: str) -> None:
    """From now on the disk is full for every file whose name ends so."""
    replace, opened, write = os.replace, Path.open, Path.write_bytes

    def refuse(path: object) -> None:
        if str(path).endswith(ending):
            raise OSError(28, "No space left on device")

    def replacing(source: Any, target: Any, **options: Any) -> None:
        refuse(target)
        replace(source, target, **options)

    def opening(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb":
            refuse(self)
        return opened(self, mode, *arguments, **options)

    def writing(self: Path, data: bytes) -> int:
        refuse(self)
        return write(self, data)

    patch.setattr(os, "replace", replacing)
    patch.setattr(Path, "open", opening)
    patch.setattr(Path, "write_bytes", writing)


@pytest.mark.parametrize(
    "ending",
    [
        "plan.json",
        "x.partial/features.safetensors",
        "part-000001.safetensors",
        "thumbs/000002.jpg",
        "index/features.safetensors",
        "index/thumbs/000004.jpg",
        "index/manifest.json",
    ],
)
def test_full_disk_says_so_and_loses_nothing(
    ending: str,
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe("features.kind=embeddings")
    with monkeypatch.context() as patch:
        full_disk_at(patch, ending)
        with pytest.raises(StorageError, match="full"):
            build_index(dataset, tmp_path / "x", recipe=recipe)
    assert not (tmp_path / "x").exists()
    build_index(dataset, tmp_path / "x", recipe=recipe)
    build_index(dataset, tmp_path / "whole", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "whole")


def test_folder_that_cannot_be_written(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = labelled_folder(2)

    def forbidden(self: Path, *args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(StorageError, match="cannot be written"):
        build_index(dataset, tmp_path / "locked" / "x", recipe=tiny_recipe())
