"""The moving average of class shares, against the sum that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
