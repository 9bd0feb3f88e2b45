"""Builds with a metric: fitted on the labelled rows of the memory, stored, fitted again, and refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from indexer import open_extractor
from indexer.bank import metric as metric_module
from indexer.bank.build import build_index
from indexer.bank.shares import Share
from indexer.datasets import Dataset, load_dataset
from indexer.features.whole.images import ImageExtractor
from indexer.recipe import Recipe
from retrieval import open_index, read_manifest
from retrieval.classes import ClassInfo, ClassMap
from retrieval.engines.qdrant import collection as collection_module
from retrieval.errors import ConfigError, DatasetError, IndexMismatchError, MaskError
from retrieval.progress import ProgressEvent

Folder = Callable[..., Dataset]
MakeRecipe = Callable[..., Recipe]
Floats = npt.NDArray[np.float64]

METRIC = ("features.metric=class", "features.width=6")
EMBEDDINGS = "features.kind=embeddings"
ALL = "bank.max_patches=null"

pytestmark = pytest.mark.usefixtures("small_parts")


def stored(index: Path) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """Vectors, shares of the classes, and places of all rows."""
    with open_index(index) as opened:
        blocks = list(opened.stream())
    vectors, labels, patches = (
        np.concatenate([getattr(b, n) for b in blocks]) for n in ("vectors", "labels", "patches")
    )
    return vectors.astype(float), labels / labels.sum(axis=1, keepdims=True, dtype=float), patches


def by_hand(vectors: Floats, shares: Floats, shrinkage: float, width: int) -> Floats:
    """The rows under the metric: its formula, on the rows that an index without one holds."""
    centred = vectors - vectors.mean(axis=0)
    residuals = centred - shares @ ((shares.T @ centred) / shares.sum(axis=0)[:, None])
    within = residuals.T @ residuals / len(residuals)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    values, axes = np.linalg.eigh(within)
    whitened = centred @ axes / np.sqrt(values)
    _, _, leading = np.linalg.svd(whitened, full_matrices=False)
    measured = whitened @ leading[:width].T
    return np.asarray(measured / np.linalg.norm(measured, axis=1, keepdims=True))


@pytest.mark.parametrize(
    "kind",
    [
        (EMBEDDINGS,),
        ("objective.kind=kl",),
        ("objective.kind=[infonce,kl]",),
        (EMBEDDINGS, "image.scale=1.5"),
        ("objective.kind=kl", "image.scale=0.4"),
    ],
)
def test_rows_are_those_of_the_formula(
    kind: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(12)
    build_index(dataset, tmp_path / "plain", recipe=tiny_recipe(ALL, *kind))
    build_index(dataset, tmp_path / "x", recipe=tiny_recipe(ALL, *kind, *METRIC))
    plain, shares, places = stored(tmp_path / "plain")
    rows, labels, there = stored(tmp_path / "x")
    np.testing.assert_array_equal(there, places)
    np.testing.assert_array_equal(labels, shares)
    assert rows.shape == (len(plain), 6)
    wanted = by_hand(plain, shares, 0.1, 6)
    np.testing.assert_allclose(rows @ rows.T, wanted @ wanted.T, atol=0.03)  # rows are stored in 16 bits


@pytest.mark.parametrize(
    "engine",
    [
        ("index.engine=exact",),
        ("index.engine=faiss",),
        ("index.engine=faiss", "index.faiss.factory=Flat", "rerank.candidates=9"),
        (EMBEDDINGS, "index.engine=exact", "rerank.candidates=9"),
        ("index.engine=qdrant",),
    ],
)
@pytest.mark.parametrize("kind", ["class", "whiten"])
def test_every_engine_finds_the_rows(
    kind: str, engine: tuple[str, ...], labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    if "index.engine=qdrant" in engine:
        pytest.importorskip("qdrant_edge")
    dataset, recipe = labelled_folder(4), tiny_recipe(*METRIC, f"features.metric={kind}", *engine)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    with open_index(tmp_path / "x") as index:
        extractor = open_extractor(tmp_path / "x", index.manifest)
        assert extractor.similarity == index.similarity
        assert index.similarity.searched.width == 6
        image, _ = dataset.read(dataset.samples[1])
        vectors = extractor.extract(extractor.prepare(image)[0][None])[0].numpy()
        patches = np.concatenate([block.patches for block in index.stream()])
        mine = np.flatnonzero(patches[:, 0] == 1)
        places = patches[mine, 1] * extractor.grid[1] + patches[mine, 2]
        assert index.search(vectors[places], 1).ids[:, 0].tolist() == mine.tolist(), "each finds itself"


def test_whole_images(labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    dataset = labelled_folder(9)
    for number, sample in enumerate(dataset.samples):  # images of one or two classes
        mask = np.full((68, 95), number % 3, dtype=np.uint8)
        mask[:20] = (number % 3 + number % 2) % 3
        Image.fromarray(mask).save(dataset.root / "masks" / f"{sample.id}.png")
    image = ("features.level=image", "objective.kind=kl")
    build_index(dataset, tmp_path / "plain", recipe=tiny_recipe(*image))
    build_index(dataset, tmp_path / "x", recipe=tiny_recipe(*image, *METRIC))
    plain, shares, _ = stored(tmp_path / "plain")
    rows, _, _ = stored(tmp_path / "x")
    wanted = by_hand(plain, shares, 0.1, 6)
    np.testing.assert_allclose(rows @ rows.T, wanted @ wanted.T, atol=0.03)
    extractor = ImageExtractor.open(tmp_path / "x", read_manifest(tmp_path / "x"))
    first = extractor.extract([dataset.read(dataset.samples[0])[0]])[0].numpy()
    np.testing.assert_allclose(first, rows[0], atol=1e-3)


def test_ledoit_wolf_goes_over_the_images_twice(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(8)
    events: list[ProgressEvent] = []
    recipe = tiny_recipe(ALL, EMBEDDINGS, *METRIC, "features.shrinkage=ledoit-wolf")
    build_index(dataset, tmp_path / "x", recipe=recipe, progress=events.append)
    assert ProgressEvent("end", "fitting the metric", 16, 16) in events
    build_index(dataset, tmp_path / "plain", recipe=tiny_recipe(ALL, EMBEDDINGS))
    plain, shares, _ = stored(tmp_path / "plain")
    centred = plain - plain.mean(axis=0)
    residuals = centred - shares @ ((shares.T @ centred) / shares.sum(axis=0)[:, None])
    within = residuals.T @ residuals / len(residuals)
    away = np.square(within - np.trace(within) / len(within) * np.eye(len(within))).sum()
    noise = sum(np.square(np.outer(r, r) - within).sum() for r in residuals) / len(residuals) ** 2
    share = load_file(tmp_path / "x" / "features.safetensors")["metric_shrinkage"][0]
    assert share == pytest.approx(min(1.0, noise / away), rel=0.02)


def test_batches_and_the_banks_size_change_nothing(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, fitted = labelled_folder(5), []
    for name, override in (("a", "runtime.batch_size=1"), ("b", "runtime.batch_size=4"), ("c", ALL)):
        build_index(dataset, tmp_path / name, recipe=tiny_recipe(*METRIC, override))
        fitted.append(load_file(tmp_path / name / "features.safetensors"))
    for other in fitted[1:]:
        np.testing.assert_allclose(
            other["metric_directions"], fitted[0]["metric_directions"], rtol=1e-2, atol=2e-2
        )


def test_an_image_gives_so_many_patches_rare_classes_first(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, recipe = labelled_folder(8), tiny_recipe(EMBEDDINGS, "features.metric=class")
    for sample in dataset.samples:
        mask = np.zeros((68, 95), dtype=np.uint8)
        mask[:23, :24] = 1  # one of twelve patches, all of it
        Image.fromarray(mask).save(dataset.root / "masks" / f"{sample.id}.png")
    shares = {}
    for limit in (3, 256):
        monkeypatch.setattr(metric_module, "METRIC_PATCHES_PER_IMAGE", limit)
        build_index(dataset, tmp_path / str(limit), recipe=recipe)
        counted = load_file(tmp_path / str(limit) / "features.safetensors")["metric_patches"]
        assert counted.sum() == pytest.approx(8 * min(limit, 12))
        shares[limit] = counted[1] / counted.sum()
    assert shares[3] > 1.5 * shares[256]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_what_was_replaced_fits_the_metric_anew(
    kind: str,
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    stop_after: Callable[[int], AbstractContextManager[None]],
    count_parts: Callable[[], list[int]],
    content: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe(EMBEDDINGS, *METRIC)
    with stop_after(2):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    path = dataset.root / kind / "photo1.png"
    Image.open(path).transpose(Image.Transpose.ROTATE_180).save(path)
    computed = count_parts()
    with caplog.at_level(logging.INFO, logger="mycelia"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    assert computed == [0, 1, 2], "every row has changed with the metric"
    assert f"fitted again: {path} has changed" in caplog.text
    build_index(dataset, tmp_path / "fresh", recipe=recipe)
    assert content(tmp_path / "x") == content(tmp_path / "fresh")


def test_a_stopped_build_goes_on_with_its_metric(
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    stop_after: Callable[[int], AbstractContextManager[None]],
    count_parts: Callable[[], list[int]],
    tmp_path: Path,
) -> None:
    dataset, recipe = labelled_folder(6), tiny_recipe(*METRIC)
    with stop_after(2):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    computed, events = count_parts(), list[ProgressEvent]()
    build_index(dataset, tmp_path / "x", recipe=recipe, progress=events.append)
    assert computed == [2]
    assert not any(event.stage.startswith("fitting") for event in events)


def test_shares_have_one_metric(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("qdrant_client").QdrantClient(":memory:")
    monkeypatch.setattr(client, "close", lambda: None)
    monkeypatch.setattr(collection_module, "connect", lambda settings: client)
    dataset, server = labelled_folder(5), ("index.engine=qdrant", "index.qdrant.url=':memory:'")
    whole = build_index(dataset, tmp_path / "whole", recipe=tiny_recipe(*METRIC, "index.engine=exact"))
    recipe = tiny_recipe(*METRIC, *server, "index.qdrant.collection=bank")
    events: list[ProgressEvent] = []
    reports = [
        build_index(dataset, tmp_path / "x", recipe=recipe, share=Share(n, 2), progress=events.append)
        for n in (1, 2)
    ]
    assert sum(event.stage == "fitting the metric" and event.event == "end" for event in events) == 1
    first, second = ((report.path / "features.safetensors").read_bytes() for report in reports)
    assert first == second
    np.testing.assert_allclose(stored(reports[1].path)[0], stored(whole.path)[0], atol=1e-6)


def without_labels(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.full_like(mask, 255)


def of_one_class(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ones_like(mask)


@pytest.mark.parametrize(
    ("change", "message"),
    [(without_labels, "none was found in any image"), (of_one_class, "of 3 only one has labelled patches")],
)
def test_labels_that_fit_no_metric(
    change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    message: str,
    labelled_folder: Folder,
    tiny_recipe: MakeRecipe,
    tmp_path: Path,
) -> None:
    dataset = labelled_folder(2)
    for sample in dataset.samples:
        path = dataset.root / "masks" / f"{sample.id}.png"
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(DatasetError, match=message):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe(EMBEDDINGS, "features.metric=class"))


def test_same_images_and_too_few_patches(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset = labelled_folder(2)
    with pytest.raises(ConfigError, match=r"features\.width=40 needs more labelled patches"):
        build_index(dataset, tmp_path / "x", recipe=tiny_recipe(EMBEDDINGS, *METRIC, "features.width=40"))
    with pytest.raises(ConfigError, match=r"features\.width=65 is more than the 64 numbers"):
        build_index(dataset, tmp_path / "y", recipe=tiny_recipe(EMBEDDINGS, *METRIC, "features.width=65"))
    for sample in dataset.samples:
        Image.new("RGB", (95, 68)).save(sample.image)
    image = ("features.level=image", EMBEDDINGS, "features.metric=whiten")
    with pytest.raises(DatasetError, match="all 2 labelled ones are the same"):
        build_index(dataset, tmp_path / "z", recipe=tiny_recipe(*image))


def test_bad_masks_are_skipped_or_raise(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, recipe = labelled_folder(4), tiny_recipe(EMBEDDINGS, *METRIC)
    (dataset.root / "masks" / "photo2.png").write_bytes(b"no mask")
    with pytest.raises(MaskError, match=r"photo2\.png"):
        build_index(dataset, tmp_path / "x", recipe=recipe)
    report = build_index(dataset, tmp_path / "x", recipe=recipe, skip_bad=True)
    assert [bad.id for bad in report.skipped] == ["photo2"]


def test_a_metric_of_other_classes_or_features_is_refused(
    labelled_folder: Folder, tiny_recipe: MakeRecipe, tmp_path: Path
) -> None:
    dataset, index = labelled_folder(4), tmp_path / "x"
    build_index(dataset, index, recipe=tiny_recipe(EMBEDDINGS, *METRIC))
    manifest = read_manifest(index)
    open_extractor(index, manifest)
    other = ClassMap((*manifest.classes.classes[:-1], ClassInfo(7, "new", (1, 2, 3))))
    prints = {**manifest.fingerprints, "recipe": "another"}
    for wrong in (replace(manifest, classes=other), replace(manifest, fingerprints=prints)):
        with pytest.raises(IndexMismatchError, match="for other features or classes than the index has"):
            open_extractor(index, wrong)
    tensors = load_file(index / "features.safetensors")
    kept = {name: array for name, array in tensors.items() if not name.startswith("metric")}
    save_file({**kept, "other": np.zeros(1, np.float32)}, index / "features.safetensors")
    with pytest.raises(IndexMismatchError, match="has no metric"):
        open_extractor(index, manifest)


def test_classes_of_a_folder_are_labels_too(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    root, random = tmp_path / "flowers", np.random.default_rng(0)
    for number in range(12):
        path = root / ("rose", "tulip")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (40, 50, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    recipe = tiny_recipe(EMBEDDINGS, "features.metric=class", "features.width=2")
    build_index(load_dataset(root), tmp_path / "x", recipe=recipe)
    vectors, shares, _ = stored(tmp_path / "x")
    same = shares @ shares.T > 0.5
    found = vectors @ vectors.T
    assert found[same].mean() > 0.8 > 0 > found[~same].mean()
