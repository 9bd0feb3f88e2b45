"""FUNGI features of whole images: the pooled embedding joined with the gradients of several objectives.

Source: *No Train, all Gain* (Simoncini, Gidaris, Bursuc, Asano; NeurIPS 2024) and its package
``fungivision``. The gradient of an image is a sum over its views and tokens of outer products, so it is
not one itself, and its cosine has no product form; it is projected instead.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.fixed import random_projection
from indexer.features.objectives import Objective, create_objectives
from indexer.features.projection import apply_pca, fit_pca
from indexer.features.views import views_of
from indexer.recipe import Recipe, RuntimeSettings, built_recipe
from retrieval.errors import ConfigError, DatasetError, IndexDamagedError, IndexMismatchError
from retrieval.similarity import Cosine
from retrieval.store.layout import FEATURES
from retrieval.store.manifest import Manifest

#: Views that pass the model at once: more run out of the processor's cache.
CHUNK = 8


class ImageExtractor:
    """Maps whole images to vectors, as a recipe with ``features.level: image`` says.

    Make one with :meth:`create`, then :meth:`fit` it on memory images (negatives, PCA); or get that
    of an index with :func:`open_image_extractor`. An image's vector does not depend on its batch.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :func:`open_image_extractor`; ``tensors`` is what :meth:`to_bytes` stores."""
        self.recipe = recipe
        self.backbone = backbone
        self._objectives = create_objectives(recipe.objective) if recipe.uses_gradients else ()
        self._cls = _pools_cls(recipe.features.pool, backbone)
        self._lock = threading.Lock()  # the cut keeps what passes it in the model, which all threads share
        self._mean = torch.tensor(backbone.mean).view(3, 1, 1)
        self._std = torch.tensor(backbone.std).view(3, 1, 1)
        self._set(tensors)

    @classmethod
    def create(cls, recipe: Recipe) -> ImageExtractor:
        """An extractor with the recipe's backbone and random matrices from its seed, not fitted yet."""
        size = recipe.image.fixed_size
        backbone = Backbone(recipe.backbone, size=size, runtime=recipe.runtime, seed=recipe.seed)
        tensors: dict[str, Tensor] = {}
        if recipe.uses_gradients:
            for objective in create_objectives(recipe.objective):
                tensors |= objective.random_tensors(backbone.width, recipe.seed)
            tensors |= random_projection(recipe, backbone)
        extractor = cls(recipe, backbone, tensors)
        pca, width = recipe.features.pca, extractor._raw_width
        if pca is not None and pca > width:
            raise ConfigError(f"features.pca={pca} is more than the {width} numbers of a vector; choose less")
        return extractor

    @property
    def similarity(self) -> Cosine:
        """The cosine."""
        return Cosine(self.recipe.features.pca or self._raw_width)

    @property
    def _raw_width(self) -> int:
        width = self.backbone.width
        return width + len(self._objectives) * (self.recipe.features.projection_width or width)

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the weights, of the preprocessing and of the recipe's part that decides vectors."""
        b = self.backbone
        seen = json.dumps(["image", b.size, b.patch_size, b.mean, b.std])
        return {
            "weights": b.fingerprint,
            "preprocessing": hashlib.sha256(seen.encode()).hexdigest(),
            "recipe": self.recipe.fingerprint(),
        }

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

        (B, width) float32 each; :func:`join_parts` joins them.
        """
        single = self._forward([self._views("single", image) for image in images])
        parts = {"embedding": F.normalize(single.pooled[:, 0], dim=-1)}
        for objective in self._objectives:
            if objective.views == "single":
                seen = single
            else:
                seen = self._forward([self._views(objective.views, image) for image in images])
            gradients = self._gradients(objective, seen)
            parts[objective.name] = F.normalize(self._project(gradients, seen.activations), dim=-1)
        return parts

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
                self._forward([self._views("overlapping", image)]).pooled[0]
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
        contrasts = any(objective.contrasts for objective in self._objectives)
        return contrasts and self.recipe.objective.infonce.negatives > 0

    def load(self, path: Path) -> None:
        """Take heads, projection, negatives and PCA from a file; raises IndexDamagedError."""
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise IndexDamagedError(f"{path}: cannot be read ({error}); build the index again") from error
        self._set(tensors)

    def to_bytes(self) -> bytes:
        """Heads, projection, negatives and PCA in the safetensors format."""
        kinds = {"u": torch.int8, "v": torch.int8, "p": torch.int8, "negatives": torch.float16}
        stored = {
            name: tensor.to(kinds.get(name, tensor.dtype)).cpu().contiguous()
            for name, tensor in self._tensors.items()
        }
        return save_tensors(stored, metadata={"format": "mycelia-features-1"})

    def _set(self, tensors: dict[str, Tensor]) -> None:
        # as they will be read again: random signs are int8 on disk, negatives float16
        self._tensors = {
            name: (tensor.half() if name == "negatives" else tensor).to(self.backbone.device).float()
            for name, tensor in tensors.items()
        }
        self._negative_latents: dict[str, Tensor] = {}

    def _views(self, kind: str, image: npt.NDArray[np.uint8]) -> Tensor:
        """(V, 3, H, W) float32 normalised."""
        views = views_of(image, kind, self.backbone.size, self.recipe.objective, seed=self.recipe.seed)
        return (views - self._mean) / self._std

    @torch.no_grad()
    def _forward(self, views: Sequence[Tensor]) -> _Seen:
        """Views of B images, V each, through the model to the cut, and their pooled embeddings."""
        count, residuals, activations, embeddings = len(views[0]), [], [], []
        kept = slice(0, 1) if self._cls else slice(self.backbone.prefix_tokens, None)
        with self._lock:
            for chunk in torch.split(torch.cat(list(views)), CHUNK):
                cut = self.backbone.cut(chunk)
                # all behind the cut is token-wise: tokens that are not pooled have no gradient
                cut = type(cut)(cut.residual[:, kept].clone(), cut.activation[:, kept].clone())
                residuals.append(cut.residual)
                activations.append(cut.activation)
                embeddings.append(self.backbone.tail(cut.residual, self.backbone.projected(cut)).mean(dim=1))
        shape = (len(views), count)
        activation = torch.cat(activations)
        if self.backbone.projection[1] is not None:
            activation = F.pad(activation, (0, 1), value=1.0)
        return _Seen(
            torch.cat(residuals),
            activation.view(*shape, *activation.shape[1:]),
            torch.cat(embeddings).view(*shape, -1),
        )

    def _gradients(self, objective: Objective, seen: _Seen) -> Tensor:
        """dL/dh of every token that is pooled: (B, V, T, E)."""
        inputs, shape = seen.activations, seen.activations.shape[:2]
        weight, bias = self.backbone.projection
        plain = inputs[..., : weight.shape[1]].flatten(0, 1)
        with self._lock, torch.enable_grad():
            projected = F.linear(plain, weight, bias).detach().requires_grad_(True)
            pooled = self.backbone.tail(seen.residual, projected).mean(dim=1).view(*shape, -1)
            negatives = self._negatives(objective, shape[0])
            (gradients,) = torch.autograd.grad(objective.loss(pooled, self._tensors, negatives), projected)
        return gradients.view(*shape, *gradients.shape[1:])

    @torch.no_grad()
    def _negatives(self, objective: Objective, batch: int) -> Tensor | None:
        """Latents (B, M, d) of the fixed negatives, the same for every image."""
        if not objective.contrasts or "negatives" not in self._tensors:
            return None
        if objective.name not in self._negative_latents:
            latents = objective.latents(self._tensors["negatives"], self._tensors)
            self._negative_latents[objective.name] = latents
        return self._negative_latents[objective.name].expand(batch, -1, -1)

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
        u, v = self._tensors["u"], self._tensors["v"]
        factored: Tensor = ((g @ u.T) * (a @ v.T)).sum(dim=1) / len(u) ** 0.5
        return factored

    def _vectors(self, images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        features = self.recipe.features
        shares = self.recipe.objective.shares if self._objectives else ()
        return join_parts(list(self.feature_parts(images).values()), features.gradient_weight, shares)

    def _reduce(self, vectors: Tensor) -> Tensor:
        if "pca_mean" not in self._tensors:
            return vectors
        return apply_pca(vectors, self._tensors["pca_mean"], self._tensors["pca_components"])


class _Seen:
    """What the model says of the V views of B images, of their N pooled tokens alone."""

    def __init__(self, residual: Tensor, activations: Tensor, pooled: Tensor) -> None:
        self.residual = residual  #: (B * V, N, E)
        self.activations = activations  #: (B, V, N, A + 1), with 1 appended where the projection has a bias
        self.pooled = pooled  #: (B, V, E), not normalised


def join_parts(parts: Sequence[Tensor], weight: float, shares: Sequence[float]) -> Tensor:
    """Unit vectors of embedding and gradients, (B, width) each, as one of length one: (B, D).

    Their inner products are ``(cos e + weight sum_i share_i cos G_i) / (1 + weight)``.
    """
    if len(parts) == 1:
        return parts[0]
    scales = [1.0, *(weight * share for share in shares)]
    total = sum(scales)
    return torch.cat([part * (s / total) ** 0.5 for part, s in zip(parts, scales, strict=True)], dim=-1)


def open_image_extractor(
    folder: Path, manifest: Manifest, *, runtime: RuntimeSettings | None = None
) -> ImageExtractor:
    """The extractor that made the vectors of the index in ``folder``.

    Raises IndexMismatchError where the weights that are there now are not those of the index.
    """
    recipe = built_recipe(manifest.recipe, folder)
    recipe = recipe.model_copy(update={"runtime": runtime or RuntimeSettings()})
    size = recipe.image.fixed_size
    backbone = Backbone(recipe.backbone, size=size, runtime=recipe.runtime, seed=recipe.seed)
    extractor = ImageExtractor(recipe, backbone, {})
    extractor.load(manifest.place(folder, FEATURES))
    for part in ("weights", "preprocessing"):
        if extractor.fingerprints[part] != manifest.fingerprints.get(part):
            raise IndexMismatchError(
                f"{folder}: the index was built with other {part} than {recipe.backbone.model} from "
                f"{recipe.backbone.weights} gives now; restore the old ones or build the index again"
            )
    return extractor


def _pools_cls(pool: str, backbone: Backbone) -> bool:
    """Whether the CLS token stands for an image; raises ConfigError where there is none."""
    if pool == "cls" and backbone.prefix_tokens == 0:
        raise ConfigError("features.pool=cls needs a model with a CLS token; take features.pool=mean")
    return pool == "cls" or (pool == "auto" and backbone.prefix_tokens > 0)
