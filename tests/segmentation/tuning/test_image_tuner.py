"""The tuning of whole images against an index: the same features, votes and classes, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from indexer.bank.build import build_index
from indexer.bank.level import resolve_level
from indexer.datasets import Dataset, load_dataset
from indexer.features.whole.images import ImageExtractor
from indexer.images import read_image
from indexer.recipe import Recipe, load_recipe, override_recipe
from retrieval.errors import ConfigError
from segmentation.classification import Classifier
from segmentation.classification.evaluate import evaluate_classes
from segmentation.tuning.image_recipe_file import image_expectation_lines, write_image_recipe
from segmentation.tuning.image_rows import collect_images, read_labels
from segmentation.tuning.image_settings import ImageCandidates, ImageFeatures, own_setting, parse_objectives
from segmentation.tuning.image_tuner import ImageTuningReport, passes, tune_images
from segmentation.tuning.image_votes import join_cosines, join_parts

TINY = ("objective.dino.local_crops=2", "objective.infonce.negatives=4", "objective.infonce.stride_scale=2")
FEW = ImageCandidates(
    objectives=[("kl",), ("kl", "dino")], weights=(0.5, 2.0), ks=(1, 3), temperatures=(0.05,)
)


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Dataset]:
    """``drawn(6)``: so many images of each of three classes, stripes of a colour near their class's."""

    def make(each: int, *, spread: int = 35) -> Dataset:
        random = np.random.default_rng(0)
        for number, name in enumerate(("birch", "fir", "oak")):
            (tmp_path / "trees" / name).mkdir(parents=True)
            for i in range(each):
                pixels = np.full((40, 48, 3), 90.0)
                pixels[:, :: 4 + number] = 150 + 20 * number
                pixels[..., number] += 40
                pixels += random.normal(0, 20, pixels.shape) + random.normal(0, spread, 3)
                file = tmp_path / "trees" / name / f"{name}{i}.png"
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file)
        return load_dataset(tmp_path / "trees")

    return make


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    return tiny_recipe(*TINY, "index.engine=exact", "index.dtype=float32", "features.level=image")


@pytest.mark.parametrize("pca", [None, 5])
@pytest.mark.parametrize("names", [(), ("kl",), ("dino", "kl")])
def test_joined_parts_are_the_extractors_vectors(
    names: tuple[str, ...], pca: int | None, drawn: Callable[..., Dataset], recipe: Recipe
) -> None:
    dataset = drawn(3)
    everything = override_recipe(recipe, ["objective.kind=[kl,infonce,dino]"])
    extractor = ImageExtractor.create(everything)
    extractor.fit(lambda: iter([[read_image(s.image)] for s in dataset.samples]), images=9)
    rows = collect_images(extractor, dataset.samples)
    assert list(rows.parts) == ["embedding", "kl", "infonce", "dino"]
    assert all(seconds > 0 for seconds in rows.seconds.values())
    shares = (1 / len(names),) * len(names) if names else ()
    features = ImageFeatures(1, names, 1.5 if names else 0.0, pca, shares)
    setting = replace(own_setting(recipe, 1), features=features)
    alone = ImageExtractor.create(override_recipe(setting.apply(recipe), ["features.pca=null"]))
    vectors = alone.extract([read_image(sample.image) for sample in dataset.samples])
    torch.testing.assert_close(join_parts(rows.parts, features), vectors, atol=1e-5, rtol=1e-4)
    cosines = {name: part @ part.T for name, part in rows.parts.items()}
    torch.testing.assert_close(join_cosines(cosines, features), vectors @ vectors.T, atol=1e-5, rtol=1e-4)


