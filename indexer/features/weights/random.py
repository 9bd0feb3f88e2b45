"""``random``: no weights at all, from a seed, for tests."""

from __future__ import annotations

import torch
from torch import nn

from indexer.features.weights.library import load_timm
from indexer.features.weights.source import WeightsSource


def create(name: str, place: str, seed: int) -> nn.Module:
    """A model as it is initialised from ``seed``; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = load_timm().create_model(name, pretrained=False, num_classes=0)
    return model


SOURCE = WeightsSource("random", create)
