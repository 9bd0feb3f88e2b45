from __future__ import annotations

import numpy as np
import pytest

from segmentation.pixels import PixelShares
from segmentation.temperature import FLOOR


def pixels_of(result) -> PixelShares:
    return result.pixels


def whole(pixels: PixelShares, classes: int) -> np.ndarray:
    """All classes' shares before calibration, (C, H, W)."""
    planes = np.zeros((classes, *pixels.size))
    for strip in pixels.strips():
        planes[strip.present, strip.rows] = strip.values
    return planes


#: One grid of patches, and one of tiles.
IMAGES = ({}, {"scale": 1.0, "shifts": 2})


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("refine", ["none", "guided"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_calibrated_confidence_is_the_winners_part_of_the_powers(world, scene, image, refine, tau) -> None:
    photo, _ = scene(1, (61, 90))
    transfer = {"refine": refine, "refine_radius": 4, "temperature": 1.0, "k": 12}
    plain = world(image=image, transfer=transfer).segment(photo)
    result = world(image=image, transfer={**transfer, "calibration": tau}).segment(photo)
    np.testing.assert_array_equal(result.mask, plain.mask)
    shares = whole(result.pixels, 4)
    np.testing.assert_allclose(shares.max(axis=0), plain.confidence, atol=2e-6)
    powers = np.maximum(shares, FLOOR) ** (1 / tau)
    expected = powers / powers.sum(axis=0)
    np.testing.assert_allclose(result.confidence, expected.max(axis=0), atol=1e-5)
    for column in range(4):
        np.testing.assert_allclose(result.pixels.of_class(column), expected[column], atol=1e-5)
    assert np.abs(result.confidence - plain.confidence).max() > (0.01 if tau != 1 else 0)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("refine", ["none", "guided"])
def test_a_raster_goes_on_from_strip_to_strip(world, scene, image, refine, monkeypatch) -> None:
    photo, _ = scene(3, (61, 90))
    result = world(image=image, transfer={"refine": refine, "refine_radius": 4}).segment(photo)
    dense = whole(result.pixels, 4)[:, ::7, ::7]
    if refine == "none":
        monkeypatch.setattr("segmentation.pixels.STRIP", 4 * 90 * 3)
    strips = list(result.pixels.strips(every=7))
    assert [row for strip in strips for row in range(61)[strip.rows]] == list(range(0, 61, 7))
    values = np.concatenate([strip.values for strip in strips], axis=1)
    np.testing.assert_allclose(values, dense[strips[0].present], atol=1e-6)


@pytest.mark.parametrize("image", IMAGES)
def test_the_share_of_a_class_without_calibration_is_the_interpolated_one(world, scene, image) -> None:
    result = world(image=image, transfer={"temperature": 1.0, "k": 12}).segment(scene(1, (61, 90))[0])
    planes = np.stack([result.pixels.of_class(column) for column in range(4)])
    np.testing.assert_allclose(planes.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(planes.max(axis=0), result.confidence, atol=1e-6)


@pytest.mark.parametrize("image", IMAGES)
def test_without_neighbours_there_is_no_confidence(world, scene, image) -> None:
    from retrieval.neighbors import Filter

    subject = world(image=image, transfer={"calibration": 2.0})
    photo, _ = scene(1, (40, 60))
    result = subject.label(subject.describe(photo), filter=Filter(images=[]))
    assert (result.confidence == 0).all() and (result.pixels.of_class(2) == 0).all()
