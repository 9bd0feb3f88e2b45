"""Three choices by score and time, and rounds that a unit has no part in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from indexer.datasets import Dataset
from indexer.recipe import Recipe
from segmentation.tuning.choice import Chooser, choose_all, pair_errors
from segmentation.tuning.cost import Cost, Meter, measure
from segmentation.tuning.rounds import Scored, finalists, in_views
from segmentation.tuning.scoring import Tally, miou_of
from segmentation.tuning.settings import Candidates, Reduction, Setting
from segmentation.tuning.tuner import tune

UNITS = 6


def tally_of_rates(rates: list[float], spread: float = 0.0) -> Tally:
    """Settings that find such shares of 10,000 pixels of two classes in each unit, give or take."""
    noise = np.random.default_rng(0).normal(0, spread, (len(rates), UNITS, 2))
    hits = np.rint(10_000 * np.clip(np.array(rates)[:, None, None] + noise, 0, 1)).astype(np.int64)
    return np.stack([hits, np.full_like(hits, 10_000)], axis=-1)


def chooser(rates: list[float], times: list[float], limit: float, error: float) -> Chooser:
    count = len(rates)
    allowed = np.ones((1 + UNITS, count), dtype=bool)
    return Chooser(tally_of_rates(rates), np.array(times), limit, allowed, np.full((count, count), error))


@pytest.mark.parametrize(
    ("times", "limit", "error", "expected"),
    [
        ([100, 200, 400], 1000, 0.0, 2),  # the best
        ([100, 200, 400], 300, 0.0, 1),  # the best within the limit
        ([100, 200, 400], 50, 0.0, 0),  # nothing is within it: the cheapest
        ([100, 200, 400], 1000, 0.025, 1),  # tied with the best, and cheaper
        ([100, 396, 400], 1000, 0.025, 2),  # tied, and no cheaper by what timings vary by
    ],
)
def test_the_choice_is_by_score_time_and_ties(
    times: list[float], limit: float, error: float, expected: int
) -> None:
    found = chooser([0.4, 0.5, 0.52], times, limit, error)
    assert found.choose(found.tally.sum(axis=1), 0) == expected


def test_a_view_chooses_among_its_own() -> None:
    found = chooser([0.4, 0.5, 0.52], [1, 1, 1], 10, 0.0)
    found.allowed[3, 2] = False
    total = found.tally.sum(axis=1)
    assert [found.choose(total, view) for view in (0, 2, 3)] == [2, 2, 1]
    # unit 2 is scored under what its own view may choose
    rates = np.full(UNITS, 0.52)
    rates[2] = 0.5
    expected = found.expect(found.tally, generator=np.random.default_rng(0))
    assert expected.score == pytest.approx(rates.mean(), abs=1e-3)


def test_errors_are_of_paired_differences() -> None:
    tally = tally_of_rates([0.5, 0.5], 0.05)
    tally = np.concatenate([tally, tally[:1] // [2, 1]])  # half of the first in every unit
    errors = pair_errors(tally, generator=np.random.default_rng(1))
    assert np.allclose(errors, errors.T) and np.allclose(np.diagonal(errors), 0, atol=1e-9)
    spread = miou_of(tally)[:2]
    expected = (spread[0] - spread[1]).std() / UNITS**0.5
    assert errors[0, 1] == pytest.approx(expected, rel=0.25)


def test_three_choices() -> None:
    settings = [Setting(1, 0.0, 5, t) for t in (0.1, 0.2, 0.3, 0.4)]
    times = [100.0, 101.0, 112.0, 400.0]
    costs = {s: Cost(t - 2, 1, 1, 8) for s, t in zip(settings, times, strict=True)}
    tally = tally_of_rates([0.4, 0.45, 0.5, 0.55])
    choices = choose_all(
        settings, [tally], costs, np.ones((1 + UNITS, 4), bool), 0,
        generators=[np.random.default_rng(n) for n in range(4)], grouped=False,
    )  # fmt: skip
    assert [choice.setting for choice in choices] == settings[1:]
    assert [choice.gain for choice in choices] == pytest.approx([0.05, 0.1, 0.15], abs=1e-3)
    assert [choice.near.score for choice in choices] == pytest.approx([0.45, 0.5, 0.55], abs=1e-3)
    assert all(choice.new is None for choice in choices)


def test_what_a_unit_shows_sends_nothing_to_the_finals_of_its_own_view() -> None:
    generator = np.random.default_rng(3)
    grid = Candidates((1,), (0.0,), (3, 5, 9), (0.1, 0.2), ("none", "class")).grid(
        Recipe(), blocks=6, block=1, width=12
    )
    settings = [
        setting for reduction in grid.reductions for setting in grid.of(Setting(1, 0, 1, 1, reduction).vector)
    ]
    tally = np.sort(generator.integers(0, 1000, (len(settings), UNITS, 3, 2)), axis=-1)
    changed = tally.copy()
    changed[:, 4] = np.sort(generator.integers(0, 90_000, changed[:, 4].shape), axis=-1)
    found = []
    for one in (tally, changed):
        scored = Scored("", tuple(settings), one)
        finals, allowed = in_views(UNITS, lambda unit, s=scored: finalists(grid, s, unit))  # type: ignore[misc]
        found.append([{finals[n] for n in np.flatnonzero(view)} for view in allowed])
    assert found[0][5] == found[1][5]
    assert found[0] != found[1]
    assert {setting.shifts for setting in found[0][0]} == {1, 2}
    assert {setting.refine for setting in found[0][0]} == {"none", "guided"}


@pytest.fixture
def report_of(
    halves: Callable[..., Dataset], tiny_recipe: Callable[..., Recipe], meter: Meter
) -> Callable[..., object]:
    def run(*overrides: str, **given: object) -> object:
        tried = Candidates(blocks=(1,), weights=(0.0, 0.5), ks=(9,), temperatures=(0.05,), widths=(4, 12))
        recipe = tiny_recipe("objective.kind=kl", "index.engine=exact", *overrides)
        settings = {"candidates": tried, "meter": meter, **given}
        return tune(halves(), recipe, group="1", **settings)  # type: ignore[arg-type]

    return run


def test_metrics_shifts_and_refinement_are_tried(report_of: Callable[..., object]) -> None:
    report = report_of(write="best")
    tried = {row.setting.reduction for row in report.earlier}  # type: ignore[attr-defined]
    assert tried == {
        Reduction(), Reduction("class", 12, 0.1), Reduction("class", 4, 0.1),
        Reduction("class", 12, 0.3), Reduction("whiten", 12, 0.1),
    }  # fmt: skip
    finals = {(r.setting.shifts, r.setting.refine) for r in report.rows}  # type: ignore[attr-defined]
    assert finals == {(1, "none"), (1, "guided"), (2, "none"), (2, "guided")}
    assert [choice.name for choice in report.choices] == ["fast", "balanced", "best"]  # type: ignore[attr-defined]
    plain = report.rows[0].setting  # type: ignore[attr-defined]
    assert (plain.weight, plain.reduction, plain.shifts) == (0.0, Reduction(), 1)
    best = report.choices[-1]  # type: ignore[attr-defined]
    assert report.chosen == best.setting and report.recipe.image.shifts == best.setting.shifts  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (("rerank.candidates=20",), "Re-ranking was left out"),
        (("image.flip=true",), "image.flip"),
        (("features.metric=class", "features.shrinkage=ledoit-wolf", "features.width=8"), "ledoit-wolf"),
        (("features.projection=none",), "projection=none takes no metric"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence(
    overrides: tuple[str, ...], note: str, report_of: Callable[..., object]
) -> None:
    report = report_of(*overrides)
    assert any(note in line for line in report.notes)  # type: ignore[attr-defined]
    assert report.recipe.rerank.candidates is None and not report.recipe.image.flip  # type: ignore[attr-defined]


def test_a_pca_of_the_base_recipe_is_tried(report_of: Callable[..., object]) -> None:
    report = report_of("features.pca=8", "features.whiten=half", "transfer.k=9", "transfer.temperature=0.05")
    wide = Reduction("pca", 8, whiten="half")
    assert wide in {row.setting.reduction for row in report.earlier}  # type: ignore[attr-defined]
    setting = Setting(1, 0.0, 9, 0.05, wide)
    recipe = setting.apply(report.recipe)  # type: ignore[attr-defined]
    assert (recipe.features.pca, recipe.features.whiten, recipe.features.metric) == (8, "half", "none")


def test_a_metric_that_cannot_be_fitted_is_left_out(report_of: Callable[..., object]) -> None:
    tried = Candidates((1,), (0.0,), (9,), (0.05,), widths=(4, 500))
    report = report_of(candidates=tried)
    assert any("a width of 500 is more" in note for note in report.notes), report.notes  # type: ignore[attr-defined]
    assert Reduction("class", 4, 0.1) in {row.setting.reduction for row in report.earlier}  # type: ignore[attr-defined]


def test_times_are_measured_piece_by_piece(report_of: Callable[..., object]) -> None:
    seen: list[tuple[Mapping[Setting, Cost], Mapping[Setting, Cost]]] = []

    def meter(blocks: object, settings: list[Setting]) -> Mapping[Setting, Cost]:
        more = [*settings, replace(settings[0], weight=0.5), replace(settings[0], shifts=2)]
        costs = measure(blocks, more)  # type: ignore[arg-type]
        plain, other, shifted = (costs[setting] for setting in (settings[0], *more[-2:]))
        assert shifted.features == 4 * plain.features and shifted.search == 4 * plain.search
        assert other.patch_bytes > plain.patch_bytes
        assert min(other.features, plain.search, plain.labels) > 0
        assert plain.total == plain.features + plain.search + plain.labels
        seen.append((costs, costs))
        return costs

    report_of(meter=meter)
    assert seen
