"""Where a backbone's weights come from: one file a source."""

from __future__ import annotations

import difflib
import hashlib

import torch
from torch import nn

from indexer.features.weights import file, hub, random, wheel
from indexer.features.weights.library import load_timm
from indexer.features.weights.source import WeightsSource, model_of
from retrieval.errors import ConfigError
from retrieval.plugins import load_plugins

__all__ = ["WeightsSource", "create_model", "empty_model", "fingerprint", "model_of"]

_SOURCES: tuple[WeightsSource, ...] = (hub.SOURCE, file.SOURCE, wheel.SOURCE, random.SOURCE)

#: The entry point group in which an installed package names its sources, each a :class:`WeightsSource`.
SOURCE_GROUP = "mycelia.weights"


def create_model(name: str, weights: str, *, seed: int = 0) -> nn.Module:
    """A timm model in eval mode, without gradients, at its native size, with the weights asked for.

    ``weights`` is ``hub``, ``file:PATH.safetensors``, ``wheel:NAME==VERSION``, ``random`` (from
    ``seed``; for tests), or what a source of an installed package takes (entry point group
    :data:`SOURCE_GROUP`). Raises ConfigError for an unknown model or source and WeightsError where
    the weights cannot be had or do not fit.
    """
    _check_name(name)
    kind, _, place = weights.partition(":")
    known = _sources(kind)
    source = next((source for source in known if source.kind == kind), None)
    if source is None or source.takes_place != bool(place):
        forms = [source.form for source in known]
        raise ConfigError(f"backbone.weights {weights!r} should be {', '.join(forms[:-1])} or {forms[-1]}")
    return source.create(name, place, seed).eval().requires_grad_(False)


def empty_model(name: str) -> nn.Module:
    """A timm model as :func:`create_model` makes it, but without numbers: to ask it for its shapes.

    Raises ConfigError for an unknown model.
    """
    _check_name(name)
    with torch.device("meta"):
        model: nn.Module = load_timm().create_model(name, pretrained=False, num_classes=0)
    return model


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sources(kind: str) -> tuple[WeightsSource, ...]:
    """All sources; other packages are asked only where ``kind`` is none of ours."""
    if any(source.kind == kind for source in _SOURCES):
        return _SOURCES
    return (*_SOURCES, *load_plugins(SOURCE_GROUP, WeightsSource))


def _check_name(name: str) -> None:
    """Raise ConfigError unless timm can create ``name``, which may carry a tag (``model.tag``)."""
    library = load_timm()
    architecture, _, tag = name.partition(".")
    if not library.is_model(architecture):
        close = difflib.get_close_matches(architecture, library.list_models(), n=3)
        close = close or ["vit_small_patch16_224"]
        raise ConfigError(f"backbone.model {name!r} is no timm model; the nearest are {', '.join(close)}")
    tagged = library.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tagged:
        known = ", ".join(tagged) or f"{architecture} alone"
        raise ConfigError(f"backbone.model {name!r}: timm knows no weights {tag!r}; it has {known}")
