"""From the gradient of a patch, an outer product g (x) a of E_out x E_in numbers, to a short vector.

Source of *dense*: *No Train, all Gain* (NeurIPS 2024), section 3.2. *factored* is ours: random signs
of rank one, whose inner products are unbiased estimates of those of the outer products.
All functions are pure; ``signs`` makes the random matrices from a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def signs(rows: int, columns: int, *, generator: torch.Generator) -> Tensor:
    """A random (rows, columns) int8 matrix of -1 and +1."""
    bits: Tensor = torch.randint(0, 2, (rows, columns), generator=generator, dtype=torch.int8)
    return bits * 2 - 1


def project_factored(gradients: Tensor, activations: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """``(U g) * (V a) / sqrt(k)``: (..., E_out), (..., E_in), (k, E_out), (k, E_in) -> (..., k)."""
    projected: Tensor = (gradients @ u.T) * (activations @ v.T)
    return projected / math.sqrt(len(u))


def project_dense(gradients: Tensor, activations: Tensor, p: Tensor, *, rows_at_once: int = 64) -> Tensor:
    """``P vec(g a^T) / sqrt(k)``: (n, E_out), (n, E_in), P (k, E_out * E_in) -> (n, k).

    The reference that the factored form approximates: it materialises the outer products, of
    ``rows_at_once`` patches at a time.
    """
    blocks = []
    for g, a in zip(
        torch.split(gradients, rows_at_once), torch.split(activations, rows_at_once), strict=True
    ):
        outer = (g.unsqueeze(2) * a.unsqueeze(1)).flatten(1)  # (n, E_out * E_in)
        blocks.append(outer @ p.T)
    return torch.cat(blocks) / math.sqrt(len(p))


def join_gradients(gradients: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Unit vectors (..., k) of several objectives as one: its cosine is the mean of theirs, by the shares."""
    if len(gradients) == 1:
        return gradients[0]
    return torch.cat([g * share**0.5 for g, share in zip(gradients, shares, strict=True)], dim=-1)


def join_embeddings(embeddings: Sequence[Tensor]) -> Tensor:
    """Embeddings (..., E) of n blocks as one unit vector (..., n E), whose cosine is the mean of theirs."""
    units = [F.normalize(e, dim=-1) for e in embeddings]
    return units[0] if len(units) == 1 else torch.cat(units, dim=-1) / math.sqrt(len(units))


def join_features(parts: Sequence[Tensor], weight: float) -> Tensor:
    """One vector of the unit vectors that describe a patch or an image: (..., width) each -> (..., D).

    Embedding and (joined) projected gradient are scaled so that the inner product of two such vectors is
    ``(cos e + weight cos G) / (1 + weight)``; others are joined as they are.
    """
    if len(parts) != 2:
        return torch.cat(list(parts), dim=-1)
    embeddings, gradients = parts
    share = weight / (1 + weight)
    return torch.cat([embeddings * (1 - share) ** 0.5, gradients * share**0.5], dim=-1)


def fit_pca(vectors: Tensor, width: int, *, whiten: str) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (width, D) of a sample (n, D), in descending variance.

    ``whiten``: "none"; "full" divides each component by its standard deviation; "half" by the
    square root of it. The sign of each component is fixed, so that the same sample gives the same result.
    """
    mean = vectors.mean(dim=0)
    centred = (vectors - mean).double()
    covariance = centred.T @ centred / max(len(vectors) - 1, 1)
    variances, axes = torch.linalg.eigh(covariance)
    variances, axes = variances.flip(0)[:width], axes.flip(1)[:, :width].T  # (width,), (width, D)
    leading = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = axes * leading.sign()
    exponent = {"none": 0.0, "half": 0.25, "full": 0.5}[whiten]
    floor = 1e-10 * variances[:1].clamp_min(1e-30)  # directions in which the sample does not vary stay small
    scale = variances.clamp_min(floor) ** exponent
    return mean, (axes / scale[:, None]).to(vectors.dtype)


def apply_pca(vectors: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """Unit vectors (..., width) of ``components @ (v - mean)``."""
    return F.normalize((vectors - mean) @ components.T, dim=-1)
