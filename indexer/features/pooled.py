"""FUNGI features of whole images: the pooled embedding joined with the gradients of several objectives.

Source: *No Train, all Gain* (Simoncini, Gidaris, Bursuc, Asano; NeurIPS 2024) and its package
``fungivision``. The gradient of an image is a sum over its views and tokens of outer products, so it is
not one itself, and its cosine has no product form; it is projected instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.objectives import Objective
from indexer.features.projection import fit_pca, join_features, join_gradients, project_factored
from indexer.features.stored import StoredExtractor
from indexer.features.views import views_of
from indexer.recipe import Recipe
from retrieval.errors import ConfigError, DatasetError
from retrieval.similarity import Cosine

#: Views that pass the model at once: more run out of the processor's cache.
CHUNK = 8


class ImageExtractor(StoredExtractor):
    """Maps whole images to vectors, as a recipe with ``features.level: image`` says.

    Make one with :meth:`create`, then :meth:`fit` it on memory images (negatives, PCA); or get that
    of an index with :meth:`open`. An image's vector does not depend on its batch.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :meth:`open`; ``tensors`` is what :meth:`to_bytes` stores."""
        super().__init__(recipe, backbone, tensors)
        self._cls = _pools_cls(recipe.features.pool, backbone)

    @property
    def similarity(self) -> Cosine:
        """The cosine."""
        return Cosine(self.recipe.features.pca or self._raw_width)

    @property
    def _preprocessing(self) -> list[Any]:
        b = self.backbone
        return ["image", b.size, b.patch_size, b.mean, b.std]

    def prepare_one(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The image (H0, W0, 3) itself: each objective makes its own views of it."""
        return image

    def collate(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """A batch of images, which may differ in size."""
        return list(prepared)

    def extract(self, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        """Vectors of images (H0, W0, 3) uint8 RGB: (B, D) float32 of length one, on the CPU."""
        return self._reduce(self._vectors(images)).cpu()

    def feature_parts(self, images: Sequence[npt.NDArray[np.uint8]]) -> dict[str, Tensor]:
        """The unit vectors that are joined to an image's, by name: ``embedding``, then each objective.

        (B, width) float32 each.
        """
        return dict(self.each_part(images))

    def each_part(self, images: Sequence[npt.NDArray[np.uint8]]) -> Iterator[tuple[str, Tensor]]:
        """The parts of :meth:`feature_parts`, each computed when it is asked for."""
        single = self._forward([self._views("single", image) for image in images])
        yield "embedding", F.normalize(self._embed(single)[:, 0], dim=-1)
        for objective in self._objectives:
            if objective.views == "single":
                seen = single
            else:
                seen = self._forward([self._views(objective.views, image) for image in images])
            gradients = self._gradients(objective, seen)
            yield objective.name, F.normalize(self._project(gradients, seen.activations), dim=-1)

    def fit(self, batches: Callable[[], Iterable[list[npt.NDArray[np.uint8]]]], *, images: int) -> None:
        """Draw the negatives and fit the PCA on memory images, where the recipe has them.

        ``batches()`` yields lists of images; it is called once for each of the two, and yields ``images``
        images in all. Same seed and images, same result.
        """
        features, wanted = self.recipe.features, self.recipe.objective.infonce.negatives
        if self._has_negatives:
            generator = torch.Generator().manual_seed(self.recipe.seed)
            chosen = set(torch.randperm(images, generator=generator)[:wanted].tolist())
            every = (image for batch in batches() for image in batch)
            seen = [
                self._embed(self._forward([self._views("overlapping", image)]))[0]
                for number, image in enumerate(every)
                if number in chosen
            ]
            if not seen:
                raise DatasetError("none of the images that should fit the features can be read; check them")
            self._set({**self._tensors, "negatives": torch.cat(seen)})
        if features.pca is not None:
            sample = torch.cat([self._vectors(batch) for batch in batches()])
            if len(sample) <= features.pca:
                raise ConfigError(
                    f"features.pca={features.pca} needs more images than that to be fitted, and there are "
                    f"{len(sample)}; choose a smaller width or add images"
                )
            mean, components = fit_pca(sample, features.pca, whiten=features.whiten)
            self._set({**self._tensors, "pca_mean": mean, "pca_components": components})

    @property
    def passes_to_fit(self) -> int:
        """How often :meth:`fit` goes over its images: for the negatives, for the PCA."""
        return self._has_negatives + (self.recipe.features.pca is not None)

    @property
    def _has_negatives(self) -> bool:
        return self._contrasts and self.recipe.objective.infonce.negatives > 0

    def _views(self, kind: str, image: npt.NDArray[np.uint8]) -> Tensor:
        """(V, 3, H, W) float32 normalised."""
        views = views_of(image, kind, self.backbone.size, self.recipe.objective, seed=self.recipe.seed)
        return (views - self._mean) / self._std

    @torch.no_grad()
    def _forward(self, views: Sequence[Tensor]) -> _Seen:
        """Views of B images, V each, through the model to the cut."""
        residuals, activations = [], []
        kept = slice(0, 1) if self._cls else slice(self.backbone.prefix_tokens, None)
        with self._lock:
            for chunk in torch.split(torch.cat(list(views)), CHUNK):
                cut = self.backbone.cut(chunk)
                # all behind the cut is token-wise: tokens that are not pooled have no gradient
                residuals.append(cut.residual[:, kept].clone())
                activations.append(cut.activation[:, kept].clone())
        activation = torch.cat(activations)
        if self.backbone.projection[1] is not None:
            activation = F.pad(activation, (0, 1), value=1.0)
        shape = (len(views), len(views[0]))
        return _Seen(torch.cat(residuals), activation.view(*shape, *activation.shape[1:]))

    @torch.no_grad()
    def _embed(self, seen: _Seen) -> Tensor:
        """Pooled embeddings (B, V, E), not normalised."""
        with self._lock:
            return self._pooled(seen, self._projected(seen))

    def _projected(self, seen: _Seen) -> Tensor:
        """Output of the attention projection, (B * V, N, E)."""
        weight, bias = self.backbone.projection
        return F.linear(seen.activations[..., : weight.shape[1]].flatten(0, 1), weight, bias)

    def _pooled(self, seen: _Seen, projected: Tensor) -> Tensor:
        """From the projection's output to pooled embeddings, (B, V, E); the lock has to be held."""
        tokens = self.backbone.tail(seen.residual, projected)
        return tokens.mean(dim=1).view(*seen.activations.shape[:2], -1)

    def _gradients(self, objective: Objective, seen: _Seen) -> Tensor:
        """dL/dh of every token that is pooled: (B, V, N, E)."""
        shape = seen.activations.shape[:2]
        with self._lock, torch.enable_grad():
            projected = self._projected(seen).detach().requires_grad_(True)
            pooled = self._pooled(seen, projected)
            negatives = self._negatives(objective, shape[0])
            (gradients,) = torch.autograd.grad(objective.loss(pooled, self._tensors, negatives), projected)
        return gradients.view(*shape, *gradients.shape[1:])

    @torch.no_grad()
    def _negatives(self, objective: Objective, batch: int) -> Tensor | None:
        """Latents (B, M, d) of the fixed negatives, the same for every image."""
        if not objective.contrasts or "negatives" not in self._tensors:
            return None
        return self._latents_of("negatives", objective).expand(batch, -1, -1)

    @torch.no_grad()
    def _project(self, gradients: Tensor, activations: Tensor) -> Tensor:
        """Project sum_vt g_vt (x) a_vt of each image: (B, V, T, E), (B, V, T, A + 1) -> (B, k).

        Factored costs 2 k E for each of V T tokens. Dense forms the sum, E (E + 1) numbers, once an image,
        at V T E^2, and multiplies by k times as many. So factored is cheaper for few tokens (CLS of
        one view), and for the mean over many patches it is about even with forming the sum alone.
        """
        g, a = gradients.flatten(1, 2), activations.flatten(1, 2)  # (B, N, .)
        g = g / g.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None]  # tiny; its scale cancels
        if "p" in self._tensors:
            summed = torch.bmm(g.transpose(1, 2), a).flatten(1)  # (B, E * (A + 1))
            dense: Tensor = summed @ self._tensors["p"].T / len(self._tensors["p"]) ** 0.5
            return dense
        return project_factored(g, a, self._tensors["u"], self._tensors["v"]).sum(dim=1)

    def _vectors(self, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        embedding, *gradients = self.feature_parts(images).values()
        if not gradients:
            return embedding
        joined = join_gradients(gradients, self.recipe.objective.shares)
        return join_features([embedding, joined], self.recipe.features.gradient_weight)


@dataclass(frozen=True)
class _Seen:
    """What the model says of the V views of B images, of their N pooled tokens alone."""

    residual: Tensor
    """(B * V, N, E)."""
    activations: Tensor
    """(B, V, N, A + 1), with 1 appended where the projection has a bias."""


def _pools_cls(pool: str, backbone: Backbone) -> bool:
    """Whether the CLS token stands for an image; raises ConfigError where there is none."""
    if pool == "cls" and backbone.prefix_tokens == 0:
        raise ConfigError("features.pool=cls needs a model with a CLS token; take features.pool=mean")
    return pool == "cls" or (pool == "auto" and backbone.prefix_tokens > 0)
