"""A frozen model cut at the attention projection of a block: what all such models have in common.

Everything after that projection is token-wise, so the self-supervised loss of a token needs no
backward pass through attention.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from indexer.recipe import BackboneSettings
from retrieval.errors import ConfigError

#: What ``backbone.block`` is by default, and so what it is where nobody chose it.
NO_BLOCK = BackboneSettings.model_fields["block"].default


class Cut(NamedTuple):
    """State of B images at the cut, prefix tokens first (N = prefix + T)."""

    residual: Tensor
    """The residual stream that enters the block, (B, N, E) float32."""
    activation: Tensor
    """Input of the attention's output projection, (B, N, A) float32."""
    earlier: tuple[Tensor, ...] = ()
    """What the blocks before it that are joined with it give, by depth: (B, N, E) float32 each."""


class CutReached(Exception):  # noqa: N818 - no error, but the way out of the forward pass
    """Raised by a hook once the cut is reached: the rest of the forward pass is not needed."""


class Replay(nn.Module):
    """Stands in for a block's attention and answers with what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.output: Tensor | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The stored output, whatever comes in."""
        assert self.output is not None
        return self.output


class CutModel(Protocol):
    """A frozen model that runs to its cut and goes on from there token by token."""

    fingerprint: str
    width: int
    block: int
    blocks: int
    joined: tuple[int, ...]
    device: torch.device

    @property
    def precision(self) -> str:
        """The numbers in which it runs up to the cut."""

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight (E, A) and bias (E,) of the attention projection at the cut."""

    def tail(self, residual: Tensor, projected: Tensor) -> Tensor:
        """From the projection's output to the embeddings: (B, N, E) -> (B, N, E)."""


def number_of_block(block: int, count: int, *, key: str = "block") -> int:
    """The number, not negative, of a block that a recipe names; raises ConfigError where there is none."""
    if not -count <= block < count:
        raise ConfigError(
            f"backbone.{key} {block} does not exist: the model has blocks 0..{count - 1} (or -{count}..-1)"
        )
    return block % count


def joined_blocks(settings: BackboneSettings, count: int) -> tuple[int, ...]:
    """The numbers, not negative and rising, of the blocks that a recipe joins; the last of them is cut.

    Raises ConfigError for one that the model, of ``count`` blocks, lacks or that is named twice, and where
    ``backbone.block`` names another than the deepest.
    """
    if not settings.blocks:
        return (number_of_block(settings.block, count),)
    chosen = tuple(sorted({number_of_block(block, count, key="blocks") for block in settings.blocks}))
    if len(chosen) < len(settings.blocks):
        raise ConfigError(
            f"backbone.blocks {list(settings.blocks)} names one of the {count} blocks twice; name each once"
        )
    if settings.block not in (NO_BLOCK, chosen[-1], chosen[-1] - count):
        raise ConfigError(
            f"backbone.block={settings.block} is not the deepest of backbone.blocks={list(settings.blocks)}, "
            f"whose gradient is taken; leave one of the two out, or set backbone.block={chosen[-1]}"
        )
    return chosen
