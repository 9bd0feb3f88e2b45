"""The losses against float64 references written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.objectives.infonce import infonce
from indexer.features.objectives.kl import kl_to_uniform


def unit(*shape: int, seed: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(values, dim=-1)


def infonce_by_loops(z: Tensor, negatives: Tensor, tau: float, tempered: bool) -> float:
    """fungi.md's formula for one image, (N, d) and (M, d), with plain Python numbers."""
    count, divisor = len(z), tau if tempered else 1.0
    losses = []
    for t in range(count):
        others = [s for s in range(count) if s != t]
        positive = sum(float(z[t] @ z[s]) / tau for s in others) / (count - 1)
        against = [float(z[t] @ n) / divisor for n in negatives]
        against += [float(z[t] @ z[s]) / divisor for s in others]
        losses.append(-positive + math.log(sum(math.exp(a) for a in against)))
    return sum(losses) / count


@pytest.mark.parametrize("tempered", [False, True])
@pytest.mark.parametrize("negatives", [0, 7])
def test_infonce_equals_the_formula(tempered: bool, negatives: int) -> None:
    z, n = unit(2, 6, 5, seed=0), unit(2, negatives, 5, seed=1)
    expected = sum(infonce_by_loops(z[i], n[i], 0.07, tempered) for i in range(2))
    result = infonce(z, n, temperature=0.07, tempered=tempered)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))
    single = infonce(z.float(), n.float(), temperature=0.07, tempered=tempered)
    torch.testing.assert_close(single.double(), result, rtol=1e-5, atol=1e-5)


def test_the_two_forms_differ_and_meet_at_temperature_one() -> None:
    z, n = unit(1, 6, 5, seed=0), unit(1, 4, 5, seed=1)
    forms = [infonce(z, n, temperature=0.07, tempered=flag) for flag in (False, True)]
    assert abs(float(forms[0] - forms[1])) > 0.1
    ones = [infonce(z, n, temperature=1.0, tempered=flag) for flag in (False, True)]
    torch.testing.assert_close(ones[0], ones[1])


def test_kl_equals_the_formula() -> None:
    z, tau = unit(3, 4, 6, seed=2), 0.07
    expected = 0.0
    for image in z:
        for token in image:
            shares = [math.exp(float(v) / tau) for v in token]
            total = sum(shares)
            # KL(uniform || share) = sum_j 1/d log((1/d) / share_j)
            expected += sum((1 / 6) * math.log((1 / 6) / (s / total)) for s in shares) / 4
    result = kl_to_uniform(z, temperature=tau)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


def test_kl_is_zero_for_the_uniform_only() -> None:
    even = torch.full((1, 2, 9), 1 / 3, dtype=torch.float64)
    assert float(kl_to_uniform(even, temperature=0.07)) == pytest.approx(0, abs=1e-12)
    assert float(kl_to_uniform(unit(1, 2, 9, seed=0), temperature=0.07)) > 0.1


def test_an_images_gradient_does_not_depend_on_its_batch() -> None:
    z, n = unit(4, 6, 5, seed=3), unit(4, 3, 5, seed=4)

    def gradient(latents: Tensor, negatives: Tensor) -> Tensor:
        latents = latents.clone().requires_grad_(True)
        loss = infonce(latents, negatives, temperature=0.07, tempered=False)
        loss = loss + kl_to_uniform(latents, temperature=0.07)
        return torch.autograd.grad(loss, latents)[0]

    together = gradient(z, n)
    for i in range(4):
        torch.testing.assert_close(together[i], gradient(z[i : i + 1], n[i : i + 1])[0])
