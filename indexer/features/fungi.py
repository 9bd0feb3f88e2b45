"""FUNGI patch features: the embedding of a patch joined with its self-supervised gradient.

Source: *No Train, all Gain: Self-Supervised Gradients Improve Deep Frozen Representations*
(Simoncini, Gidaris, Bursuc, Asano; NeurIPS 2024). The gradient of the loss with respect to the
attention projection's weight and bias is, for one token, the outer product of g (gradient of the
projection's output) and a (its input, with 1 appended); it is never formed, except by the dense
projection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.cut import Cut
from indexer.features.objectives import Objective
from indexer.features.projection import (
    fit_pca,
    join_embeddings,
    join_features,
    join_gradients,
    project_dense,
    project_factored,
)
from indexer.features.stored import StoredExtractor
from indexer.images import Geometry, make_geometry
from indexer.images.tiles import lay_tiles
from indexer.images.windows import ArrayReader, see
from indexer.recipe import Recipe, RuntimeSettings
from retrieval.errors import ConfigError, DatasetError
from retrieval.similarity import Cosine, GradientProduct, Reranked, Similarity
from retrieval.store.manifest import Manifest

#: Patches of one image that a PCA sample takes at most.
PCA_PATCHES_PER_IMAGE = 256
#: So few largest values of a row are found faster one by one.
FEW_COLUMNS = 4


@dataclass(frozen=True)
class PatchGradients:
    """What one forward and one short backward pass say of B images' patches (prefix dropped)."""

    embeddings: Tensor
    """e of the block that is cut, (B, T, E) float32, not normalised."""
    gradients: tuple[Tensor, ...]
    """g of each objective, (B, T, E): gradient of its loss with respect to the projection's output."""
    activations: Tensor
    """a with 1 appended where the projection has a bias, (B, T, A + 1)."""
    earlier: tuple[Tensor, ...] = ()
    """e of each earlier block that is joined, (B, T, E), not normalised."""


