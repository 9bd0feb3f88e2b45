"""Merging rows into prototypes: on data whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retrieval.edit.prototypes import lloyd, make_prototypes, nearest_centres, rarity, share_out


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_budgets_add_up_and_fit_their_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 500, 40)
    importance = sizes * rng.uniform(0.1, 20, 40)
    total = int(0.4 * sizes.sum())
    budget = share_out(importance, sizes, total)
    assert (budget >= 1).all() and (budget <= sizes).all()
    assert abs(int(budget.sum()) - total) <= 40  # rounding, and the one that every cell gets
    free = (budget > 1) & (budget < sizes)
    assert np.ptp((budget / importance)[free]) < 0.6 / importance[free].min() * 2


def test_a_budget_of_every_row_gives_every_row() -> None:
    assert share_out(np.array([1.0, 9.0, 1.0]), np.array([5, 1, 30]), 36).tolist() == [5, 1, 30]
    assert share_out(np.array([1.0, 1.0]), np.array([1, 1]), 1).tolist() == [1, 1]


def test_rare_classes_count_more_and_absent_ones_nothing() -> None:
    counts = rarity(np.array([90.0, 10.0, 0.0]), 0.5)
    np.testing.assert_allclose(counts, [0.9**-0.5, 0.1**-0.5, 0])
    np.testing.assert_allclose(rarity(np.array([3.0, 1.0]), 0), [1, 1])


def test_every_point_goes_to_its_nearest_centre() -> None:
    points, centres = torch.randn(9000, 5, generator=generator()), torch.randn(7, 5, generator=generator(1))
    expected = torch.cdist(points.double(), centres.double()).argmin(dim=1)
    assert (nearest_centres(points, centres) == expected).float().mean() > 0.9995  # float32 ties


def test_k_means_ends_where_each_centre_is_the_weighted_mean_of_its_points() -> None:
    points = torch.randn(300, 4, generator=generator())
    weights = torch.rand(300, generator=generator(1)) + 0.1
    nearest, centres = lloyd(points, 6, passes=200, generator=generator(2), weights=weights)
    assert (nearest == nearest_centres(points, centres)).all()
    for number in range(6):
        inside = nearest == number
        mean = (points[inside] * weights[inside, None]).sum(dim=0) / weights[inside].sum()
        torch.testing.assert_close(centres[number], mean, atol=1e-4, rtol=0)


def test_more_centres_than_different_points_are_no_harm() -> None:
    points = torch.eye(3).repeat(10, 1)
    nearest, _ = lloyd(points, 8, passes=5, generator=generator())
    assert len(torch.unique(points[nearest == nearest[0]], dim=0)) == 1


def copies(each: int, noise: float) -> torch.Tensor:
    """Unit vectors around one place."""
    rows = torch.eye(16)[:1].repeat(each, 1)
    return F.normalize(rows + noise * torch.randn(rows.shape, generator=generator(3)), dim=1)


def test_a_prototype_is_its_members_mean_and_names_the_nearest_of_them() -> None:
    vectors = copies(9, 0.2)
    labels = F.one_hot(torch.arange(9) % 3, 3).float()
    counts = torch.arange(1.0, 10.0)
    found = make_prototypes(vectors, labels, counts, 2 * counts, 1, label_scale=0.7, generator=generator())
    mean = F.normalize((vectors * counts[:, None]).sum(dim=0), dim=0)
    torch.testing.assert_close(found.vectors[0], mean)
    torch.testing.assert_close(found.labels[0], torch.tensor([12.0, 15.0, 18.0]) / 45)
    assert found.multiplicity.tolist() == [90.0]
    assert found.central.tolist() == [int((vectors @ mean).argmax())]


def test_rows_at_one_place_are_kept_apart_by_their_labels() -> None:
    """A border: the same features under two labels do not become one mixture while there is room."""
    vectors = copies(40, 0.02)
    labels = F.one_hot(torch.arange(40) % 2, 2).float()
    found = make_prototypes(
        vectors, labels, torch.ones(40), torch.ones(40), 8, label_scale=0.7, generator=generator(1)
    )
    assert (found.labels.max(dim=1).values > 0.99).all()
    assert found.multiplicity.sum() == 40


def test_room_for_every_row_changes_none() -> None:
    vectors = copies(20, 0.3)
    labels = torch.rand(20, 3, generator=generator())
    labels /= labels.sum(dim=1, keepdim=True)
    found = make_prototypes(
        vectors, labels, torch.ones(20), torch.ones(20), 20, label_scale=0.7, generator=generator()
    )
    torch.testing.assert_close(found.vectors, vectors)
    torch.testing.assert_close(found.labels, labels)
    assert found.central.tolist() == list(range(20))
