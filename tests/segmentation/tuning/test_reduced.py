"""Metrics without what is left out: against fits on a data set that lacks it, and scores against an index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer import build_index
from indexer.bank.fitting import fit_on_samples
from indexer.bank.metric import fit_metric_on
from indexer.datasets import Dataset
from indexer.features.fungi import FungiExtractor
from indexer.features.projection import fit_pca
from indexer.recipe import Recipe
from segmentation.scoring.metrics import confusion_matrix
from segmentation.segmenter import Segmenter
from segmentation.tuning.described import Described, Memory
from segmentation.tuning.reduced import FoldSums, PatchSums, fit_reduction
from segmentation.tuning.scoring import PIXELS, tally_of
from segmentation.tuning.settings import Reduction, Setting

CLASS = Reduction("class", 12, 0.1)
#: Whose gradients no support bank decides, which would be of other images without the left-out ones.
KL = ("objective.kind=kl", "features.projection_width=24", "backbone.block=1")
PLACES = np.repeat([0, 1, 2], 4)


def described(dataset: Dataset, recipe: Recipe, *, gradients: bool) -> Described:
    memory = Memory(recipe, dataset, (PLACES, np.arange(12)), [0, 3, 5, 8, 11], 12, None)
    return Described.of(memory, 1, gradients=gradients, measured=True)


def fitted_on(dataset: Dataset, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """What a build fits on a data set."""
    extractor = FungiExtractor.create(recipe)
    fit_on_samples(extractor, dataset.samples)
    fit_metric_on(extractor, dataset, dataset.samples)
    return extractor._tensors["metric_mean"], extractor._tensors["metric_directions"]


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["class", "whiten"])
def test_a_metric_without_a_group_is_that_of_a_build_without_it(
    weight: float, kind: str, halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    dataset, recipe = halves(), tiny_recipe(*KL)
    reduction = replace(CLASS, kind=kind)
    setting = Setting(1, weight, 5, 0.1, reduction)
    block = described(dataset, recipe, gradients=bool(weight))
    for fold in range(3):
        kept = tuple(s for s, place in zip(dataset.samples, PLACES, strict=True) if place != fold)
        expected = fitted_on(replace(dataset, samples=kept), setting.apply(recipe))
        found = block.reducer.fit(0, fold, weight, reduction)
        with_all = block.reducer.fit(0, None, weight, reduction)
        assert torch.allclose(found[0], expected[0], atol=1e-5)
        scale = expected[1].abs().max()
        assert torch.allclose(found[1] / scale, expected[1] / scale, atol=2e-3)
        assert not torch.allclose(with_all[1] / scale, expected[1] / scale, atol=2e-2), "all is another fit"


def test_labels_of_a_left_out_group_do_not_matter(
    halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(*KL)
    right = described(halves(), recipe, gradients=False)
    wrong = described(halves("b", at="wrong"), recipe, gradients=False)
    first, second = (block.reducer.fit(0, 1, 0.0, CLASS) for block in (right, wrong))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    # of the others' metrics they are a part, and of one that is fitted with all: that would leak
    for fold in (0, 2, None):
        first, second = (block.reducer.fit(0, fold, 0.0, CLASS) for block in (right, wrong))
        assert not torch.allclose(first[1], second[1], rtol=0.05)


@pytest.mark.parametrize("leaks", [False, True])
def test_with_a_leak_scores_would_differ(
    leaks: bool, halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    block = described(halves(), tiny_recipe(*KL), gradients=False)
    setting = Setting(1, 0.0, 9, 0.05, replace(CLASS, width=3))
    honest = block.score([setting], range(5), 0, pixels=PIXELS, label="")
    real = block.reducer.fit
    if leaks:
        monkeypatch.setattr(block.reducer, "fit", lambda rule, fold, *rest: real(rule, None, *rest))
    again = block.score([setting], range(5), 0, pixels=PIXELS, label="")
    assert np.array_equal(honest, again) is not leaks


@pytest.mark.parametrize(
    "setting",
    [
        Setting(1, 0.0, 9, 0.05, CLASS),
        Setting(1, 0.5, 9, 0.05, CLASS),
        Setting(1, 0.0, 9, 0.05, replace(CLASS, kind="whiten"), 2),
        Setting(1, 0.0, 9, 0.02, shifts=2, refine="guided"),
        Setting(1, 0.5, 9, 0.05, CLASS, 2, "guided"),
    ],
)
def test_a_score_is_that_of_an_index_without_the_group(
    setting: Setting, halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    dataset = halves()
    recipe = tiny_recipe(*KL, "index.engine=exact", "transfer.refine_radius=2")
    block = described(dataset, recipe, gradients=bool(setting.weight))
    other = replace(setting, k=2)
    (_, found) = block.score([other, setting], range(5), 0, pixels=PIXELS, label="")
    for place, image in enumerate(block.memory.queries):
        kept = tuple(s for s, p in zip(dataset.samples, PLACES, strict=True) if p != PLACES[image])
        path = tmp_path / f"{PLACES[image]}.index"
        if not path.exists():
            build_index(replace(dataset, samples=kept), path, recipe=setting.apply(recipe))
        photo, truth = dataset.read(dataset.samples[image])
        with Segmenter.open(path) as segmenter:
            columns = segmenter.segment(photo).columns
        expected = tally_of(confusion_matrix(truth, columns, 2))
        # vectors are rounded to 16 bits before the metric here, after it there: a pixel may tip over
        assert np.abs(found[place] - expected).max() <= 0.01 * truth.size
        assert found[place].min() < truth.size  # there is something to get wrong


def test_principal_components_are_those_of_the_features(tiny_recipe: Callable[..., Recipe]) -> None:
    rows = np.random.default_rng(0).normal(size=(80, 6)) * np.arange(1, 7)
    shares = np.eye(2)[np.arange(80) % 2]
    sums = PatchSums(6, 2)
    sums.add(rows, shares)
    for whiten in ("none", "half", "full"):
        mean, found = fit_reduction(sums, Reduction("pca", 3, whiten=whiten))
        wanted_mean, wanted = fit_pca(torch.from_numpy(rows), 3, whiten=whiten)
        scale = (79 / 80) ** {"none": 0.0, "half": 0.25, "full": 0.5}[whiten]  # of n and n - 1
        assert torch.allclose(mean, wanted_mean.float(), atol=1e-5)
        assert torch.allclose(found.abs() * scale, wanted.float().abs(), rtol=1e-3, atol=1e-5)


def test_many_groups_share_folds() -> None:
    sums = FoldSums([np.arange(40)], 2)
    rows = np.random.default_rng(0).normal(size=(40, 3, 4)).astype(np.float32)
    for image, row in enumerate(rows):
        sums.add(image, [row], np.eye(2)[[0, 1, 1]])
    without = sums.without(0, 7, 0.0)
    kept = [image for image in range(40) if image % 10 != 7]
    assert without.rows == 3 * 36
    assert np.allclose(without.mean, rows[kept].mean(axis=(0, 1)))


def test_weights_scale_sums_as_they_scale_vectors(
    halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    recipe = tiny_recipe(*KL)
    block = described(halves(), recipe, gradients=True)
    for weight in (0.25, 1.0):
        setting = Setting(1, weight, 5, 0.1, replace(CLASS, width=0))
        expected = fitted_on(block.memory.dataset, setting.apply(recipe))
        found = block.reducer.fit(0, None, weight, setting.reduction)
        assert found[1].shape == expected[1].shape
        assert torch.allclose(found[0], expected[0], atol=1e-5)
