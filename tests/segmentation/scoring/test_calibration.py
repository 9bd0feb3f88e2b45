from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.errors import ConfigError
from segmentation import evaluate
from segmentation.pixels import Strip
from segmentation.scoring.calibration import TAUS, CalibrationFit


def drawn(tau: float, seed: int, *, present: tuple[int, ...] = (0, 1, 2, 3)) -> tuple[object, np.ndarray]:
    """Shares of pixels, and truths drawn from the distribution that they have at ``tau``."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(len(present)) * 0.8, (60, 80))  # (H, W, P)
    powers = np.maximum(shares, 1e-4) ** (1 / tau)
    chances = (powers / powers.sum(axis=-1, keepdims=True)).cumsum(axis=-1)
    drawn = (generator.random((60, 80, 1)) > chances).sum(axis=-1).clip(max=len(present) - 1)
    strip = Strip(slice(0, 60, 1), shares.transpose(2, 0, 1).astype(np.float32), np.array(present))
    return SimpleNamespace(strips=lambda every: [strip]), np.array(present)[drawn].astype(np.int32)


@pytest.mark.parametrize("number", [14, 24, 33])
def test_the_temperature_that_truths_were_drawn_at_is_found(number) -> None:
    fit = CalibrationFit(4)
    for seed in range(4):
        fit.add(*drawn(float(TAUS[number]), seed))
    found = fit.best()
    assert found is not None and not found.at_limit
    assert abs(np.log2(found.tau) - np.log2(TAUS[number])) <= 0.126  # a step of the grid
    assert found.pixels == 4 * 60 * 80
    assert found.ece < 0.02
    if number != 24:  # tau = 1
        assert found.ece < found.ece_shares / 3 and found.nll < found.nll_shares


def test_the_likelihood_is_that_of_the_true_class() -> None:
    pixels, truth = drawn(1.0, 0, present=(1, 3))
    truth[:5] = 0  # a class without any share
    truth[5:10] = -1
    fit = CalibrationFit(4)
    fit.add(pixels, truth)
    (strip,) = pixels.strips(1)
    shares = np.full((4, 60, 80), 1e-4)
    shares[[1, 3]] = np.maximum(strip.values, 1e-4)
    chances = shares / shares.sum(axis=0)
    rows, cols = np.nonzero(truth >= 0)
    expected = -np.log(chances[truth[rows, cols], rows, cols]).mean()
    assert fit.best().nll_shares == pytest.approx(expected, rel=1e-6)
    assert fit.best().pixels == 55 * 80


def test_nothing_labelled_gives_no_temperature() -> None:
    fit = CalibrationFit(4)
    pixels, truth = drawn(1.0, 0)
    fit.add(pixels, np.full_like(truth, -1))
    assert fit.best() is None


@pytest.mark.parametrize("refine", ["none", "guided"])
def test_an_evaluation_fits_what_then_lowers_the_error(world, dataset, scene, refine) -> None:
    weak = {"temperature": 1.0, "k": 60, "refine": refine, "refine_radius": 4}
    data = dataset([scene(seed, (48, 70)) for seed in range(4)])
    before = evaluate(world(transfer=weak), data, calibrate=True)
    assert before.calibration is not None and before.calibration.tau < 1  # it was too modest
    after = evaluate(world(transfer={**weak, "calibration": before.calibration.tau}), data, calibrate=True)
    np.testing.assert_array_equal(after.confusion, before.confusion)
    assert after.reliability.ece < before.reliability.ece / 2
    assert after.reliability.ece == pytest.approx(before.calibration.ece, abs=5e-3)
    assert after.calibration == before.calibration  # of the shares, whatever is in force


def test_images_of_the_memory_do_not_calibrate_themselves(world, dataset, scene, monkeypatch) -> None:
    data = dataset([scene(0, (48, 70))])
    monkeypatch.setattr("segmentation.scoring.memory.MemoryImages.numbers_of", lambda *_: [0])
    with pytest.raises(ConfigError, match=r"scene-0 is in the memory.*add --leave-out"):
        evaluate(world(), data, calibrate=True)
    assert evaluate(world(), data).in_memory == 1
