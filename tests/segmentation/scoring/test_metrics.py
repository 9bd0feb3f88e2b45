from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from retrieval.errors import MaskError
from segmentation.scoring import metrics


def random_masks(classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A truth with unlabelled pixels, and a prediction that is right about half of the time."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(-1, classes, (61, 47))
    guess = generator.integers(0, classes, truth.shape)
    return truth, np.where((generator.random(truth.shape) < 0.5) & (truth >= 0), truth, guess)


def test_iou_equals_torchmetrics() -> None:
    truth, predicted = random_masks()
    confusion = metrics.confusion_matrix(truth, predicted, 6)
    target, guess = torch.from_numpy(truth), torch.from_numpy(predicted)
    each = MulticlassJaccardIndex(6, average="none", ignore_index=-1)(guess, target)
    mean = MulticlassJaccardIndex(6, average="macro", ignore_index=-1)(guess, target)
    np.testing.assert_allclose(metrics.iou_per_class(confusion), each.numpy(), atol=1e-6)
    assert metrics.mean_iou(confusion) == pytest.approx(float(mean), abs=1e-6)


def test_accuracies_equal_torchmetrics() -> None:
    truth, predicted = random_masks(seed=1)
    confusion = metrics.confusion_matrix(truth, predicted, 6)
    target, guess = torch.from_numpy(truth), torch.from_numpy(predicted)
    micro = MulticlassAccuracy(6, average="micro", ignore_index=-1)(guess, target)
    macro = MulticlassAccuracy(6, average="macro", ignore_index=-1)(guess, target)
    assert metrics.pixel_accuracy(confusion) == pytest.approx(float(micro), abs=1e-6)
    assert metrics.mean_accuracy(confusion) == pytest.approx(float(macro), abs=1e-6)


def test_confusion_has_the_truth_in_its_rows() -> None:
    truth, predicted = np.array([[0, 0, 1, -1]]), np.array([[1, 0, 1, 2]])
    expected = [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    confusion = metrics.confusion_matrix(truth, predicted, 3)
    assert confusion.dtype == np.int64
    np.testing.assert_array_equal(confusion, expected)


def test_a_class_in_neither_is_left_out_of_the_mean_and_a_missed_one_is_not() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])
    confusion = metrics.confusion_matrix(truth, predicted, 3)
    iou = metrics.iou_per_class(confusion)
    np.testing.assert_array_equal(iou, [0.5, 0.0, np.nan])
    assert metrics.mean_iou(confusion) == 0.25
    assert metrics.hummingbird_miou(confusion) == pytest.approx(0.5 / 3)  # the absent class counts as 0


def test_swapped_classes_score_low_where_the_peers_see_nothing_wrong() -> None:
    truth, _ = random_masks(classes=4)
    swapped = np.array([1, 0, 3, 2])[np.maximum(truth, 0)]
    confusion = metrics.confusion_matrix(truth, swapped, 4)
    assert metrics.mean_iou(confusion) == 0
    assert metrics.pixel_accuracy(confusion) == 0
    assert metrics.hummingbird_miou(confusion) == 1


def test_the_peers_number_is_the_best_over_all_renamings() -> None:
    truth, predicted = random_masks(classes=4, seed=3)
    predicted = np.array([2, 0, 1, 3])[predicted]
    confusion = metrics.confusion_matrix(truth, predicted, 4)
    scores = [
        np.nan_to_num(metrics.iou_per_class(confusion[:, order])).mean()
        for order in map(list, permutations(range(4)))
    ]
    assert metrics.hummingbird_miou(confusion) == pytest.approx(max(scores))


def test_scores_do_not_depend_on_the_order_of_classes() -> None:
    truth, predicted = random_masks()
    order = np.random.default_rng(5).permutation(6)
    table = np.append(order, -1)
    before = metrics.confusion_matrix(truth, predicted, 6)
    after = metrics.confusion_matrix(table[truth], table[predicted], 6)
    np.testing.assert_array_equal(metrics.iou_per_class(after)[order], metrics.iou_per_class(before))
    assert metrics.mean_iou(after) == pytest.approx(metrics.mean_iou(before))


def test_no_pixels_give_nan() -> None:
    empty = metrics.confusion_matrix(np.full((2, 2), -1), np.zeros((2, 2), dtype=int), 3)
    for score in (metrics.mean_iou, metrics.pixel_accuracy, metrics.mean_accuracy, metrics.hummingbird_miou):
        assert np.isnan(score(empty))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(MaskError, match="same shape"):
        metrics.confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)
    with pytest.raises(MaskError, match=r"prediction has columns outside 0\.\.1"):
        metrics.confusion_matrix(np.zeros(3, int), np.array([0, 1, 2]), 2)
