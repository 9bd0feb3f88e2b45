"""FUNGI features of whole images, as ``fungivision`` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.whole.base import Seen, WholeExtractor
from indexer.features.whole.views import views_of
from indexer.images import read_image
from indexer.recipe import Recipe
from retrieval.errors import ConfigError

Pixels = npt.NDArray[np.uint8]

#: Views that pass the model at once: more run out of the processor's cache.
CHUNK = 8


class ImageExtractor(WholeExtractor[Pixels]):
    """Maps whole images (H0, W0, 3) uint8 RGB to vectors, as a recipe with ``features.level: image`` says."""

    noun: ClassVar[str] = "image"
    backbone: Backbone

    def __init__(self, recipe: Recipe, backbone: Backbone, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :meth:`open`; ``tensors`` is what :meth:`to_bytes` stores."""
        super().__init__(recipe, backbone, tensors)
        self._cls = _pools_cls(recipe.features.pool, backbone)

    @property
    def _preprocessing(self) -> list[Any]:
        b = self.backbone
        return ["image", b.size, b.patch_size, b.mean, b.std]

    def read(self, source: Any) -> Pixels:
        """An image: a path, a PIL image, or an array; raises ImageError."""
        return read_image(source)

    def extent(self, content: Pixels) -> tuple[int, int]:
        """(height, width) in pixels."""
        return content.shape[0], content.shape[1]

    def picture(self, content: Pixels) -> Pixels:
        """The image itself."""
        return content

    def see(self, kind: str, contents: Sequence[Pixels], *, few: bool = False) -> Seen:
        """Views as :func:`indexer.features.whole.views.views_of` makes them; all of them, few or not."""
        return self._forward([self._views(kind, image) for image in contents])

    @torch.no_grad()
    def _forward(self, views: Sequence[Tensor]) -> Seen:
        """Views of B images, V each, through the model to the cut."""
        residuals, activations, earlier = [], [], []
        kept = slice(0, 1) if self._cls else slice(self.backbone.prefix_tokens, None)
        with self._lock:
            for chunk in torch.split(torch.cat(list(views)), CHUNK):
                cut = self.backbone.cut(chunk)
                # all behind the cut is token-wise: tokens that are not pooled have no gradient
                residuals.append(cut.residual[:, kept].clone())
                activations.append(cut.activation[:, kept].clone())
                earlier.append([self.backbone.earlier(tokens[:, kept]) for tokens in cut.earlier])
        activation = self._with_bias(torch.cat(activations))
        shape = (len(views), len(views[0]))
        joined = tuple(torch.cat(tokens) for tokens in zip(*earlier, strict=True))
        return Seen(torch.cat(residuals), activation.view(*shape, *activation.shape[1:]), earlier=joined)

    def _views(self, kind: str, image: Pixels) -> Tensor:
        """(V, 3, H, W) float32 normalised."""
        views = views_of(image, kind, self.backbone.size, self.recipe.objective, seed=self.recipe.seed)
        return self.backbone.normalise(views)


def _pools_cls(pool: str, backbone: Backbone) -> bool:
    """Whether the CLS token stands for an image; raises ConfigError where there is none."""
    if pool == "cls" and backbone.prefix_tokens == 0:
        raise ConfigError("features.pool=cls needs a model with a CLS token; take features.pool=mean")
    return pool == "cls" or (pool == "auto" and backbone.prefix_tokens > 0)