class FungiExtractor(StoredExtractor):
    """Maps images to the vectors of their patches, as a recipe says.

    Make one with :meth:`create`, then :meth:`fit` it on memory images (support bank, PCA); or get
    that of an index with :func:`open_extractor`. A batch gives the same vectors as its images one by one.
    """

    backbone: Backbone

    def __init__(self, recipe: Recipe, backbone: Backbone, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :func:`open_extractor`; ``tensors`` is what :meth:`to_bytes` stores."""
        super().__init__(recipe, backbone, tensors)
        for objective in self._objectives:
            if not objective.of_patches:
                raise ConfigError(
                    f"the objective {objective.name} compares crops of a whole image and has none of "
                    "patches; take objective.kind=infonce, kl or [infonce,kl], or features.level=image"
                )

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in input pixels."""
        return self.backbone.patch_size

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image, row-major in the vectors."""
        return self.backbone.grid

    @property
    def similarity(self) -> Similarity:
        """What the vectors' nearness means: cosine, the exact product form, or one ordered by the other."""
        features = self.recipe.features
        weight, bias = self.backbone.projection
        width, inputs = self.backbone.width, weight.shape[1] + (bias is not None)
        gradients = width * len(self.recipe.objective.kind)
        product = GradientProduct(self.embedding_width, gradients, inputs, features.gradient_weight)
        if not features.reduces and features.kind == "fungi" and features.projection == "none":
            return product
        first = Cosine(features.kept or self.raw_width)
        if self.recipe.rerank.candidates is None:
            return first
        return Reranked(first, product, self.recipe.rerank.candidates, separate=not self._searches_embeddings)

    @property
    def _searches_embeddings(self) -> bool:
        """Whether what an engine searches by are the embeddings as they are."""
        return self.recipe.features.kind == "embeddings" and not self.recipe.features.reduces

    @property
    def _preprocessing(self) -> list[Any]:
        b, image = self.backbone, self.recipe.image
        scale = [] if image.scale is None else [image.scale]  # older fingerprints know nothing of it
        return [b.size, b.patch_size, b.mean, b.std, b.interpolation, image.fit, *scale]

    def prepare(
        self, image: npt.NDArray[np.uint8], geometry: Geometry | None = None
    ) -> tuple[Tensor, Geometry]:
        """Fit an RGB image (H0, W0, 3) uint8 to the model: (3, H, W) float32 normalised, and the way back."""
        if geometry is None:
            geometry = make_geometry(image.shape[:2], self.backbone.size, fit=self.recipe.image.fit)
        fill = tuple(round(255 * channel) for channel in self.backbone.mean)
        pixels = geometry.apply(image, interpolation=self.backbone.interpolation, fill=fill)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
        return self.backbone.normalise(tensor), geometry

    def prepare_one(self, image: npt.NDArray[np.uint8]) -> Tensor:
        """What :meth:`collate` takes of an image, (3, H, W) float32 normalised; of tiles the middle one."""
        scale = self.recipe.image.scale
        if scale is None:
            return self.prepare(image)[0]
        height, width = image.shape[:2]
        geometries = lay_tiles((height, width), self.backbone.size, scale=scale).geometries()
        return self.prepare(*see(ArrayReader(image), geometries[len(geometries) // 2]))[0]

    def collate(self, prepared: Sequence[Tensor]) -> Tensor:
        """A batch of what :meth:`prepare_one` gives: (B, 3, H, W)."""
        return torch.stack(list(prepared))

    def extract(self, images: Tensor) -> Tensor:
        """Vectors of images (B, 3, H, W) from :meth:`prepare`: (B, T, D) float32 on the CPU."""
        if self.similarity.reranked is None:
            return self._reduce(self.raw_vectors(images)).cpu()
        parts, weight = self.patch_gradients(images), self.recipe.features.gradient_weight
        exact = torch.cat(self._directions(parts), dim=-1)  # begins with the embeddings
        if self._searches_embeddings:
            return exact.cpu()
        searched = self._reduce(join_features(self._feature_parts(parts), weight))
        return torch.cat([searched, exact], dim=-1).cpu()

    def feature_parts(self, images: Tensor | Cut) -> tuple[Tensor, ...]:
        """The unit vectors that the vectors of images (B, 3, H, W) are joined from, each (B, T, width).

        The embedding, joined where it is of several blocks; with ``fungi`` also the projected gradient, or
        (``projection: none``) gradient and activation. Gradients of several objectives are joined to one
        unit vector, in which each has its share of ``objective.weights``. None of them depends on the
        gradient weight, which :func:`join_features` brings in.
        """
        if self.recipe.features.kind == "embeddings":
            with self._lock:
                cut = self._cut_of(images)
                return (join_embeddings([*self._earlier(cut), self._embeddings(cut)]),)
        return self._feature_parts(self.patch_gradients(images))

    def patch_gradients(self, images: Tensor | Cut) -> PatchGradients:
        """Embeddings, gradients and activations of images (B, 3, H, W); the loss is the recipe's.

        Instead of images, this, :meth:`feature_parts` and :meth:`fit` take what ``backbone.cut`` gave of
        them: a cut depends on no seed, so that one serves many heads.
        """
        backbone, prefix = self.backbone, self.backbone.prefix_tokens
        with self._lock, torch.enable_grad(), backbone.behind_the_cut():
            cut = self._cut_of(images)
            projected = backbone.projected(cut).requires_grad_(True)
            embeddings = backbone.tail(cut.residual, projected)  # (B, N, E)
            losses = [self._loss(objective, embeddings) for objective in self._objectives]
            last = len(losses) - 1
            gradients = [
                torch.autograd.grad(loss, projected, retain_graph=number < last)[0][:, prefix:]
                for number, loss in enumerate(losses)
            ]
        activations = cut.activation[:, prefix:]
        if backbone.projection[1] is not None:
            activations = F.pad(activations, (0, 1), value=1.0)
        return PatchGradients(
            embeddings.detach().float()[:, prefix:],
            tuple(gradient.float() for gradient in gradients),
            activations,
            self._earlier(cut),
        )

    def fit(self, batches: Callable[[], Iterable[Tensor | Cut]], *, images: int) -> None:
        """Fill the support bank and fit the PCA on memory images, where the recipe has them.

        ``batches()`` yields prepared images (B, 3, H, W); it is called once for each of the two, and
        yields ``images`` images in all. Same seed and images, same result.
        """
        features, objective = self.recipe.features, self.recipe.objective.infonce
        if self._has_support:
            each = -(-objective.support_size // images)
            sample = self._sample(batches(), self._embed, each, stream="support")
            support = F.normalize(sample[: objective.support_size], dim=-1)
            self._set({**self._tensors, "support": support})
        if features.pca is not None:
            sample = self._sample(batches(), self.raw_vectors, PCA_PATCHES_PER_IMAGE, stream="pca")
            if len(sample) <= features.pca:
                raise ConfigError(
                    f"features.pca={features.pca} needs more patches than that, and the memory images "
                    f"have {len(sample)}; choose a smaller width or add images"
                )
            mean, components = fit_pca(sample, features.pca, whiten=features.whiten)
            self._set({**self._tensors, "pca_mean": mean, "pca_components": components})

    @property
    def passes_to_fit(self) -> int:
        """How often :meth:`fit` goes over its images: for the support bank, for the PCA."""
        return self._has_support + (self.recipe.features.pca is not None)

    @property
    def _has_support(self) -> bool:
        """Whether negatives are drawn from a support bank."""
        return self._contrasts and self.recipe.objective.infonce.neighbours > 0

    def _embed(self, images: Tensor | Cut) -> Tensor:
        """Embeddings (B, T, E) of the block that is cut, not normalised: what its objectives compare."""
        with self._lock:
            return self._embeddings(self._cut_of(images))

    def _cut_of(self, images: Tensor | Cut) -> Cut:
        return images if isinstance(images, Cut) else self.backbone.cut(images)

    def _embeddings(self, cut: Cut) -> Tensor:
        return self.backbone.embeddings(cut)[:, self.backbone.prefix_tokens :]

    def _earlier(self, cut: Cut) -> tuple[Tensor, ...]:
        """Embeddings (B, T, E) of the earlier blocks that are joined, not normalised."""
        return tuple(
            self.backbone.earlier(tokens[:, self.backbone.prefix_tokens :]) for tokens in cut.earlier
        )

    def raw_vectors(self, images: Tensor | Cut) -> Tensor:
        """Vectors of images (B, 3, H, W) or their cut, before PCA or metric: (B, T, raw_width)."""
        return join_features(self.feature_parts(images), self.recipe.features.gradient_weight)

    def _feature_parts(self, parts: PatchGradients) -> tuple[Tensor, ...]:
        features, directions = self.recipe.features, self._directions(parts)
        if features.kind == "embeddings":
            return directions[:1]
        if features.projection == "none":
            return directions
        return directions[0], join_gradients(self.projected(parts), self.recipe.objective.shares)

    def projected(self, parts: PatchGradients) -> tuple[Tensor, ...]:
        """The projected gradient of each objective as unit vectors, (B, T, k) each."""
        with self.backbone.behind_the_cut():
            projected = [self._project(g, parts.activations).float() for g in parts.gradients]
        return tuple(F.normalize(p, dim=-1) for p in projected)

    def _directions(self, parts: PatchGradients) -> tuple[Tensor, Tensor, Tensor]:
        """e, g and a, each of length one: (B, T, width) each."""
        gradients = [F.normalize(g, dim=-1, eps=1e-30) for g in parts.gradients]  # g is tiny
        return (
            join_embeddings([*parts.earlier, parts.embeddings]),
            join_gradients(gradients, self.recipe.objective.shares),
            F.normalize(parts.activations, dim=-1),
        )

    def _project(self, gradients: Tensor, activations: Tensor) -> Tensor:
        # the loss is a mean over tokens, so g is tiny; its scale cancels in the cosine but not in float32
        gradients = F.normalize(gradients, dim=-1, eps=1e-30)
        if "p" in self._tensors:
            flat = project_dense(gradients.flatten(0, 1), activations.flatten(0, 1), self._tensors["p"])
            return flat.view(*gradients.shape[:2], -1)
        return project_factored(gradients, activations, self._tensors["u"], self._tensors["v"])

    def _loss(self, objective: Objective, embeddings: Tensor) -> Tensor:
        """An objective's loss on all tokens' embeddings (B, N, E)."""
        contrasts = objective.contrasts and "support" in self._tensors
        negatives = self._negatives(objective, embeddings.detach()) if contrasts else None
        return objective.loss(embeddings, self._tensors, negatives)

    @torch.no_grad()
    def _negatives(self, objective: Objective, embeddings: Tensor) -> Tensor:
        """Latents (B, M, d) of the support entries nearest to each token, a fixed share of them kept."""
        support = self._tensors["support"]
        count = min(self.recipe.objective.infonce.neighbours, len(support))
        # every image keeps the same positions: what a token meets must not depend on the batch
        generator = torch.Generator().manual_seed(self.recipe.seed)
        kept = (
            torch.rand(embeddings.shape[1] * count, generator=generator) <= self.recipe.objective.infonce.keep
        )
        nearest = torch.stack(
            [largest_columns((F.normalize(e, dim=-1) @ support.T).float(), count) for e in embeddings]
        )
        return self._latents_of("support", objective)[nearest.flatten(1)[:, kept.to(nearest.device)]]

    def _sample(
        self,
        batches: Iterable[Tensor | Cut],
        rows: Callable[[Tensor | Cut], Tensor],
        each: int,
        *,
        stream: str,
    ) -> Tensor:
        """``each`` random patches of every image, shuffled: (n, width)."""
        digest = hashlib.sha256(f"{self.recipe.seed} {stream}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
        picked = []
        for batch in batches:
            for image in rows(batch).cpu():
                picked.append(image[torch.randperm(len(image), generator=generator)[:each]])
        if not picked:
            raise DatasetError("none of the images that should fit the features can be read; check the files")
        sample = torch.cat(picked)
        return sample[torch.randperm(len(sample), generator=generator)].to(self.backbone.device)


def largest_columns(values: Tensor, count: int) -> Tensor:
    """Columns of the ``count`` largest values of each row, largest first: (n, m) -> (n, count) int64.

    ``values`` may be overwritten. For a few columns on the CPU, one argmax of numpy after another takes a
    fifth of the time of torch's topk.
    """
    if values.device.type != "cpu" or count > FEW_COLUMNS:
        return values.topk(count, dim=-1).indices
    rows, found = values.numpy(), np.empty((len(values), count), dtype=np.int64)
    for place in range(count):
        found[:, place] = rows.argmax(axis=1)
        np.put_along_axis(rows, found[:, place : place + 1], -np.inf, axis=1)
    return torch.from_numpy(found)


def open_extractor(
    folder: Path, manifest: Manifest, *, runtime: RuntimeSettings | None = None
) -> FungiExtractor:
    """The extractor that made the vectors of the index in ``folder``; see :meth:`FungiExtractor.open`."""
    return FungiExtractor.open(folder, manifest, runtime=runtime)