def test_scores_are_those_of_an_index_that_leaves_images_out(
    drawn: Callable[..., Dataset], recipe: Recipe, tmp_path: Path
) -> None:
    dataset = drawn(6)
    report = tune_images(dataset, recipe, candidates=FEW)
    assert report.measure == "top-1" and (report.images, report.queries, report.groups) == (18, 18, None)
    assert len({row.score for row in report.rows}) > 1
    for number in (0, len(report.rows) // 2, len(report.rows) - 1):
        row = report.rows[number]
        out = tmp_path / f"{number}.index"
        build_index(dataset, out, recipe=row.setting.apply(recipe))
        with Classifier.open(out) as classifier:
            scored = evaluate_classes(classifier, dataset, leave_out=True)
        assert scored.top1 == pytest.approx(row.score)
    kinds = [row.setting.features.objectives for row in report.rows]
    assert set(kinds) == {(), ("kl",), ("kl", "dino")}
    plain = max((row for row in report.rows if not row.setting.features.objectives), key=lambda r: r.score)
    assert all(row.gain == pytest.approx(row.score - plain.score) for row in report.rows)
    assert report.best.score == max(row.score for row in report.rows)
    assert report.chosen.score + max(row.error for row in report.rows) * 2 >= report.best.score


def test_copies_of_a_file_are_left_out_together(
    drawn: Callable[..., Dataset], recipe: Recipe, tmp_path: Path
) -> None:
    dataset = drawn(2)
    shutil.copy(dataset.samples[0].image, tmp_path / "trees" / "oak" / "copy.png")
    dataset = load_dataset(tmp_path / "trees")
    labelled = read_labels(dataset.samples, 3)
    assert len(set(labelled.contents.tolist())) == 6 and labelled.labels.shape == (7, 3)
    candidates = ImageCandidates(objectives=[()], ks=(1,), temperatures=(0.05,))
    report = tune_images(dataset, recipe, candidates=candidates)
    # leaving single files out instead, each copy would find the other and take its wrong class
    ids = [sample.id for sample in dataset.samples]
    copies = [number for number, id in enumerate(ids) if id.endswith(("birch0", "copy"))]
    vectors = collect_images(
        ImageExtractor.create(override_recipe(recipe, ["features.kind=embeddings"])), dataset.samples
    ).parts["embedding"]
    cosines = vectors @ vectors.T
    cosines.fill_diagonal_(-2)
    cosines[copies[0], copies[1]] = cosines[copies[1], copies[0]] = -2
    truth = np.array([columns[0] for columns in labelled.truth])
    expected = (truth[cosines.argmax(dim=1).numpy()] == truth).mean()
    assert report.rows[0].score == pytest.approx(expected)


def test_groups_give_two_expectations(drawn: Callable[..., Dataset], recipe: Recipe, tmp_path: Path) -> None:
    dataset = drawn(6)
    candidates = replace(FEW, objectives=[("kl",)])
    report = tune_images(dataset, recipe, group="([0-9])", candidates=candidates, images=12)
    assert (report.groups, report.queries) == (6, 12) and report.new is not None
    assert report.new.units == report.near.units == 6
    lines = image_expectation_lines(report)
    assert any("groups that the memory lacks" in line for line in lines)
    with pytest.raises(ConfigError, match="there is only one"):
        tune_images(replace(dataset, samples=dataset.samples[:1]), recipe, candidates=candidates)


def test_images_of_several_classes_are_scored_by_average_precision(tmp_path: Path, recipe: Recipe) -> None:
    random, lines = np.random.default_rng(1), ["path,label"]
    for n in range(24):
        names = [name for bit, name in enumerate(("red", "green", "blue")) if (n % 7 + 1) >> bit & 1]
        pixels = random.normal(60, 20, (40, 40, 3))
        for place, name in enumerate(names):
            pixels[:, 12 * place : 12 * place + 12, ("red", "green", "blue").index(name)] += 60
        pixels += random.normal(0, 40, 3)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / f"{n}.png")
        lines.append(f"{n}.png,{';'.join(names)}")
    (tmp_path / "train.csv").write_text("\n".join(lines))
    dataset = load_dataset(tmp_path, format="table", split="train")
    report = tune_images(dataset, recipe, candidates=replace(FEW, objectives=[("kl",)]))
    assert report.measure == "mAP"
    row = report.rows[-1]
    build_index(dataset, tmp_path / "several.index", recipe=row.setting.apply(recipe))
    with Classifier.open(tmp_path / "several.index") as classifier:
        scored = evaluate_classes(classifier, dataset, leave_out=True)
    assert scored.mean_average_precision == pytest.approx(row.score, abs=1e-6)
    assert report.near.low < report.near.score < report.near.high


