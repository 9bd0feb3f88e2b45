"""``file:PATH.safetensors``: weights in a local file, under timm's names."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from indexer.features.weights.source import WeightsSource, model_of
from retrieval.errors import WeightsError
from retrieval.store.paths import text_path


def create(name: str, place: str, seed: int) -> nn.Module:
    """A model with the weights in the file ``place``; raises WeightsError."""
    return model_of(name, _read_safetensors(Path(place)), source=place)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; backbone.weights=file:PATH expects a .safetensors file"
        )
    try:
        with text_path(path) as name:
            return load_file(name)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({error}); "
            "save the weights with safetensors.torch.save_file"
        ) from error


SOURCE = WeightsSource("file:PATH.safetensors", create)
