"""The metric that knows the labels: against one written out row by row, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from indexer.features.metric import (
    Metric,
    MetricSums,
    fit_metric,
    fourth_powers,
    ledoit_wolf,
    metric_key,
)
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError

Floats = npt.NDArray[np.float64]

#: Classes of the toy; the last has no patch.
CLASSES = 5


def toy(rows: int = 300, width: int = 12, seed: int = 0) -> tuple[Floats, Floats]:
    """Unit vectors whose classes lie apart along a few axes and vary along others; soft labels."""
    random = np.random.default_rng(seed)
    shares = np.zeros((rows, CLASSES))
    shares[:, :-1] = random.dirichlet([0.2] * (CLASSES - 1), rows)
    hard = min(rows, 50)  # these are of one class alone
    shares[:hard, :-1] = np.eye(CLASSES - 1)[random.integers(0, CLASSES - 1, hard)]
    centres = random.normal(size=(CLASSES, width))
    mixing = random.normal(size=(width, width)) * np.linspace(0.2, 2, width)
    vectors = 0.5 + shares @ centres + random.normal(size=(rows, width)) @ mixing
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), shares


def summed(vectors: Floats, shares: Floats, batch: int = 64) -> MetricSums:
    sums = MetricSums(vectors.shape[1], shares.shape[1])
    for start in range(0, len(vectors), batch):
        sums.add(vectors[start : start + batch], shares[start : start + batch])
    return sums


def residuals_by_hand(vectors: Floats, shares: Floats, kind: str) -> Floats:
    """Every row minus the share-weighted mean of its classes, by loops."""
    centred = vectors - vectors.mean(axis=0)
    if kind == "whiten":
        return centred
    means = [
        np.average(centred, axis=0, weights=share) if share.sum() else np.zeros(vectors.shape[1])
        for share in shares.T
    ]
    return np.stack(
        [
            row - sum(s * mean for s, mean in zip(share, means, strict=True))
            for row, share in zip(centred, shares, strict=True)
        ]
    )


def similarities_by_hand(
    vectors: Floats, shares: Floats, kind: str, shrinkage: float, width: int | None
) -> Floats:
    """Cosines of all rows under the metric, by the formula as it stands in the papers."""
    residuals = residuals_by_hand(vectors, shares, kind)
    within = np.mean([np.outer(r, r) for r in residuals], axis=0)
    even = np.eye(len(within)) * np.diag(within).mean()
    values, axes = np.linalg.eigh((1 - shrinkage) * within + shrinkage * even)
    root = axes @ np.diag(1 / np.sqrt(values)) @ axes.T
    centred = vectors - vectors.mean(axis=0)
    # whitened by their own covariance all directions are even: those count that were largest before
    _, _, leading = np.linalg.svd(centred @ root if kind == "class" else centred, full_matrices=False)
    measured = centred @ root @ leading[:width].T
    measured /= np.linalg.norm(measured, axis=1, keepdims=True)
    return np.asarray(measured @ measured.T)


def similarities(metric: Metric, vectors: Floats) -> Floats:
    measured = (vectors - metric.mean) @ metric.directions.T
    measured /= np.linalg.norm(measured, axis=1, keepdims=True)
    return np.asarray(measured @ measured.T)


@pytest.mark.parametrize("kind", ["class", "whiten"])
@pytest.mark.parametrize(("shrinkage", "width"), [(0.1, 3), (0.1, None), (0.0, 3), (1.0, 4)])
def test_as_written_out_row_by_row(kind: str, shrinkage: float, width: int | None) -> None:
    vectors, shares = toy()
    metric = fit_metric(summed(vectors, shares), kind=kind, shrinkage=shrinkage, width=width)
    assert metric.directions.shape == (width or vectors.shape[1], vectors.shape[1])
    assert metric.directions.dtype == metric.mean.dtype == np.float32
    wanted = similarities_by_hand(vectors, shares, kind, shrinkage, width)
    np.testing.assert_allclose(similarities(metric, vectors), wanted, atol=2e-5)
    np.testing.assert_allclose(metric.patches, shares.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_sums_do_not_depend_on_batches(batch: int) -> None:
    vectors, shares = toy()
    wanted = fit_metric(summed(vectors, shares), kind="class", shrinkage=0.1, width=4)
    metric = fit_metric(summed(vectors, shares, batch), kind="class", shrinkage=0.1, width=4)
    np.testing.assert_allclose(metric.directions, wanted.directions, atol=1e-5)
    np.testing.assert_allclose(metric.mean, wanted.mean, atol=1e-7)


@pytest.mark.parametrize("kind", ["class", "whiten"])
def test_within_class_covariance_from_sums(kind: str) -> None:
    vectors, shares = toy()
    residuals = residuals_by_hand(vectors, shares, kind)
    np.testing.assert_allclose(
        summed(vectors, shares).within(kind), residuals.T @ residuals / len(residuals), atol=1e-13
    )


def test_soft_labels_are_not_hardened() -> None:
    vectors, shares = toy()
    hard = np.eye(CLASSES)[shares.argmax(axis=1)]
    soft = fit_metric(summed(vectors, shares), kind="class", shrinkage=0.1, width=4)
    hardened = fit_metric(summed(vectors, hard), kind="class", shrinkage=0.1, width=4)
    assert np.abs(similarities(soft, vectors) - similarities(hardened, vectors)).max() > 0.01


def test_it_tells_classes_apart_where_they_hide_in_small_directions() -> None:
    random = np.random.default_rng(1)
    classes = random.integers(0, 2, 400)
    vectors = random.normal(size=(400, 8)) * [5, 5, 5, 5, 5, 5, 5, 0.1]
    vectors[:, 7] += classes  # the other seven say nothing
    same = classes[:, None] == classes[None, :]

    def gap(metric: Metric) -> float:
        found = similarities(metric, vectors)
        return float(found[same].mean() - found[~same].mean())

    sums = summed(vectors, np.eye(2)[classes])
    fitted = {kind: fit_metric(sums, kind=kind, shrinkage=0.0, width=None) for kind in ("class", "whiten")}
    assert gap(fitted["class"]) > 1 > 3 * gap(fitted["whiten"])
    alone = fit_metric(sums, kind="class", shrinkage=0.0, width=1).directions[0]
    assert np.abs(alone).argmax() == 7 and np.abs(alone)[:7].max() < 0.05 * np.abs(alone)[7]


def ledoit_wolf_by_hand(residuals: Floats) -> float:
    """The paper's formulas with its own scalar product, <A, B> = tr(A B') / p, row by row."""
    rows, width = residuals.shape
    sample = residuals.T @ residuals / rows
    m = np.trace(sample) / width
    d2 = np.square(sample - m * np.eye(width)).sum() / width
    b2 = sum(np.square(np.outer(r, r) - sample).sum() / width for r in residuals) / rows**2
    return float(min(b2, d2) / d2)


@pytest.mark.parametrize("kind", ["class", "whiten"])
@pytest.mark.parametrize("rows", [8, 60, 300])
def test_ledoit_wolf_as_in_the_paper(kind: str, rows: int) -> None:
    vectors, shares = toy(rows)
    sums = summed(vectors, shares)
    parts = np.array_split(np.arange(rows), 3)
    fourth = sum(fourth_powers(vectors[p], shares[p], sums.mean, sums.class_means(kind)) for p in parts)
    share = ledoit_wolf(sums.within(kind), fourth / rows, rows)
    assert share == pytest.approx(ledoit_wolf_by_hand(residuals_by_hand(vectors, shares, kind)), rel=1e-6)
    assert 0 < share <= 1


def test_an_even_spread_needs_no_estimate() -> None:
    assert ledoit_wolf(np.eye(3), 9.0, 10) == 1.0


def test_a_direction_without_variance_counts_nothing() -> None:
    vectors, shares = toy()
    flat = np.concatenate([vectors, np.full((len(vectors), 1), 0.3)], axis=1)
    metric = fit_metric(summed(flat, shares), kind="class", shrinkage=0.0, width=None)
    assert np.isfinite(metric.directions).all()
    assert np.abs(metric.directions[:, -1]).max() < 1e-3 * np.abs(metric.directions).max()


def test_signs_are_fixed() -> None:
    vectors, shares = toy()
    directions = fit_metric(summed(vectors, shares), kind="class", shrinkage=0.1, width=4).directions
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    assert (largest > 0).all()


@pytest.mark.parametrize("kind", ["class", "whiten"])
def test_nothing_to_fit_on_is_refused(kind: str) -> None:
    with pytest.raises(DatasetError, match=r"none was found in any image"):
        fit_metric(MetricSums(4, 2), kind=kind, shrinkage=0.1, width=None)
    vectors, shares = np.tile(np.float32([0.6, 0.8]), (6, 1)), np.eye(2)[[0, 1] * 3]
    with pytest.raises(DatasetError, match=r"all 6 labelled ones are the same"):
        fit_metric(summed(vectors, shares), kind=kind, shrinkage=0.1, width=None)
    vectors, shares = toy(rows=9)
    with pytest.raises(ConfigError, match=r"features\.width=9 needs more labelled patches .* there are 9"):
        fit_metric(summed(vectors, shares), kind=kind, shrinkage=0.1, width=9)


def test_classes_that_tell_nothing_are_refused() -> None:
    vectors, _ = toy()
    alone = np.eye(CLASSES)[np.full(len(vectors), 2)]
    with pytest.raises(DatasetError, match=r"of 5 only one has labelled patches"):
        fit_metric(summed(vectors, alone), kind="class", shrinkage=0.1, width=None)
    fit_metric(summed(vectors, alone), kind="whiten", shrinkage=0.1, width=None)
    twins = vectors[[0, 1, 2] * 4]
    with pytest.raises(DatasetError, match=r"within each class all are the same"):
        fit_metric(summed(twins, np.eye(3)[[0, 1, 2] * 4]), kind="class", shrinkage=0.1, width=None)


def test_the_key_is_of_features_and_classes() -> None:
    def classes(*names: str) -> ClassMap:
        return ClassMap(tuple(ClassInfo(i, name, (0, 0, 0)) for i, name in enumerate(names)))

    made = {"weights": "a", "preprocessing": "b", "recipe": "c"}
    key = metric_key(made, classes("x", "y"))
    assert key.shape == (32,) and key.dtype == np.uint8
    np.testing.assert_array_equal(key, metric_key({**made, "other": "d"}, classes("x", "y")))
    assert (key != metric_key({**made, "recipe": "d"}, classes("x", "y"))).any()
    assert (key != metric_key(made, classes("x", "z"))).any()
