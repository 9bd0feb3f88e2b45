"""The index's settings: the smallest that loses nothing, and exact search where all lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from indexer.datasets import Dataset
from indexer.recipe import Recipe
from segmentation.tuning import tuner
from segmentation.tuning.engine import _smallest
from segmentation.tuning.tuner import Candidates, TuningReport, tune

pytest.importorskip("faiss")
ONE = Candidates(
    blocks=(1,),
    weights=(0.0,),
    ks=(3,),
    temperatures=(0.02,),
    metrics=("none",),
    shifts=(1,),
    refines=("none",),
)


@pytest.fixture
def tuned(
    flat_images: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe]
) -> Callable[..., TuningReport]:
    def run(*overrides: str, candidates: Candidates = ONE) -> TuningReport:
        colors = [(210, 20, 20), (20, 200, 20), (30, 30, 200)]
        images = [(f"{n % 4}-{n:02d}", colors[n % 3], n % 3) for n in range(24)]
        return tune(flat_images(images), tiny_recipe(*overrides), group="1", candidates=candidates)

    return run


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_searching_every_list_is_exact(weight: float, tuned: Callable[..., TuningReport]) -> None:
    report = tuned("index.factory='IVF2,Flat'", "index.nprobe=8", candidates=replace(ONE, weights=(weight,)))
    own, smaller = report.engine.trials
    assert (own.nprobe, smaller.nprobe, own.factory) == (8, 2, "IVF2,Flat")
    # the same neighbours by FAISS and by the masked scan
    assert (own.loss, smaller.loss) == pytest.approx((0, 0), abs=1e-9)
    assert report.recipe.index.faiss.nprobe == 2


def test_few_rows_are_scanned(tuned: Callable[..., TuningReport]) -> None:
    report = tuned("index.engine=faiss")
    assert report.engine.trials == ()
    assert report.recipe.index.faiss.factory is None
    assert "Flat" in report.engine.reason


def test_exact_search_needs_no_trial(tuned: Callable[..., TuningReport]) -> None:
    report = tuned("index.engine=exact")
    assert report.engine.trials == () and report.recipe.index.engine == "exact"


def test_where_every_setting_loses_the_recipe_scans(
    tuned: Callable[..., TuningReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tuner.choose_engine
    monkeypatch.setattr(tuner, "choose_engine", lambda *a, **b: real(*a, exact_miou=2.0, **b))
    report = tuned("index.factory='IVF4,Flat'", "index.nprobe=4")
    assert report.recipe.index.faiss.factory == "Flat"
    assert report.recipe.index.faiss.nprobe is None
    assert [trial.nprobe for trial in report.engine.trials] == [4, 1, 2, 8, 16]


@pytest.mark.parametrize("enough", [(8, 4), (16, 16), (40, 32), (129, 1), (3, 33)])
def test_the_smallest_that_is_enough_is_found(enough: tuple[int, int]) -> None:
    tried = []

    def attempt(nprobe: int | None, k_factor: int | None) -> bool:
        assert nprobe is not None and k_factor is not None
        tried.append((nprobe, k_factor))
        return nprobe >= enough[0] and k_factor >= enough[1]

    found = _smallest(attempt, 32, 16)
    ladder = [(n, k) for n in (8, 16, 32, 64, 128) for k in (4, 8, 16, 32)]
    assert found == next(((n, k) for n, k in ladder if n >= enough[0] and k >= enough[1]), None)
    assert len(tried) == len(set(tried)) <= 8


def test_types_without_lists_or_refinement_are_tried_once() -> None:
    tried = []

    def attempt(nprobe: int | None, k_factor: int | None) -> bool:
        tried.append((nprobe, k_factor))
        return True

    assert _smallest(attempt, None, None) == (None, None)
    assert tried == [(None, None)]
