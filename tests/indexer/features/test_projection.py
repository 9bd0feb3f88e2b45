"""Projections against materialised outer products, and PCA against numpy's SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.projection import apply_pca, fit_pca, project_dense, project_factored, signs


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_signs_are_balanced_signs_from_the_seed() -> None:
    first, second, other = (
        signs(200, 300, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7, 8)
    )
    assert first.dtype == torch.int8
    assert set(first.unique().tolist()) == {-1, 1}
    assert abs(first.double().mean()) < 4 / (200 * 300) ** 0.5
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_dense_equals_the_matrix_times_the_flat_gradient() -> None:
    g, a = normal(9, 4, seed=0), normal(9, 5, seed=1)
    p = signs(6, 20, generator=torch.Generator().manual_seed(2)).double()
    expected = np.stack(
        [p.numpy() @ np.outer(g[t].numpy(), a[t].numpy()).reshape(-1) / np.sqrt(6) for t in range(9)]
    )
    for rows in (1, 4, 9, 64):
        result = project_dense(g, a, p, rows_at_once=rows)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


def test_factored_is_a_bilinear_form_of_the_gradient() -> None:
    g, a = normal(3, 4, seed=0), normal(3, 5, seed=1)
    u = signs(6, 4, generator=torch.Generator().manual_seed(2)).double()
    v = signs(6, 5, generator=torch.Generator().manual_seed(3)).double()
    result = project_factored(g, a, u, v)
    for t in range(3):
        outer = np.outer(g[t].numpy(), a[t].numpy())
        for j in range(6):
            assert float(result[t, j]) == pytest.approx(u[j].numpy() @ outer @ v[j].numpy() / np.sqrt(6))


@pytest.mark.parametrize("kind", ["factored", "dense"])
def test_inner_products_are_unbiased(kind: str) -> None:
    g = normal(1, 6, seed=0) + normal(2, 6, seed=1) / 2  # two correlated gradients
    a = normal(1, 5, seed=2) + normal(2, 5, seed=3) / 2
    outer = torch.einsum("ti,tj->tij", g, a).flatten(1)
    truth = float(outer[0] @ outer[1])
    estimates = []
    for seed in range(1500):
        generator = torch.Generator().manual_seed(seed)
        if kind == "dense":
            vectors = project_dense(g, a, signs(8, 30, generator=generator).double())
        else:
            u, v = (signs(8, width, generator=generator).double() for width in (6, 5))
            vectors = project_factored(g, a, u, v)
        estimates.append(float(vectors[0] @ vectors[1]))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert truth > 15 * error, "the test would not see a bias"
    assert abs(np.mean(estimates) - truth) < 4 * error


def test_gradient_product_is_the_cosine_of_the_outer_products() -> None:
    g, a = normal(2, 6, seed=4), normal(2, 5, seed=5)
    outer = torch.einsum("ti,tj->tij", g, a).flatten(1)
    cosine = F.cosine_similarity(outer[0], outer[1], dim=0)
    product = F.cosine_similarity(g[0], g[1], dim=0) * F.cosine_similarity(a[0], a[1], dim=0)
    torch.testing.assert_close(product, cosine)


def sample() -> Tensor:
    scales = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    rotation = torch.linalg.qr(normal(6, 6, seed=1)).Q
    return (normal(400, 6, seed=0) * scales) @ rotation + 7


def test_pca_spans_the_leading_singular_vectors() -> None:
    vectors = sample()
    mean, components = fit_pca(vectors, 3, whiten="none")
    np.testing.assert_allclose((components @ components.T).numpy(), np.eye(3), atol=1e-10)
    _, _, right = np.linalg.svd((vectors - vectors.mean(0)).numpy(), full_matrices=False)
    for ours, theirs in zip(components.numpy(), right[:3], strict=True):
        assert abs(ours @ theirs) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(mean, vectors.mean(0))
    variances = ((vectors - mean) @ components.T).var(dim=0)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


@pytest.mark.parametrize(("whiten", "power"), [("none", 2.0), ("half", 1.0), ("full", 0.0)])
def test_whitening_divides_by_powers_of_sigma(whiten: str, power: float) -> None:
    vectors = sample()
    sigma = np.linalg.svd((vectors - vectors.mean(0)).numpy(), compute_uv=False)[:4] / np.sqrt(399)
    mean, components = fit_pca(vectors, 4, whiten=whiten)
    variances = ((vectors - mean) @ components.T).var(dim=0)
    np.testing.assert_allclose(variances.numpy(), sigma**power, rtol=1e-6)


def test_pca_is_deterministic_and_signed() -> None:
    vectors = sample().float()
    first, second = fit_pca(vectors, 4, whiten="half"), fit_pca(vectors.clone(), 4, whiten="half")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    flipped = fit_pca(2 * vectors.mean(0) - vectors, 4, whiten="half")  # mirrored at the mean: same axes
    torch.testing.assert_close(flipped[1], first[1], rtol=1e-3, atol=1e-4)


def test_pca_of_a_flat_sample_does_not_blow_up_noise() -> None:
    flat = sample().float()
    flat[:, 3:] = flat[:, :3]  # three of six directions do not vary
    mean, components = fit_pca(flat, 6, whiten="full")
    assert torch.isfinite(components).all()
    varying = ((flat - mean) @ components[:3].T).abs().mean()
    assert ((flat - mean) @ components[3:].T).abs().mean() < varying / 3


def test_apply_pca_returns_unit_vectors() -> None:
    vectors = sample()
    mean, components = fit_pca(vectors, 3, whiten="none")
    reduced = apply_pca(vectors, mean, components)
    assert reduced.shape == (400, 3)
    torch.testing.assert_close(reduced.norm(dim=-1), torch.ones(400, dtype=torch.float64))
    torch.testing.assert_close(reduced, F.normalize((vectors - mean) @ components.T, dim=-1))
