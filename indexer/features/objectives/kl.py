"""KL divergence between the uniform distribution and that of the latents.

Source: *No Train, all Gain* (NeurIPS 2024), section 3, and ``KLConfig`` of ``fungivision``, published for
whole inputs; that it is applied token by token to patches is ours.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from indexer.features.objectives.base import Objective, random_head, seeded
from indexer.objective_settings import KLSettings


class KL(Objective):
    """``KL(uniform || softmax(z / T))``, z = Head(normalise(e)) not normalised after, T 1, width 768."""

    name: ClassVar[str] = "kl"

    def __init__(self, settings: KLSettings) -> None:
        """With the settings of its section."""
        self.settings = settings

    def random_tensors(self, width: int, seed: int) -> dict[str, Tensor]:
        """``kl.head_weight`` and ``kl.head_bias``."""
        weight, bias = random_head(width, self.settings.head_width, generator=seeded(seed, "kl"))
        return {"kl.head_weight": weight, "kl.head_bias": bias}

    def latents(self, embeddings: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The head's output for unit embeddings."""
        unit = F.normalize(embeddings, dim=-1)
        return F.linear(unit, tensors["kl.head_weight"], tensors["kl.head_bias"])

    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        """The sum over inputs of the mean over tokens or views."""
        return kl_to_uniform(self.latents(embeddings, tensors), temperature=self.settings.temperature)


def kl_to_uniform(latents: Tensor, *, temperature: float) -> Tensor:
    """``KL(uniform || softmax(z_t / temperature))``: (B, N, d) -> scalar, the sum over B of means over N."""
    log_share = F.log_softmax(latents / temperature, dim=-1)
    losses = -log_share.mean(dim=-1) - math.log(latents.shape[-1])  # (B, N)
    return losses.mean(dim=1).sum()
