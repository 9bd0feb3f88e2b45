from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from segmentation import evaluate
from segmentation.scoring import metrics
from segmentation.scoring.reliability import BINS, Reliability


@pytest.fixture
def case():
    generator = np.random.default_rng(0)
    truth = generator.integers(-1, 4, (50, 70)).astype(np.int32)
    predicted = np.where(generator.random((50, 70)) < 0.6, np.maximum(truth, 0), 3).astype(np.int32)
    confidence = generator.random((50, 70)).astype(np.float32)
    confidence[0, :5] = [0, 1, 1, 1, 0]
    return truth, predicted, confidence


def test_the_calibration_error_is_the_weighted_gap_of_bins(case) -> None:
    truth, predicted, confidence = case
    table = Reliability(4)
    for rows in (slice(0, 20), slice(20, 50)):  # sums stream
        table.add(truth[rows], predicted[rows], confidence[rows])
    inside = truth >= 0
    right, sure = (predicted == truth)[inside], confidence[inside].astype(float)
    expected, total = 0.0, 0
    for number in range(BINS):
        upper = (number + 1) / BINS if number < BINS - 1 else 2
        chosen = (sure >= number / BINS) & (sure < upper)
        bin = table.bins()[number]
        assert bin.pixels == chosen.sum()
        assert bin.accuracy == pytest.approx(right[chosen].mean())
        expected += chosen.sum() * abs(right[chosen].mean() - sure[chosen].mean())
        total += int(chosen.sum())
    assert total == inside.sum()
    assert table.ece == pytest.approx(expected / total, abs=1e-6)


def test_confidence_that_is_right_has_no_error() -> None:
    table = Reliability(2)
    truth = np.zeros(1000, np.int32)
    predicted = (np.arange(1000) >= 700).astype(np.int32)
    table.add(truth, predicted, np.full(1000, 0.7, np.float32))
    assert table.ece == pytest.approx(0, abs=1e-6)
    table.add(truth, truth, np.full(1000, 0.2, np.float32))
    assert table.ece == pytest.approx(0.4, abs=1e-6)


def test_coverage_begins_with_all_pixels_and_ends_with_the_surest(case) -> None:
    truth, predicted, confidence = case
    table = Reliability(4)
    table.add(truth, predicted, confidence)
    points = table.coverage()
    confusion = metrics.confusion_matrix(truth, predicted, 4)
    assert points[0].kept == 1
    assert points[0].accuracy == pytest.approx(metrics.pixel_accuracy(confusion))
    assert points[0].miou == pytest.approx(metrics.mean_iou(confusion))
    for point in points[1::40]:
        kept = confidence >= np.float32(point.confidence)
        part = metrics.confusion_matrix(np.where(kept, truth, -1), predicted, 4)
        assert point.kept == pytest.approx(part.sum() / confusion.sum(), abs=2e-3)
        assert point.miou == pytest.approx(metrics.mean_iou(part), abs=2e-2)
    assert all(later.kept < earlier.kept for earlier, later in pairwise(points))


def test_without_labelled_pixels_there_is_nothing() -> None:
    table = Reliability(3)
    table.add(np.full(5, -1, np.int32), np.zeros(5, np.int32), np.ones(5, np.float32))
    assert math.isnan(table.ece) and table.coverage() == []
    assert all(bin.pixels == 0 for bin in table.bins())


def test_an_evaluation_reports_it(world, dataset, scene) -> None:
    scenes = [scene(seed, (48, 70)) for seed in range(3)]
    subject = world(transfer={"temperature": 1.0, "k": 60})  # right, and not sure of it
    report = evaluate(subject, dataset(scenes))
    expected = Reliability(4)
    for photo, columns in scenes:
        result = subject.segment(photo)
        expected.add(columns.astype(np.int32), result.columns, result.confidence)
    assert report.reliability.ece == pytest.approx(expected.ece)
    assert report.reliability.ece > 0.1
    data = report.to_json()
    assert data["ece"] == pytest.approx(expected.ece)
    assert len(data["reliability"]["bins"]) == BINS
    assert data["calibration"] is None and data["defect"] is None
