"""A memory described in fewer passes through the model: the same rows, queries and metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.bank.fitting import fit_on_samples
from indexer.datasets import Dataset
from indexer.features.backbone import Backbone
from indexer.features.fungi import FungiExtractor
from indexer.recipe import Recipe, override_recipe
from segmentation.tuning import cuts, scan
from segmentation.tuning.blocks import describe_blocks
from segmentation.tuning.cuts import fit_keeping_cuts
from segmentation.tuning.described import Described, Memory
from segmentation.tuning.scoring import PIXELS
from segmentation.tuning.settings import Reduction, Setting

PLACES = np.repeat([0, 1, 2], 4)
CLASS = Reduction("class", 6, 0.1)


def memory_of(dataset: Dataset, recipe: Recipe) -> Memory:
    return Memory(recipe, dataset, (PLACES, np.arange(12)), [0, 3, 5, 8, 11], 12, None)


@pytest.mark.parametrize("norm", ["auto", "model", "plain"])
def test_blocks_described_together_are_those_described_apart(
    norm: str,
    halves: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
) -> None:
    memory = memory_of(halves(), tiny_recipe(f"backbone.norm={norm}", "bank.max_patches=40"))
    together = describe_blocks(memory, (1, 3, 5), measured=True)
    for block, found in together.items():
        alone = Described.of(memory, block, gradients=False, measured=True)
        assert len(found.bank.parts) == 1
        assert torch.allclose(found.bank.parts[0].float(), alone.bank.parts[0].float(), atol=1e-3)
        assert np.array_equal(found.bank.labels, alone.bank.labels)
        assert np.array_equal(found.bank.images, alone.bank.images)
        for one, other in zip(found.queries[1], alone.queries[1], strict=True):
            assert (one.image, one.geometry) == (other.image, other.geometry)
            assert torch.allclose(one.parts[0].float(), other.parts[0].float(), atol=1e-3)
        for fold in (None, 1):
            metrics = [each.reducer.fit(0, fold, 0.0, CLASS)[1] for each in (found, alone)]
            assert torch.allclose(*metrics, atol=1e-3 * float(metrics[1].abs().max()))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images of every pass through the model up to a cut."""
    seen: list[int] = []
    real = Backbone.cut

    def cut(self: Backbone, images: torch.Tensor) -> object:
        seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(Backbone, "cut", cut)
    return seen


@pytest.mark.parametrize("change", ["image.fit=stretch", "bank.augmentation=hummingbird", "bank.epochs=2"])
@pytest.mark.parametrize("kept", [0, 5, 100])
def test_kept_cuts_change_nothing_but_the_passes(
    change: str,
    kept: int,
    halves: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = memory_of(halves(), tiny_recipe("runtime.batch_size=3", change))
    monkeypatch.setattr(cuts, "MOST_BYTES", 0)
    expected = Described.of(memory, 1, gradients=True, measured=False)
    extractor = FungiExtractor.create(override_recipe(memory.recipe, ["features.kind=fungi"]))
    one = fit_bytes(extractor, memory.dataset)
    monkeypatch.setattr(cuts, "MOST_BYTES", kept * one)
    passes = counted(monkeypatch)
    found = Described.of(memory, 1, gradients=True, measured=False)
    for one_part, other in zip(found.bank.parts, expected.bank.parts, strict=True):
        assert torch.allclose(one_part.float(), other.float(), atol=2e-3)
    for query, other_query in zip(found.queries[1], expected.queries[1], strict=True):
        assert torch.allclose(query.parts[1].float(), other_query.parts[1].float(), atol=2e-3)
    used = kept // 3 * 3  # whole batches are kept
    described = {"bank.augmentation=hummingbird": 12 + 5, "bank.epochs=2": 24}.get(change, 12)
    reused = min(used, 5 if "hummingbird" in change else 12) if kept != 5 or "hum" not in change else None
    if reused is not None:
        assert sum(passes) == 12 + described - reused


def fit_bytes(extractor: FungiExtractor, dataset: Dataset) -> int:
    """Bytes of the cut of one image."""
    image, _ = dataset.read(dataset.samples[0])
    cut = extractor.backbone.cut(extractor.prepare(image)[0][None])
    return cut.residual.nbytes + cut.activation.nbytes


def test_fitting_with_cuts_is_fitting(
    halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> None:
    samples = halves().samples
    first, second = (FungiExtractor.create(tiny_recipe()) for _ in range(2))
    fit_on_samples(first, samples)
    found = fit_keeping_cuts(second, samples)
    assert torch.equal(first._tensors["support"], second._tensors["support"])
    assert found.keys() == {sample.id for sample in samples}
    without = FungiExtractor.create(tiny_recipe("features.kind=embeddings"))
    assert fit_keeping_cuts(without, samples) == {}


@pytest.mark.parametrize("rule", [0, 1])
def test_scores_are_those_of_comparing_everything(
    rule: int,
    halves: Callable[..., Dataset],
    tiny_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = tiny_recipe("objective.kind=kl", "features.projection_width=24", "image.size=[64,64]")
    block = Described.of(memory_of(halves(), recipe), 1, gradients=True, measured=True)
    settings = [
        Setting(1, weight, k, 0.05, reduction, shifts)
        for weight in (0.0, 0.5) for k in (2, 9) for reduction in (Reduction(), CLASS) for shifts in (1, 2)
    ]  # fmt: skip
    slow = block.score(settings, range(5), rule, pixels=PIXELS, label="")
    monkeypatch.setattr(scan, "CHUNK", 64)
    proven: list[float] = []
    real = scan.BankScan._scan

    def scanned(self: scan.BankScan, *given: object) -> object:
        found = real(self, *given)  # type: ignore[arg-type]
        proven.append(found[2].mean())
        return found

    monkeypatch.setattr(scan.BankScan, "_scan", scanned)
    monkeypatch.setattr(scan, "low_precision", lambda: torch.bfloat16)
    fast = block.score(settings, range(5), rule, pixels=PIXELS, label="")
    assert len(proven) == 5 * 2 * 4 and np.mean(proven) > 0.3  # the scan had a part in it
    assert np.array_equal(slow, fast)


def test_shifted_passes_have_gradients_only_where_asked_for(
    halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    block = Described.of(memory_of(halves(), tiny_recipe()), 1, gradients=True, measured=False)
    assert {len(query.parts) for query in block.seen(2)} == {1}
    embeddings = [query.parts[0] for query in block.seen(2)]
    assert {len(query.parts) for query in block.seen(2, gradients=True)} == {2}
    assert {len(query.parts) for query in block.seen(2)} == {2}  # those are kept
    for one, other in zip(embeddings, block.seen(2), strict=True):
        assert torch.allclose(one.float(), other.parts[0].float(), atol=1e-3)
