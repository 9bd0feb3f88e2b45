"""Self-supervised losses on the patch latents of one or more images.

Source: *No Train, all Gain* (NeurIPS 2024), section 3, and the published code for segmentation
(repository ``no-train-all-gain``, folder ``fungi-hummingbird``). Every function returns the *sum*
over images of each image's own mean loss, so that the gradient of an image does not depend on
the batch that it came in.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def infonce(latents: Tensor, negatives: Tensor, *, temperature: float, tempered: bool) -> Tensor:
    """InfoNCE over patches: all other tokens of the image are positives.

    ``latents`` (B, N, d) and ``negatives`` (B, M, d) are unit vectors. For token t,
    ``l_t = -mean_{s != t} z_t.z_s / temperature + log sum_{n, s != t} exp(z_t . z_n)``; the second
    term is divided by the temperature only if ``tempered`` (the published code does not).
    Returns a scalar, the sum over images of ``mean_t l_t``.
    """
    tokens = latents.shape[1]
    total = latents.sum(dim=1, keepdim=True)  # (B, 1, d)
    positives = ((latents * total).sum(-1) - (latents * latents).sum(-1)) / (tokens - 1)  # (B, N)
    among = latents @ latents.transpose(1, 2)  # (B, N, N)
    itself = torch.eye(tokens, dtype=torch.bool, device=latents.device)
    against = torch.cat([latents @ negatives.transpose(1, 2), among.masked_fill(itself, -math.inf)], dim=-1)
    if tempered:
        against = against / temperature
    losses = torch.logsumexp(against, dim=-1) - positives / temperature
    return losses.mean(dim=1).sum()


def kl_to_uniform(latents: Tensor, *, temperature: float) -> Tensor:
    """KL(uniform || softmax(z_t / temperature)), the paper's second objective, as published.

    ``latents`` (B, N, d) are unit vectors. Returns a scalar, the sum over images of the mean over tokens.
    """
    width = latents.shape[-1]
    log_share = F.log_softmax(latents / temperature, dim=-1)
    losses = -log_share.mean(dim=-1) - math.log(width)  # (B, N)
    return losses.mean(dim=1).sum()
