from __future__ import annotations

import math

import numpy as np
import pytest

from retrieval.errors import ConfigError
from segmentation import evaluate
from segmentation.scoring.defects import DefectReport, DefectScore, auroc, best_threshold, rates_at


@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs_and_ties_half(seed) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, 30) / 5  # many ties
    positive = generator.random(30) < 0.4
    pairs = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high in scores[positive]
        for low in scores[~positive]
    ]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs))


def test_without_both_kinds_there_is_no_auroc() -> None:
    for positive in (np.ones(3, bool), np.zeros(3, bool)):
        assert math.isnan(auroc(np.arange(3.0), positive))
        assert best_threshold(np.arange(3.0), positive) is None
    assert best_threshold(np.ones(2), np.array([True, False])) is None


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_separates_better(seed) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(25) < 0.5
    scores = generator.random(25) + 0.4 * positive
    chosen = best_threshold(scores, positive)

    def youden(at: float) -> float:
        hits, alarms = rates_at(at, scores, positive)
        return hits - alarms

    assert youden(chosen) == pytest.approx(max(youden(at) for at in scores))


def test_the_widest_gap_decides_between_equals() -> None:
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    assert best_threshold(scores, np.array([False, False, True, True])) == pytest.approx(0.5)


def test_a_memory_that_flatters_proposes_nothing() -> None:
    images = (DefectScore("a", 0.9, True), DefectScore("b", 0.1, False))
    assert DefectReport("pit", images).proposed == pytest.approx(0.5)
    assert DefectReport("pit", images, flatters=True).proposed is None
    assert DefectReport("pit", images, threshold=0.95).rates == (0.0, 0.0)
    assert DefectReport("pit", images).rates is None


def test_an_evaluation_tells_images_with_a_class_from_those_without(world, dataset, scene) -> None:
    scenes = [scene(seed, (48, 70)) for seed in range(8)]
    subject = world(transfer={"calibration": 1.5})
    report = evaluate(subject, dataset(scenes), defect="tree", threshold=0.5)
    assert report.defect is not None and 0 < sum(i.defective for i in report.defect.images) < 8
    assert report.defect.auroc == 1.0 and report.defect.rates == (1.0, 0.0)
    for image, (photo, columns) in zip(report.defect.images, scenes, strict=True):
        assert image.defective == (columns == 2).any()
        assert image.score == pytest.approx(subject.segment(photo).pixels.of_class(2).max())
    assert report.to_json()["defect"]["auroc"] == 1.0
    with pytest.raises(ConfigError, match="no class 'rust'"):
        evaluate(subject, dataset(scenes, name="again"), defect="rust")


def test_images_without_labels_are_not_judged(world, dataset, scene) -> None:
    scenes = [scene(seed, (48, 70)) for seed in range(2)]
    scenes[0][1][:] = -1
    report = evaluate(world(), dataset(scenes), defect="tree")
    assert [image.id for image in report.defect.images] == ["scene-1"]