def test_a_pca_is_fitted_without_the_images_it_is_scored_on(
    drawn: Callable[..., Dataset], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segmentation.tuning import image_votes

    dataset, fitted = drawn(5), []
    original = image_votes.fit_pca

    def spy(vectors: torch.Tensor, width: int, *, whiten: str) -> tuple[torch.Tensor, torch.Tensor]:
        fitted.append(vectors)
        return original(vectors, width, whiten=whiten)

    monkeypatch.setattr(image_votes, "fit_pca", spy)
    candidates = ImageCandidates(objectives=[()], ks=(1,), temperatures=(0.1,), pca=(0, 4))
    report = tune_images(dataset, recipe, candidates=candidates)
    assert [row.setting.features.pca for row in report.rows] == [None, 4]
    assert [len(vectors) for vectors in fitted] == [12] * 5
    extractor = ImageExtractor.create(override_recipe(recipe, ["features.kind=embeddings"]))
    every = collect_images(extractor, dataset.samples).parts["embedding"]
    for fold, vectors in enumerate(fitted):
        others = [n for n in range(15) if n % 5 != fold]
        torch.testing.assert_close(vectors, every[others])
    with pytest.raises(ConfigError, match="a PCA of width 12 needs more images"):
        tune_images(dataset, recipe, candidates=replace(candidates, pca=(12,)))


def test_the_recipe_loads_back_builds_and_says_what_is_expected(
    drawn: Callable[..., Dataset], recipe: Recipe, tmp_path: Path
) -> None:
    dataset = drawn(4)
    report = tune_images(dataset, recipe, candidates=FEW)
    chosen: ImageTuningReport = replace(
        report, recipe=report.rows[-1].setting.apply(report.recipe), chosen=report.rows[-1]
    )
    for n, found in enumerate((report, chosen)):
        path = tmp_path / f"tuned{n}.yaml"
        write_image_recipe(path, found, base="tiny.yaml", data="trees", rule=None)
        loaded = load_recipe(path)
        assert loaded == found.recipe.model_copy(update={"runtime": loaded.runtime})
        told = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line[0] == "#")
        assert "tiny.yaml" in told and all(line in told for line in image_expectation_lines(found))
        assert str(tmp_path) not in path.read_text()
    assert loaded.objective.kind == ("kl", "dino")
    assert build_index(dataset, tmp_path / "tuned.index", recipe=loaded).whole
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["measure"] == "top-1" and len(data["settings"]) == len(report.rows)
    assert Recipe.model_validate(data["recipe"]) == report.recipe


def test_the_same_images_give_the_same_choice(drawn: Callable[..., Dataset], recipe: Recipe) -> None:
    dataset = drawn(4)
    first, second = (tune_images(dataset, recipe, candidates=FEW) for _ in range(2))
    assert first.recipe == second.recipe and first.near == second.near


def test_costs_are_counted_in_views(recipe: Recipe) -> None:
    counted = [passes(names, recipe) for names in ((), ("kl",), ("kl", "dino"), ("infonce",))]
    assert counted == [(1, 0), (1, 1), (1 + 4, 2), (1 + 9, 1)]
    assert counted == sorted(counted)


def test_the_papers_weight_and_the_recipes_own_are_tried(recipe: Recipe) -> None:
    own = override_recipe(
        recipe, ["objective.kind=[dino,kl]", "objective.weights=[3,1]", "features.gradient_weight=0.7"]
    )
    settings = ImageCandidates().settings(own, blocks=6, block=1)
    by_kind: dict[tuple[str, ...], set[float]] = {}
    for setting in settings:
        by_kind.setdefault(setting.features.objectives, set()).add(setting.features.weight)
    assert list(by_kind) == [(), ("kl",), ("dino", "kl"), ("kl", "dino", "infonce")]
    assert 1.0 in by_kind["kl",] and 3.0 in by_kind["kl", "dino", "infonce"]
    assert by_kind["dino", "kl"] == {0.5, 0.7, 1.0, 2.0, 4.0}
    assert own_setting(own, 1) in settings
    (setting,) = [s for s in settings if s == own_setting(own, 1)]
    assert setting.features.shares == (0.75, 0.25) and setting.apply(own) == override_recipe(
        own, ["backbone.block=1"]
    )
    assert settings[0].apply(own).features.kind == "embeddings"


@pytest.mark.parametrize(
    ("text", "found"),
    [("kl", [("kl",)]), ("none, kl+dino", [(), ("kl", "dino")]), ("my.mod:Loss+kl", [("my.mod:Loss", "kl")])],
)
def test_objectives_are_read(text: str, found: list[tuple[str, ...]]) -> None:
    assert parse_objectives(text) == found


@pytest.mark.parametrize(
    ("text", "message"), [("kl+simclr", "no objective 'simclr'"), ("", "no objective ''"), ("kl+kl", "twice")]
)
def test_what_is_no_objective_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_objectives(text)


def test_the_level_is_decided_by_the_data(
    drawn: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    dataset, auto = drawn(2), tiny_recipe(*TINY)
    candidates = replace(FEW, objectives=[()])
    report = tune_images(dataset, auto, candidates=candidates)
    assert report.recipe.features.level == "image"
    assert report.recipe.image.size == resolve_level(auto, dataset).image.size
    with pytest.raises(ConfigError, match="needs masks"):
        tune_images(dataset, override_recipe(auto, ["features.level=patch"]), candidates=candidates)
