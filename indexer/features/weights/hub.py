"""``hub``: timm's own weights."""

from __future__ import annotations

from torch import nn

from indexer.features.weights.library import load_timm
from indexer.features.weights.source import WeightsSource, tensors_alone
from retrieval.errors import WeightsError


def create(name: str, place: str, seed: int) -> nn.Module:
    """A model with the weights that timm names for it; raises WeightsError where they cannot be fetched."""
    try:
        with tensors_alone():
            model: nn.Module = load_timm().create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises a dozen kinds, all of which mean "no weights"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"the weights of {name} cannot be fetched from the hub ({reason}); give a local copy with "
            "backbone.weights=file:PATH.safetensors, or use the recipe offline.yaml, which needs no hub"
        ) from error
    return model


SOURCE = WeightsSource("hub", create)
