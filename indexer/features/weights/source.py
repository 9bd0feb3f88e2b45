"""What a source of weights is, and what the sources share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from indexer.features.weights.library import load_timm
from retrieval.errors import WeightsError

#: What draws numbers into a tensor, and what brings them to their range.
_FILLING = frozenset(
    {Tensor.uniform_, Tensor.normal_, Tensor.erfinv_, Tensor.mul_, Tensor.div_, Tensor.add_, Tensor.clamp_}
)


@dataclass(frozen=True)
class WeightsSource:
    """A kind of place from which the weights of a timm model come."""

    form: str  #: how ``backbone.weights`` names it: ``hub``, or with a place, ``file:PATH.safetensors``
    create: Callable[[str, str, int], nn.Module]
    """(model name, place, seed) -> a model with these weights; raises ConfigError or WeightsError.

    The place is what stands after the colon, empty for a form without one.
    """

    @property
    def kind(self) -> str:
        """The word before the colon."""
        return self.form.partition(":")[0]

    @property
    def takes_place(self) -> bool:
        """Whether a place must follow the kind."""
        return ":" in self.form


_LOADING = threading.Lock()  # the environment is the whole process's


@contextmanager
def tensors_alone() -> Iterator[None]:
    """Let no checkpoint that another package reads be unpickled beyond its tensors: a pickle runs code.

    Older versions of timm ask torch for the whole pickle; this variable of torch's overrules what is asked.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    with _LOADING:
        before = os.environ.get(name)
        os.environ[name] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def model_of(name: str, state: dict[str, Tensor], *, source: str) -> nn.Module:
    """A model with these weights; raises WeightsError, naming ``source``, where they do not fit it."""
    with _Unfilled():
        model: nn.Module = load_timm().create_model(name, pretrained=False, num_classes=0)
    expected = model.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(("head.", "mask_token"))}
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    misshapen = sorted(k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape)
    if missing or unknown or misshapen:
        example = (misshapen or missing or unknown)[0]
        detail = (
            f"{example} is {tuple(state[example].shape)} instead of {tuple(expected[example].shape)}"
            if misshapen
            else f"{example} is {'missing' if missing else 'unknown to the model'}"
        )
        raise WeightsError(
            f"{source}: the checkpoint does not fit {name}: {detail} ({len(missing)} missing, "
            f"{len(unknown)} unknown, {len(misshapen)} of another shape); "
            "choose the backbone.model that it was saved from"
        )
    model.load_state_dict(state)
    return model


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills parameters at random while a model is made: all of them are overwritten.

    Buffers, which a checkpoint need not have, get their numbers as ever; torch's generator is not asked.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        filled = args[0] if args else named.get("tensor")  # as functions of torch.nn.init name it
        fills = func in _FILLING or getattr(func, "__module__", "") == nn.init.__name__
        return filled if fills and isinstance(filled, nn.Parameter) else func(*args, **named)
