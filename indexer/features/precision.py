"""The numbers in which a model computes: chosen by measuring where the recipe leaves it open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.attention import BFloat16Attention
from retrieval.processor import WORTH, measured, speedup

#: ``auto`` takes bfloat16 only where the cosine of every patch to float32's is at least this.
LEAST_COSINE = 0.99


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """``auto`` takes bfloat16 on CUDA where it is native, on the CPU where it was measured to pay.

    Everywhere else it takes float32.
    """
    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    pays = device.type == "cpu" and measured("bfloat16 layers", _layers_speedup) >= WORTH
    return torch.bfloat16 if pays else torch.float32


@contextmanager
def computing_in(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """A context in which a frozen model's layers compute in ``dtype`` on ``device``."""
    with ExitStack() as entered:
        if dtype != torch.float32:
            entered.enter_context(torch.autocast(device.type, dtype=dtype))
            if device.type == "cpu" and dtype == torch.bfloat16:
                entered.enter_context(BFloat16Attention())
        yield


def least_cosine(first: Tensor, second: Tensor) -> float:
    """The smallest cosine of two tensors' rows (..., E)."""
    return float(F.cosine_similarity(first.float(), second.float(), dim=-1).min())


def probe(size: tuple[int, int]) -> Tensor:
    """A picture to compare arithmetics on, (1, 3, H, W) float32 around 0: coarse blobs, edges and grain."""
    numbers = torch.Generator().manual_seed(0)
    coarse, fine = (torch.randn(1, 3, *of, generator=numbers) for of in ((6, 6), size))
    blobs = F.interpolate(coarse, size=size, mode="bicubic")
    edges = F.interpolate(coarse.flip(-1), size=size, mode="nearest")
    return blobs + 0.5 * edges + 0.2 * fine


def _weights(out: int, into: int) -> tuple[Tensor, Tensor]:
    return torch.full((out, into), 0.01), torch.zeros(out)


@torch.inference_mode()
def _layers_speedup() -> float:
    """Of the attention and the layers of a ViT-S's block over 512 tokens: some 20 ms in float32."""
    width, heads, tokens = 384, 6, 512
    numbers = torch.Generator().manual_seed(0)
    wide, narrow = _weights(4 * width, width), _weights(width, 4 * width)
    x = torch.randn(1, tokens, width, generator=numbers)

    def block() -> Tensor:
        split = x.view(1, tokens, heads, -1).transpose(1, 2)
        low = split.bfloat16() if torch.is_autocast_enabled("cpu") else split
        attended: Tensor = F.scaled_dot_product_attention(low, low, low)
        return attended.sum() + F.linear(F.gelu(F.linear(x, *wide)), *narrow).sum()

    def in_bfloat16() -> Tensor:
        with computing_in(torch.bfloat16, torch.device("cpu")):
            return block()

    return speedup(block, in_bfloat16)
