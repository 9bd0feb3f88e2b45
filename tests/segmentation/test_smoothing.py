"""The moving average of class shares, against the sum that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.errors import ConfigError
from segmentation import Segmenter
from segmentation.smoothing import Smoother
from tests.videos import halves

World = Callable[..., Segmenter]


@pytest.mark.parametrize("weight", [0.0, 0.6])
def test_shares_are_the_weighted_sum_of_the_past(world: World, weight: float) -> None:
    segmenter = world()
    results = [segmenter.segment(frame) for frame in halves(4, noise=160)]
    smoother = Smoother(weight, segmenter.classes)
    for t, result in enumerate(map(smoother, results)):
        terms = [weight**t * results[0].shares]
        terms += [(1 - weight) * weight ** (t - n) * results[n].shares for n in range(1, t + 1)]
        assert np.allclose(result.shares, sum(terms), atol=1e-6)
        assert np.allclose(result.shares.sum(axis=2), 1, atol=1e-5)
        assert result.mask.shape == (48, 70) and result.pixels.shares is result.shares


def test_what_is_left_blank_stays_blank(
    world: World, scene: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    segmenter = world(transfer={"unknown": 0.01})
    frames = [scene(seed, (64, 96))[0] for seed in range(3)]
    for frame in frames:
        frame[:, 48:] = (120, 20, 130)  # a colour that no class has
    smoother = Smoother(0.6, segmenter.classes)
    for frame in frames:
        result = segmenter.segment(frame)
        smooth, blank = smoother(result), result.columns == -1
        assert blank.any() and not blank.all()
        assert np.array_equal(smooth.columns == -1, blank)
        assert np.array_equal(smooth.mask == segmenter.classes.blank_id, blank)
        assert (smooth.winners >= 0).all()


def test_another_size_begins_anew(world: World) -> None:
    segmenter = world()
    smoother = Smoother(0.9, segmenter.classes)
    first = segmenter.segment(halves(1)[0])
    smoother(first)
    other = replace(first, shares=first.shares[:1])
    assert smoother(other) is other


def test_a_weight_out_of_range_is_refused(world: World) -> None:
    segmenter = world()
    for weight in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="below 1"):
            Smoother(weight, segmenter.classes)
