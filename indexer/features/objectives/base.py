"""What every self-supervised objective is made of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

#: What an objective compares of a whole image: the image itself, random crops, or overlapping windows.
Views = Literal["single", "crops", "overlapping"]


class Objective(ABC):
    """A loss whose gradients describe an input, by the embeddings of its tokens or of its views.

    It keeps settings alone; its fixed random head is in the tensors that :meth:`random_tensors` makes
    and that an index stores. The loss of a batch is the *sum* of each input's own loss, so that the
    gradient of an input does not depend on the batch that it came in
    (:func:`indexer.features.objectives.check_independent` looks whether it does).
    """

    name: ClassVar[str]
    #: What it compares of a whole image.
    views: ClassVar[Views] = "single"
    #: Whether it can describe patches: then the tokens of an image stand for its views.
    of_patches: ClassVar[bool] = True
    #: Whether it needs negatives, embeddings of other inputs.
    contrasts: ClassVar[bool] = False

    @abstractmethod
    def random_tensors(self, width: int, seed: int) -> dict[str, Tensor]:
        """Its fixed head for embeddings of ``width`` numbers, from the seed; names begin with its own."""

    @abstractmethod
    def latents(self, embeddings: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """What the loss compares, (..., width) -> (..., d); also of negatives."""

    @abstractmethod
    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        """The sum over inputs of each input's loss, a scalar.

        ``embeddings`` (B, N, E) are not normalised: N tokens, or N views, of each of B inputs. ``negatives``
        (B, M, d) are latents, for an objective that contrasts.
        """


def random_head(width: int, latents: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (latents, width) and bias (latents,) as torch initialises a Linear layer."""
    bound = width**-0.5
    weight = (torch.rand(latents, width, generator=generator) * 2 - 1) * bound
    bias = (torch.rand(latents, generator=generator) * 2 - 1) * bound
    return weight, bias


def seeded(seed: int, name: str) -> torch.Generator:
    """A generator whose stream depends on the seed and the name alone."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
