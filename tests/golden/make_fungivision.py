"""Makes ``fungivision.npz``: gradients of whole images by the authors' package, for the test of ours.

    pip install fungivision==0.0.2 torchvision
    python tests/golden/make_fungivision.py

A tiny random ViT, random views and fixed heads go through the package's own losses and its own collection
of gradients. Only its numbers are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from indexer.features.objectives import create_objectives
from indexer.features.weights import create_model, fingerprint
from indexer.objective_settings import ObjectiveSettings

MODEL, SIZE, IMAGES = "test_vit", 64, 2
#: Views of an image for each objective.
VIEWS = {"kl": 1, "dino": 12, "infonce": 9}
NEGATIVES = 20


def views_of(name: str) -> Tensor:
    """Random views of the images, (B, V, 3, H, W)."""
    generator = torch.Generator().manual_seed(len(name))
    return torch.randn(IMAGES, VIEWS[name], 3, SIZE, SIZE, generator=generator)


def raw_negatives(width: int) -> Tensor:
    """Embeddings that are no image's, (M, E)."""
    return torch.randn(NEGATIVES, width, generator=torch.Generator().manual_seed(7)) * 2


def gradients(name: str) -> Tensor:
    """The package's gradient of each image, (B, E, E + 1)."""
    import fungivision.utils.autograd_hacks as hacks
    from fungivision.config import DINOConfig, KLConfig, SimCLRConfig
    from fungivision.utils.misc import freeze_model

    model: Any = create_model(MODEL, "random", seed=0)
    model.set_input_size(img_size=(SIZE, SIZE))
    layer = f"blocks.{len(model.blocks) - 1}.attn.proj"
    freeze_model(model, exclusions=[layer])
    hacks.add_hooks(model, layer_paths=[layer])
    width = model.num_features
    (objective,) = create_objectives(ObjectiveSettings(kind=(name,)))
    heads = objective.random_tensors(width, 0)
    base = {
        "model": model,
        "target_layer": layer,
        "device": torch.device("cpu"),
        "projection": torch.zeros(1, 1),
        "projection_scaling": 1.0,
        "embeddings_dim": width,
    }
    config: Any = {"kl": KLConfig, "dino": DINOConfig, "infonce": SimCLRConfig}[name]()
    extractor = config.get_extractor(base_params=base)
    prefix = {"kl": "kl.head", "dino": "dino.student", "infonce": "head"}[name]
    _fill(extractor.projection_head, heads, prefix)
    views = views_of(name)
    if name == "dino":
        _fill(extractor.teacher_projection, heads, "dino.teacher")
        embeddings = nn.functional.normalize(_embed(model, views), dim=-1)
        seen = embeddings.detach().unflatten(0, views.shape[:2])[:, :2].flatten(0, 1)
        loss = extractor.compute_loss(
            latents=extractor.projection_head(embeddings),
            views_per_sample=views.shape[1],
            teacher_latents=extractor.teacher_projection(seen),
        )
    else:
        if name == "infonce":
            extractor.comparison_batch = extractor.projection_head(raw_negatives(width)).detach()
        latents = extractor.encode(views.flatten(0, 1))
        loss = extractor.compute_loss(latents=latents, views_per_sample=views.shape[1])
    loss.backward()
    hacks.compute_grad1(model, layer_paths=[layer])
    return extractor.extract_gradients(
        layer=model.get_submodule(layer), batch_size=IMAGES, views_per_sample=views.shape[1]
    ).detach()


def _embed(model: Any, views: Tensor) -> Tensor:
    return model.forward_features(views.flatten(0, 1))[:, 0]


def _fill(linear: nn.Linear, heads: dict[str, Tensor], prefix: str) -> None:
    linear.weight.data.copy_(heads[f"{prefix}_weight"])
    linear.bias.data.copy_(heads[f"{prefix}_bias"])


def main() -> None:
    """Write the file."""
    found = {name: gradients(name)[:1].numpy() for name in VIEWS}
    weights = fingerprint(create_model(MODEL, "random", seed=0))
    np.savez_compressed(Path(__file__).with_name("fungivision.npz"), weights=np.array(weights), **found)


if __name__ == "__main__":
    main()
