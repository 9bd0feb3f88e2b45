"""InfoNCE between the tokens of an image, or between the views of an input.

Source: *No Train, all Gain* (NeurIPS 2024), section 3, and the published code: for segmentation
``no-train-all-gain``, folder ``fungi-hummingbird``; for whole images ``SimCLRConfig`` of ``fungivision``.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.objectives.base import Objective, Views, random_head
from indexer.objective_settings import InfoNCESettings


class InfoNCE(Objective):
    """Tokens (views) of one input attract each other; negatives are pushed off.

    z = normalise(Head(e)), with the embedding e as it is, Head of width 96, temperature 0.07.
    """

    name: ClassVar[str] = "infonce"
    views: ClassVar[Views] = "overlapping"
    contrasts: ClassVar[bool] = True

    def __init__(self, settings: InfoNCESettings) -> None:
        """With the settings of its section."""
        self.settings = settings

    def random_tensors(self, width: int, seed: int) -> dict[str, Tensor]:
        """``head_weight`` and ``head_bias``: the names, and the stream, of the first indexes."""
        generator = torch.Generator().manual_seed(seed)
        weight, bias = random_head(width, self.settings.head_width, generator=generator)
        return {"head_weight": weight, "head_bias": bias}

    def latents(self, embeddings: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Unit vectors."""
        return F.normalize(F.linear(embeddings, tensors["head_weight"], tensors["head_bias"]), dim=-1)

    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        """As :func:`infonce`; without negatives the others of the same input alone."""
        latents = self.latents(embeddings, tensors)
        if negatives is None:
            negatives = latents.new_empty(len(latents), 0, latents.shape[-1])
        return infonce(
            latents, negatives, temperature=self.settings.temperature, tempered=self.settings.tempered
        )


def infonce(latents: Tensor, negatives: Tensor, *, temperature: float, tempered: bool) -> Tensor:
    """InfoNCE over patches: all other tokens of the image are positives.

    ``latents`` (B, N, d) and ``negatives`` (B, M, d) are unit vectors. For token t,
    ``l_t = -mean_{s != t} z_t.z_s / temperature + log sum_{n, s != t} exp(z_t . z_n)``; the second
    term is divided by the temperature only if ``tempered`` (the published code does not).
    Returns a scalar, the sum over images of ``mean_t l_t``; once differentiable, in ``latents`` alone.
    """
    loss: Tensor = _InfoNCE.apply(latents, negatives, temperature, tempered)
    return loss


class _InfoNCE(torch.autograd.Function):
    """The loss with its gradient in closed form: autograd would keep and revisit several (N, M + N) matrices.

    With p_ts the softmax over what token t is compared with, the gradient of N l in z_t is
    ``sum_n p_tn n / d + sum_s (p_ts + p_st) z_s / d - 2 sum_{s != t} z_s / ((N - 1) temperature)``,
    where d is the temperature if ``tempered``, else 1.
    """

    @staticmethod
    def forward(ctx: Any, latents: Tensor, negatives: Tensor, temperature: float, tempered: bool) -> Tensor:
        """The loss; the gradient is kept for :meth:`backward`."""
        tokens, divisor = latents.shape[1], temperature if tempered else 1.0
        others = torch.cat([negatives, latents], dim=1)  # (B, M + N, d)
        shares = torch.baddbmm(  # similarities first, (B, N, M + N)
            latents.new_empty(()), latents, others.transpose(1, 2), beta=0, alpha=1 / divisor
        )
        shares.diagonal(negatives.shape[1], 1, 2).fill_(-math.inf)  # no token is compared with itself
        peak = shares.amax(dim=-1, keepdim=True)
        total = shares.sub_(peak).exp_().sum(dim=-1, keepdim=True)  # p = shares / total from here on

        rest = latents.sum(dim=1, keepdim=True) - latents  # (B, N, d): sum of the other tokens
        positives = (latents * rest).sum(-1) / (tokens - 1)  # (B, N)
        losses = (peak + total.log()).squeeze(-1) - positives / temperature

        among = shares[:, :, negatives.shape[1] :]
        pull = torch.bmm(shares, others).div_(total).baddbmm_(among.transpose(1, 2), latents / total)
        pull.div_(divisor).sub_(rest, alpha=2 / ((tokens - 1) * temperature)).div_(tokens)
        ctx.save_for_backward(pull)
        return losses.mean(dim=1).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient in the latents; negatives have none."""
        (pull,) = ctx.saved_tensors
        return pull * upstream, None, None, None
