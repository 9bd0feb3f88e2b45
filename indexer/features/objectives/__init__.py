"""Self-supervised objectives, one file each; also classes of your own (``objective.kind=MODULE:CLASS``)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from indexer.features.objectives.base import Objective
from indexer.features.objectives.dino import DINO
from indexer.features.objectives.infonce import InfoNCE
from indexer.features.objectives.kl import KL
from indexer.objective_settings import NAMES, ObjectiveSettings
from retrieval.errors import ConfigError

__all__ = ["Objective", "check_independent", "create_objectives"]

#: Names that an objective of one's own cannot have.
RESERVED = ("embedding", *NAMES)


def create_objectives(settings: ObjectiveSettings) -> tuple[Objective, ...]:
    """The objectives of a recipe, in its order.

    Raises ConfigError for one of the user's own that cannot be imported or made, is no :class:`Objective`,
    has no name or that of another, or lets the inputs of a batch change each other's gradients.
    """
    ours: dict[str, type[Any]] = {"infonce": InfoNCE, "kl": KL, "dino": DINO}
    made: list[Objective] = []
    for name in settings.kind:
        if name in ours:
            made.append(ours[name](getattr(settings, name)))
        else:
            taken = (*RESERVED, *(objective.name for objective in made))
            made.append(_create_own(name, settings.options, taken))
    return tuple(made)


def check_independent(objective: Objective, *, width: int = 8, items: int = 5) -> None:
    """Raise ConfigError where the gradient of an input depends on the others of its batch.

    Looks at a batch of four random inputs of ``items`` tokens or views, together and one by one.
    """
    generator = torch.Generator().manual_seed(0)
    tensors = objective.random_tensors(width, 0)
    embeddings = torch.randn(4, items, width, generator=generator)
    negatives = None
    if objective.contrasts:
        negatives = objective.latents(torch.randn(4, 6, width, generator=generator), tensors)

    def gradient(start: int, stop: int) -> Tensor:
        seen = embeddings[start:stop].clone().requires_grad_(True)
        others = None if negatives is None else negatives[start:stop]
        (found,) = torch.autograd.grad(objective.loss(seen, tensors, others), seen)
        return found

    together = gradient(0, 4)
    alone = torch.cat([gradient(i, i + 1) for i in range(4)])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-5 * float(alone.abs().max())):
        raise ConfigError(
            f"the objective {objective.name} gives an input another gradient in a batch than alone; "
            "its loss must be the sum of each input's own loss, of nothing but that input's embeddings"
        )


def _create_own(name: str, options: dict[str, Any], taken: Sequence[str]) -> Objective:
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises
        raise ConfigError(
            f"objective.kind {name!r} cannot be imported ({_reason(error)}); expected MODULE:CLASS, with the "
            "module on Python's path"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        raise ConfigError(f"objective.kind {name!r} is no indexer.features.objectives.Objective")
    try:
        objective = kind(**options)
    except Exception as error:
        raise ConfigError(f"objective.options do not fit {name!r}: {_reason(error)}") from error
    _check_name(name, getattr(objective, "name", None), taken)
    check_independent(objective)
    return objective


def _check_name(kind: str, name: object, taken: Sequence[str]) -> None:
    """Raise ConfigError unless an objective's vectors and tensors can be told apart by its name."""
    if not isinstance(name, str) or not name:
        raise ConfigError(
            f"objective.kind {kind!r} has no name; give the class one, for example name = 'mine'"
        )
    if name in taken:
        raise ConfigError(
            f"objective.kind {kind!r} has the name {name!r}, which is taken; give the class a name of its "
            f"own, not one of {', '.join(taken)}"
        )


def _reason(error: BaseException) -> str:
    """An error in words, also one without a message."""
    kind = type(error).__name__
    return f"{kind}: {error}" if str(error) else kind
