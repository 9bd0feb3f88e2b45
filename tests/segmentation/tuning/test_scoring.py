"""Tallies against confusion matrices, and predictions against the segmenter's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from retrieval.neighbors import Neighbors
from segmentation.scoring.metrics import confusion_matrix, mean_iou
from segmentation.segmenter import Segmenter
from segmentation.tuning import scoring
from segmentation.tuning.scoring import add_up, confusion_of, miou_of, score_grid, tally_of


def test_mean_iou_of_a_tally_is_that_of_its_confusion_matrix() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        confusion = generator.integers(0, 50, (4, 4)) * (generator.random((4, 4)) < 0.6)
        confusion[3] = confusion[:, 3] = 0  # a class that does not occur
        assert miou_of(tally_of(confusion)) == pytest.approx(mean_iou(confusion), nan_ok=True)
    assert np.isnan(miou_of(np.zeros((4, 2), np.int64)))


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_prediction_is_the_segmenters(
    fit: str, world: Callable[..., Segmenter], scene: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    segmenter = world(image={"fit": fit})
    photo, truth = scene(3, (50, 90))
    truth[:4] = -1
    result = segmenter.segment(photo)
    made = confusion_of(
        result.neighbors,
        truth.astype(np.int32),
        result.geometry,
        segmenter.extractor.patch_size,
        temperature=segmenter.temperature,
    )
    assert np.array_equal(made, confusion_matrix(truth, result.columns, 4))


def test_every_k_and_temperature_is_that_of_a_segmenter_with_it(
    world: Callable[..., Segmenter], scene: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    photo, truth = scene(4, (40, 70))
    settings = [(1, 0.05), (7, 0.01), (7, 1.0)]
    wide = world(k=20).segment(photo)
    tallies = score_grid(wide.neighbors, truth.astype(np.int32), wide.geometry, (8, 8), settings)
    for (k, temperature), tally in zip(settings, tallies, strict=True):
        own = world(k=k, transfer={"temperature": temperature}).segment(photo)
        assert np.array_equal(tally, tally_of(confusion_matrix(truth, own.columns, 4)))


def test_rows_that_stand_for_several_patches_are_scored_as_a_search_for_fewer_is(
    world: Callable[..., Segmenter], scene: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> None:
    photo, truth = scene(6, (40, 70))
    geometry = world().segment(photo).geometry
    generator = np.random.default_rng(2)
    bank = 24, 9  # patches of the photo, rows found for each
    counts = generator.choice([1, 400], bank).astype(np.float32)
    labels = np.eye(4, dtype=np.uint8)[generator.integers(0, 4, bank)] * 255
    similarities = -np.sort(-generator.uniform(0.5, 0.6, bank), axis=1).astype(np.float32)
    found = Neighbors(np.tile(np.arange(9), (24, 1)), similarities, labels, counts)
    direct = Neighbors(found.ids[:, :4], similarities[:, :4], labels[:, :4], counts[:, :4])
    truth = truth.astype(np.int32)
    (tally,) = score_grid(found, truth, geometry, (8, 8), [(4, 0.1)])
    assert np.array_equal(tally, tally_of(confusion_of(direct, truth, geometry, (8, 8), temperature=0.1)))
    ones = Neighbors(direct.ids, direct.similarities, direct.labels)
    assert not np.array_equal(
        tally, tally_of(confusion_of(ones, truth, geometry, (8, 8), temperature=0.1))
    ), "the weights decide"


def test_of_a_large_image_every_other_pixel_is_scored(
    world: Callable[..., Segmenter],
    scene: Callable[..., tuple[np.ndarray, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segmenter = world()
    photo, truth = scene(5, (60, 80))
    result = segmenter.segment(photo)
    monkeypatch.setattr(scoring, "PIXELS", 60 * 80 // 4)
    made = confusion_of(
        result.neighbors, truth.astype(np.int32), result.geometry, (8, 8), temperature=segmenter.temperature
    )
    assert np.array_equal(made, confusion_matrix(truth[1::2, 1::2], result.columns[1::2, 1::2], 4))


def test_tallies_are_added_up_by_unit() -> None:
    tallies = np.random.default_rng(1).integers(0, 9, (4, 2, 3, 2))  # images, settings, classes
    total = add_up(list(tallies), np.array([0, 1, 0, 1]))
    assert np.array_equal(total[:, 0], tallies[0] + tallies[2])
    assert np.array_equal(total[:, 1], tallies[1] + tallies[3])
