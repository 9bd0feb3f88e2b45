"""Builds that run to their end: what the index holds, and what is refused before any work."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from indexer import open_extractor
from indexer.bank.build import BuildReport, build_index
from indexer.bank.parts import PartStore
from indexer.bank.sampling import patches_per_image, plain_geometry
from indexer.bank.versions import package_versions
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, recipe_from_dict
from retrieval import open_index, read_images, read_manifest, verify_folder
from retrieval.errors import (
    ConfigError,
    DatasetError,
    MaskError,
    MissingExtraError,
)
from retrieval.progress import ProgressEvent

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Content = Callable[[Path], dict[str, bytes]]

#: What a build tells of, in this order.
STAGES = ["fitting features", "memory bank", "index"]

pytestmark = pytest.mark.usefixtures("small_parts")


def stored_rows(index: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.load(index / "labels.npy"), np.load(index / "patches.npy")


def test_build_stores_what_the_recipe_says(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe()
    events: list[ProgressEvent] = []
    report = build_index(dataset, tmp_path / "x.index", recipe=recipe, progress=events.append)
    assert (report.path, report.images, report.skipped) == (tmp_path / "x.index", 6, ())
    assert report.rows == 6 * 8  # 48 patches over six images
    assert not (tmp_path / "x.index.partial").exists()
    printed = capsys.readouterr()
    assert printed.out == printed.err == "", "who asks for progress shows it"
    assert ProgressEvent("end", "memory bank", 6, 6) in events
    assert [event.stage for event in events if event.event == "start"] == STAGES

    with open_index(tmp_path / "x.index", verify=True) as index:
        assert len(index) == report.rows
        assert index.classes == dataset.classes
        assert index.manifest.counts["images"] == 6
        assert index.manifest.fingerprints["recipe"] == recipe.fingerprint()
        extractor = open_extractor(tmp_path / "x.index", index.manifest)
        labels, patches = stored_rows(tmp_path / "x.index")
        sample = dataset.samples[3]
        image, columns = dataset.read(sample)
        vectors = extractor.extract(extractor.prepare(image)[0][None])[0].numpy()
        mine = patches[:, 0] == 3
        places = patches[mine, 1] * extractor.grid[1] + patches[mine, 2]
        found = index.search(vectors[places], 1)
        assert found.ids[:, 0].tolist() == np.flatnonzero(mine).tolist(), "each patch finds itself"
        np.testing.assert_allclose(found.similarities[:, 0], 1, atol=2e-3)
        rows, cols = plain_geometry(image.shape[:2], recipe.image).patch_of_pixels((16, 16))
        seen = columns[np.ix_(rows == patches[mine, 1][0], cols == patches[mine, 2][0])]
        share = [(seen == c).sum() / max((seen >= 0).sum(), 1) for c in range(3)]
        np.testing.assert_allclose(labels[mine][0] / 255, share, atol=0.003)

    records = read_images(tmp_path / "x.index")
    assert [record.id for record in records] == [sample.id for sample in dataset.samples]
    assert sum(record.patches for record in records) == report.rows
    thumbs = sorted(path.name for path in (tmp_path / "x.index" / "thumbs").iterdir())
    assert thumbs == [f"{number:06d}.jpg" for number in range(6)]
    verify_folder(tmp_path / "x.index", index.manifest, all_checksums=True)


@pytest.mark.parametrize(
    "overrides",
    [
        ("features.kind=embeddings",),
        ("features.projection=none", "index.engine=exact"),
        ("features.pca=8", "features.whiten=half"),
        ("image.fit=pad", "objective.kind=kl"),
        ("features.kind=embeddings", "rerank.candidates=9"),
        ("features.pca=8", "rerank.candidates=9", "index.engine=faiss", "index.factory=IVF2,Flat"),
    ],
)
def test_every_kind_of_vector_can_be_stored(
    overrides: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    report = build_index(labelled_folder(3), tmp_path / "x.index", recipe=tiny_recipe(*overrides))
    with open_index(tmp_path / "x.index") as index:
        assert len(index) == report.rows > 0
        assert open_extractor(tmp_path / "x.index", index.manifest).similarity == index.similarity


def test_two_builds_are_equal(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, content: Content
) -> None:
    dataset = labelled_folder(5)
    for name in ("a", "b"):
        build_index(dataset, tmp_path / name, recipe=tiny_recipe("bank.epochs=2"))
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_epochs_add_augmented_views(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    report = build_index(labelled_folder(3), tmp_path / "x", recipe=tiny_recipe("bank.epochs=2"))
    records = read_images(tmp_path / "x")
    assert [(record.number, record.epoch) for record in records] == [(n, n // 3) for n in range(6)]
    assert report.images == 3
    assert {record.patches for record in records} == {8}  # 48 // (3 * 2)
    height, width = records[0].height, records[0].width
    assert all(record.box == (0, 0, height, width) for record in records[:3])
    assert any(record.box != (0, 0, height, width) for record in records[3:])
    with open_index(tmp_path / "x") as index:
        assert index.manifest.counts["images"] == 3


def test_low_data_protocol_takes_a_few_images(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    report = build_index(labelled_folder(6), tmp_path / "x", recipe=tiny_recipe("bank.max_images=2"))
    assert (report.images, len(read_images(tmp_path / "x"))) == (2, 2)
    assert report.rows <= 48


def test_hummingbird_counts_ignored_pixels_as_the_first_class(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(2)
    _, columns = dataset.read(dataset.samples[1])
    assert (columns[:, :30] < 0)[1:].all(), "the left of the second image is ignored"
    built = {}
    for protocol in ("standard", "hummingbird"):
        recipe = tiny_recipe(f"bank.protocol={protocol}", "bank.max_patches=null")
        build_index(dataset, tmp_path / protocol, recipe=recipe)
        labels, patches = stored_rows(tmp_path / protocol)
        second = patches[:, 0] == 1
        built[protocol] = {
            tuple(p): row.tolist() for p, row in zip(patches[second], labels[second], strict=True)
        }
    assert len(built["standard"]) < len(built["hummingbird"]) == 12
    added = built["hummingbird"].keys() - built["standard"].keys()
    assert {place[2] for place in added} == {0}
    assert all(built["hummingbird"][place] == [255, 0, 0] for place in added)


def test_an_image_gives_at_most_its_share(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe("bank.max_patches=31", "features.kind=embeddings")
    report = build_index(labelled_folder(6), tmp_path / "x", recipe=recipe)
    assert patches_per_image(recipe.bank, images=6, tokens=12) == 5
    assert report.rows == 30 <= 31
    assert isinstance(report, BuildReport)


def test_rows_do_not_depend_on_the_other_images(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Which patches an image gives is a matter of its id, the seed and the limit."""
    dataset = labelled_folder(4)
    order = ["photo2", "photo0", "photo3", "photo1"]
    (dataset.root / "train.txt").write_text("\n".join(order) + "\n")
    turned = load_dataset(dataset.root, split="train")
    recipe = tiny_recipe("features.kind=embeddings", "bank.max_patches=20")
    places = {}
    for name, data in (("plain", dataset), ("turned", turned)):
        build_index(data, tmp_path / name, recipe=recipe)
        _, patches = stored_rows(tmp_path / name)
        ids = [record.id for record in read_images(tmp_path / name)]
        places[name] = {(ids[number], row, col) for number, row, col in patches.tolist()}
    assert places["plain"] == places["turned"]


