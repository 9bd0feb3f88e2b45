"""Scores of classes against small tables worked out by hand, and against a plain loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from retrieval.errors import ConfigError
from segmentation.classification import scores

SHARES = np.array(
    [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=np.float32
)
TRUTH = [(0,), (2,), (1,), (0,), (1,)]


def test_top_counts_true_classes_with_a_share() -> None:
    assert scores.best_columns(SHARES).tolist() == [0, 1, 1, 2, -1]
    assert scores.found_in_top(TRUTH, SHARES, 1).tolist() == [True, False, True, False, False]
    assert scores.found_in_top(TRUTH, SHARES, 2).tolist() == [True, True, True, False, False]
    assert scores.found_in_top(TRUTH, SHARES, 5).tolist() == [True, True, True, False, False]


def test_confusion_and_table() -> None:
    best = scores.best_columns(SHARES)
    matrix = scores.confusion_matrix(TRUTH, best, 3)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    table = scores.class_table(TRUTH, best, ["a", "b", "c"])
    assert [row.n for row in table] == [2, 2, 1]
    assert [row.recall for row in table] == [0.5, 0.5, 0.0]
    assert [row.precision for row in table] == [1.0, 0.5, 0.0]
    assert scores.balanced_accuracy(table) == pytest.approx(1 / 3)


def test_a_class_that_never_occurs_has_no_number() -> None:
    table = scores.class_table([(0,)], np.array([0]), ["a", "b"])
    assert math.isnan(table[1].recall) and math.isnan(table[1].precision)
    assert scores.balanced_accuracy(table) == 1.0


def test_several_true_classes() -> None:
    truth = [(0, 1), (1, 2)]
    shares = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], dtype=np.float32)
    assert scores.found_in_top(truth, shares, 1).tolist() == [True, False]
    assert scores.confusion_matrix(truth, scores.best_columns(shares), 3).sum() == 0
    table = scores.class_table(truth, scores.best_columns(shares), ["a", "b", "c"])
    assert [(row.n, row.recall) for row in table] == [(1, 0.0), (2, 0.5), (1, 0.0)]


def test_average_precision_is_that_of_a_plain_loop() -> None:
    generator = np.random.default_rng(0)
    shares = generator.random((40, 4)).round(1).astype(np.float32)  # with many equals
    has = generator.random((40, 4)) < 0.3
    has[:, 3] = False
    truth = [tuple(int(c) for c in np.flatnonzero(row)) for row in has]
    expected = []
    for column in range(3):
        recall_before, total = 0.0, 0.0
        for bound in sorted(set(shares[:, column].tolist()), reverse=True):
            chosen = shares[:, column] >= bound
            hits = (has[:, column] & chosen).sum()
            recall = hits / has[:, column].sum()
            total += (recall - recall_before) * hits / chosen.sum()
            recall_before = recall
        expected.append(total)
    found = scores.average_precisions(truth, shares)
    np.testing.assert_allclose(found[:3], expected)
    assert math.isnan(found[3])
    assert scores.mean_average_precision(truth, shares) == pytest.approx(np.mean(expected))


def test_standard_errors() -> None:
    assert scores.standard_error(0.5, 100) == pytest.approx(0.05)
    assert math.isnan(scores.standard_error(0.5, 0))
    a = np.array([True, True, True, False])
    b = np.array([True, False, False, False])
    mean, error = scores.paired_difference(a, b)
    assert mean == 0.5 and error == pytest.approx(np.std([0, 1, 1, 0], ddof=1) / 2)
    assert scores.paired_difference(a, a) == (0.0, 0.0)
    with pytest.raises(ConfigError, match="same images"):
        scores.paired_difference(a, b[:3])


def test_a_report_is_strict_json() -> None:
    report = scores.ClassificationReport(
        names=("a", "b"),
        missing=("b",),
        missing_images=1,
        confusion=np.zeros((2, 2), dtype=np.int64),
        per_class=(scores.ClassScore("a", 0, math.nan, math.nan), scores.ClassScore("b", 1, 0.0, math.nan)),
        mean_average_precision=None,
        per_image=(scores.ImageResult("x", ("b",), "a", 1.0, right=False, in_top5=False, in_memory=True),),
        worst=(),
        unlabelled=2,
        skipped=(("y", "broken"),),
        seconds=1.0,
        recipe={},
        dataset={},
        index={},
        versions={},
    )
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["top1"] == 0 and data["per_class"][0]["recall"] is None
    assert data["skipped"] == [{"id": "y", "reason": "broken"}]
    lacking, memory, unlabelled = report.notes
    assert "no image of b: 1 of 1 images" in lacking
    assert "--leave-out" in memory and "2 images have no class" in unlabelled
