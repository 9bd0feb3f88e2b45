"""Self-supervised losses on the patch latents of one or more images.

Source: *No Train, all Gain* (NeurIPS 2024), section 3, and the published code for segmentation
(repository ``no-train-all-gain``, folder ``fungi-hummingbird``). Every function returns the *sum*
over images of each image's own mean loss, so that the gradient of an image does not depend on
the batch that it came in.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def kl_to_uniform(latents: Tensor, *, temperature: float) -> Tensor:
    """KL(uniform || softmax(z_t / temperature)), the paper's second objective, as published.

    ``latents`` (B, N, d) are unit vectors. Returns a scalar, the sum over images of the mean over tokens.
    """
    width = latents.shape[-1]
    log_share = F.log_softmax(latents / temperature, dim=-1)
    losses = -log_share.mean(dim=-1) - math.log(width)  # (B, N)
    return losses.mean(dim=1).sum()
