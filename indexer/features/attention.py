"""Attention in bfloat16 on the CPU: products of whole matrices, head by head.

PyTorch's fused attention for the CPU multiplies small tiles and gains nothing from bfloat16 (torch 2.15 on a
processor with AVX512-BF16: two thirds of a ViT-S's pass at 448 pixels). Two products of one head's matrices
and a softmax between them take a third of its time; the scores of one head, N x N, stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Below so many tokens a head's matrices are too small to gain.
FEWEST_TOKENS = 64


class BFloat16Attention(TorchFunctionMode):
    """While it is entered, plain attention in bfloat16 on the CPU is computed by :func:`attend`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Take over ``scaled_dot_product_attention`` where it is plain; leave everything else as it is."""
        named = kwargs or {}
        if func is F.scaled_dot_product_attention and _is_plain(*args, **named):
            return _attend_as_called(*args, **named)
        return func(*args, **named)


def attend(queries: Tensor, keys: Tensor, values: Tensor, *, scale: float | None = None) -> Tensor:
    """softmax(q k' * scale) v of each head: (B, H, N, d), (B, H, M, d) and (B, H, M, d) -> (B, H, N, d).

    All bfloat16; ``scale`` is 1 / sqrt(d) where None. The keys' mean is taken from them first: it moves all
    scores of a query alike, which softmax does not see, and smaller scores lose less to rounding.
    """
    batch, heads, tokens, width = queries.shape
    queries = queries * (width**-0.5 if scale is None else scale)
    keys = keys - keys.mean(dim=-2, keepdim=True)
    joined = values.new_empty(batch, tokens, heads, values.shape[-1])  # as the next layer reads it
    for image in range(batch):
        for head in range(heads):
            scores = queries[image, head] @ keys[image, head].T
            joined[image, :, head] = scores.softmax(dim=-1) @ values[image, head]
    return joined.transpose(1, 2)


def _attend_as_called(
    query: Tensor, key: Tensor, value: Tensor, *_: Any, scale: float | None = None, **__: Any
) -> Tensor:
    """:func:`attend`, with the arguments of ``scaled_dot_product_attention`` however they were given."""
    return attend(query, key, value, scale=scale)


def _is_plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    """Whether nothing but scale is asked for, of numbers and sizes for which :func:`attend` is faster."""
    return (
        query.dtype == key.dtype == value.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and query.ndim == 4
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and key.shape[-2] >= FEWEST_TOKENS
        and attn_mask is None
        and not (dropout_p or is_causal or enable_gqa)
        and not torch.is_grad_enabled()
    )
