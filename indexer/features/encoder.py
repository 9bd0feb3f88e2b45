"""A frozen encoder of ``transformers`` (texts, spectrograms), cut at the attention projection of a layer.

It has the face of :class:`indexer.features.backbone.Backbone`: run to the cut without autograd, then go on
from there token by token.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.features.backbone import choose_device
from indexer.features.cut import Cut, CutReached, Replay, number_of_block
from indexer.features.precision import choose_precision, computing_in
from indexer.features.weights import fingerprint
from indexer.recipe import BackboneSettings, RuntimeSettings
from retrieval.errors import ConfigError

#: Where, below a layer, the output projection of its self-attention lies in the architectures that have one.
PROJECTIONS = (
    "attention.output.dense",  # BERT, RoBERTa, MiniLM, ELECTRA; AST of older versions
    "attention.o_proj",  # AST
    "attention.out_lin",  # DistilBERT
    "attention.attn.o",  # MPNet
    "attn.out_proj",
    "self_attn.out_proj",
    "attention.out_proj",
)
#: The norm behind the last layer, of models that have one.
_FINAL_NORMS = (
    *("layernorm", "final_norm", "layer_norm", "norm", "LayerNorm"),
    *("encoder.LayerNorm", "encoder.layer_norm", "encoder.emb_layer_norm_after"),
)
#: Largest difference, relative to the largest number, between the tail's output and the model's own.
_TOLERANCE = 1e-3


class Encoder:
    """An encoder that tells what it is, runs to the cut, and goes on from there.

    Attributes: ``width`` E, ``blocks`` and the ``block`` that is cut, ``device``, ``fingerprint`` of the
    weights.
    """

    def __init__(self, model: nn.Module, settings: BackboneSettings, *, runtime: RuntimeSettings) -> None:
        """Cut a model of ``transformers`` at ``settings.block``.

        Raises ConfigError where it has no such layer, or no attention projection that is known here.
        """
        self.fingerprint = fingerprint(model)
        config: Any = model.config
        self._name = settings.model
        width, count = (getattr(config, key, None) for key in ("hidden_size", "num_hidden_layers"))
        if width is None or count is None:
            raise ConfigError(f"{settings.model} is no single encoder; choose one such as BERT or AST")
        self.width = int(width)
        layers = _layers(model, int(count), settings.model)
        self.blocks = len(layers)
        self.block = number_of_block(settings.block, self.blocks)
        self.joined: tuple[int, ...] = (self.block,)
        self.device = choose_device(runtime.device)
        # on the CPU auto is float32: no input is known here on which to compare the two
        exact = runtime.precision == "auto" and self.device.type == "cpu"
        self._dtype = torch.float32 if exact else choose_precision(runtime.precision, self.device)
        self._model = model.to(self.device)
        self._layer = layers[self.block]
        path = _projection_path(self._layer, settings.model)
        self._linear: nn.Linear = self._layer.get_submodule(path)  # type: ignore[assignment]
        self._replay = Replay()
        self._tail = _replaced(self._layer, path, self._replay)
        last = self.block == self.blocks - 1
        norm = _final_norm(model)
        # models that normalise at the end of each layer have no such norm, and need none behind any
        self._norm: nn.Module | None = norm if settings.norm == "model" or last else None
        self._plain = settings.norm == "plain" or (norm is not None and self._norm is None)

    @property
    def precision(self) -> str:
        """The numbers in which it runs up to the cut: float32, bfloat16 or float16."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight (E, A) and bias (E,) of the attention projection at the cut."""
        return self._linear.weight, self._linear.bias

    @torch.no_grad()
    def cut(self, inputs: dict[str, Tensor]) -> Cut:
        """Run inputs, as the model takes them by name, up to the attention projection of the layer."""
        seen: dict[str, Tensor] = {}

        def entering(_: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Any]) -> None:
            seen["residual"] = positional[0] if positional else named["hidden_states"]

        def projecting(_: nn.Module, positional: tuple[Tensor, ...]) -> None:
            seen["activation"] = positional[0]
            raise CutReached

        hooks = [
            self._layer.register_forward_pre_hook(entering, with_kwargs=True),
            self._linear.register_forward_pre_hook(projecting),
        ]
        try:
            with computing_in(self._dtype, self.device):
                self._model(**{name: value.to(self.device) for name, value in inputs.items()})
        except CutReached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return Cut(seen["residual"].float(), seen["activation"].float())

    @torch.no_grad()
    def check(self, inputs: dict[str, Tensor]) -> None:
        """Raise ConfigError where the tail does not give what the model itself gives of some inputs."""
        caught: list[Tensor] = []

        def leaving(_: nn.Module, positional: Any, out: Any) -> None:
            caught.append(out[0] if isinstance(out, tuple) else out)

        hook = self._layer.register_forward_hook(leaving)
        try:
            given = self._model(**{name: value.to(self.device) for name, value in inputs.items()})
        finally:
            hook.remove()
        try:
            with torch.autocast(self.device.type, enabled=False):
                cut = self.cut(inputs)
                weight, bias = self.projection
                projected = F.linear(cut.activation, weight, bias)
                ours = self._layer_output(cut.residual, projected)
                pairs = [(ours, caught[0])]
                if self.block == self.blocks - 1 and self._norm is not None:
                    pairs.append((self._norm(ours), given.last_hidden_state))
                elif self.block == self.blocks - 1:
                    pairs.append((ours, given.last_hidden_state))
        except Exception as error:
            raise ConfigError(
                f"{self._name}: its layers cannot be run token by token ({type(error).__name__}: {error}); "
                "choose an encoder such as BERT, MPNet, DistilBERT or AST"
            ) from error
        bound = _TOLERANCE if self._dtype == torch.float32 else 0.1
        for mine, theirs in pairs:
            if float((mine - theirs).abs().max()) > bound * float(theirs.abs().max()):
                raise ConfigError(
                    f"{self._name}: what follows its attention is not what is known here, so that embeddings "
                    "would be wrong; choose an encoder such as BERT, MPNet, DistilBERT or AST"
                )

    def _layer_output(self, residual: Tensor, projected: Tensor) -> Tensor:
        """The layer's output, before any norm that follows it."""
        self._replay.output = projected
        try:
            out: Any = self._tail(residual)
        finally:
            self._replay.output = None
        tokens: Tensor = out[0] if isinstance(out, tuple) else out
        return tokens

    def tail(self, residual: Tensor, projected: Tensor) -> Tensor:
        """From the projection's output to the embeddings, token by token: (B, N, E) -> (B, N, E).

        Differentiable with respect to ``projected``. The attention before it is run along and ignored.
        """
        tokens = self._layer_output(residual, projected)
        if self._norm is not None:
            tokens = self._norm(tokens)
        return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) if self._plain else tokens


def _layers(model: nn.Module, count: int, name: str) -> list[nn.Module]:
    """The layers of a model: its first list of as many modules as its configuration has layers."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    raise ConfigError(
        f"{name} has no list of {count} layers to cut at; choose an encoder such as BERT or AST"
    )


def _final_norm(model: nn.Module) -> nn.Module | None:
    for path in _FINAL_NORMS:
        try:
            return model.get_submodule(path)
        except AttributeError:
            continue
    return None


def _projection_path(layer: nn.Module, name: str) -> str:
    for path in PROJECTIONS:
        try:
            found = layer.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.Linear):
            return path
    raise ConfigError(
        f"{name}: its layers ({type(layer).__name__}) have no attention projection that is known here "
        f"({', '.join(PROJECTIONS)}); choose an encoder such as BERT, MPNet, DistilBERT or AST"
    )


def _replaced(module: nn.Module, path: str, stand_in: nn.Module) -> nn.Module:
    """The module with the one at ``path`` below it replaced; all others, and their parameters, are shared."""
    name, _, rest = path.partition(".")
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    inner = module.get_submodule(name)
    twin._modules[name] = _replaced(inner, rest, stand_in) if rest else stand_in
    return twin