def test_empty_folder_is_taken(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert build_index(labelled_folder(2), tmp_path / "x", recipe=tiny_recipe()).rows > 0


def test_only_faiss_is_given_a_training_sample(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[int] = []
    whole = PartStore.training_sample

    def sample(self: PartStore, rows: int, limit: int, seed: int, *, width: int) -> np.ndarray[Any, Any]:
        sampled.append(rows)
        return whole(self, rows, limit, seed, width=width)

    monkeypatch.setattr(PartStore, "training_sample", sample)
    for engine in ("exact", "faiss"):
        recipe = tiny_recipe(f"index.engine={engine}")
        build_index(labelled_folder(2, name=engine), tmp_path / f"{engine}.index", recipe=recipe)
    assert len(sampled) == 1


def test_a_missing_engine_is_noticed_before_any_work(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise MissingExtraError("FAISS is not installed")

    monkeypatch.setattr("retrieval.engines.faiss.load_faiss", missing)
    with pytest.raises(MissingExtraError, match="FAISS"):
        build_index(labelled_folder(2), tmp_path / "x.index", recipe=tiny_recipe("index.engine=faiss"))
    assert not (tmp_path / "x.index.partial").exists()


def test_a_missing_file_is_noticed_before_any_work(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(6)
    (dataset.root / "masks" / "photo5.png").unlink()
    with pytest.raises(MaskError, match=r"photo5\.png does not exist"):
        build_index(dataset, tmp_path / "x.index", recipe=tiny_recipe())
    assert not (tmp_path / "x.index.partial").exists()
    report = build_index(dataset, tmp_path / "x.index", recipe=tiny_recipe(), skip_bad=True)
    assert [bad.id for bad in report.skipped] == ["photo5"]


def test_no_labelled_pixel(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    dataset = labelled_folder(2)
    for sample in dataset.samples:
        mask = dataset.root / "masks" / f"{sample.id}.png"
        Image.fromarray(np.full_like(np.asarray(Image.open(mask)), 255)).save(mask)
    with pytest.raises(DatasetError, match=f"{dataset.root.name}: no labelled patch"):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("features.projection=none", "index.engine=faiss"),
            r"features\.projection=none.*set index\.engine=exact",
        ),
        (
            ("features.projection=none", "index.engine=exact", "features.pca=4"),
            r"features\.pca needs a projected",
        ),
        (
            ("features.projection=none", "index.engine=exact", "features.metric=class"),
            r"features\.metric needs a projected gradient.*leave it at none",
        ),
        (("features.width=4",), r"features\.width=4 is the width of a metric.*features\.pca=4"),
        (("features.metric=class", "features.pca=4"), r"features\.metric=class stands in the place of"),
        (("features.metric=whiten", "features.whiten=half"), r"features\.metric=whiten stands in the"),
        (
            ("features.projection=none", "index.engine=exact", "rerank.candidates=9"),
            r"features\.projection=none orders all",
        ),
        (
            ("rerank.candidates=9", "index.engine=qdrant"),
            r"rerank\.candidates.*index\.engine to faiss",
        ),
        (("image.size=[50,64]",), r"nearest is image\.size=\[48,64\]"),
        (("backbone.model=vit_none",), "is no timm model"),
    ],
)
def test_impossible_recipes_leave_nothing_behind(
    overrides: tuple[str, ...], message: str, labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(2)
    with pytest.raises(ConfigError, match=message):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe(*overrides))
    assert not list(tmp_path.glob("x*"))


def test_where_a_build_ran_is_not_told_but_its_arithmetic_is(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    build_index(labelled_folder(2), tmp_path / "x", recipe=tiny_recipe())
    recipe = read_manifest(tmp_path / "x").recipe
    assert recipe["runtime"] == {"precision": "float32"}
    assert recipe_from_dict(recipe).fingerprint() == tiny_recipe().fingerprint()


def test_versions_name_every_faiss_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    assert {"mycelia", "torch", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"} <= package_versions().keys()

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    assert package_versions() == {}
