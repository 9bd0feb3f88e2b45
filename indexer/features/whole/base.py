"""FUNGI features of whole inputs: the pooled embedding joined with the gradients of several objectives.

Source: *No Train, all Gain* (Simoncini, Gidaris, Bursuc, Asano; NeurIPS 2024) and its package
``fungivision``. The gradient of an input is a sum over its views and tokens of outer products, so it is
not one itself, and its cosine has no product form; it is projected instead.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.features.objectives import Objective
from indexer.features.projection import (
    fit_pca,
    join_embeddings,
    join_features,
    join_gradients,
    project_factored,
)
from indexer.features.stored import StoredExtractor
from retrieval.errors import ConfigError, DatasetError
from retrieval.similarity import Cosine

#: What one input is: an image (H, W, 3) uint8, a text, a recording.
Content = TypeVar("Content")


@dataclass(frozen=True)
class Seen:
    """What the model says of the V views of B inputs, of their N pooled tokens alone."""

    residual: Tensor
    """(B * V, N, E)."""
    activations: Tensor
    """(B, V, N, A + 1), with 1 appended where the projection has a bias."""
    weights: Tensor | None = None
    """(B * V, N) share of each token in the pooled embedding, summing to 1 over N; None: all alike."""
    alike: Tensor | None = None
    """(B,) bool: inputs whose views are all the same; None: not known, they differ."""
    earlier: tuple[Tensor, ...] = ()
    """Embeddings (B * V, N, E) of each earlier block that is joined, not normalised."""


class WholeExtractor(StoredExtractor, Generic[Content]):
    """Maps whole inputs to vectors; what kind of inputs, a subclass says.

    Make one with :meth:`create`, then :meth:`fit` it on memory inputs (negatives, PCA); or get that
    of an index with :meth:`open`. But for rounding, an input's vector does not depend on its batch.
    """

    #: What one input is called, for messages.
    noun: ClassVar[str]

    @abstractmethod
    def read(self, source: Any) -> Content:
        """One input; raises DataError for one that cannot be used."""

    @abstractmethod
    def extent(self, content: Content) -> tuple[int, int]:
        """(height, width) for an input's record."""

    def picture(self, content: Content) -> npt.NDArray[np.uint8] | None:
        """The input as people would look at it, (H, W, 3) uint8; None where there is nothing to see."""
        return None

    def excerpt(self, content: Content) -> str | None:
        """The beginning of an input as people would read it; None where there is nothing to read."""
        return None

    @abstractmethod
    def see(self, kind: str, contents: Sequence[Content], *, few: bool = False) -> Seen:
        """The views that ``kind`` says of each of B inputs, through the model to the cut.

        ``few`` asks for as many views as a fixed negative needs.
        """

    @property
    def similarity(self) -> Cosine:
        """The cosine."""
        return Cosine(self.recipe.features.kept or self.raw_width)

    def prepare_one(self, content: Content) -> Content:
        """The input itself: each objective makes its own views of it."""
        return content

    def collate(self, prepared: Sequence[Content]) -> list[Content]:
        """A batch of inputs, which may differ in size."""
        return list(prepared)

    def extract(self, contents: Sequence[Content]) -> Tensor:
        """Vectors of inputs: (B, D) float32 of length one, on the CPU."""
        return self._reduce(self.raw_vectors(contents)).cpu()

    def feature_parts(self, contents: Sequence[Content]) -> dict[str, Tensor]:
        """The unit vectors that are joined to an input's, by name: ``embedding``, then each objective.

        (B, width) float32 each.
        """
        return dict(self.each_part(contents))

    def each_part(self, contents: Sequence[Content]) -> Iterator[tuple[str, Tensor]]:
        """The parts of :meth:`feature_parts`, each computed when it is asked for."""
        single = self.see("single", contents)
        earlier = [self._pool(single, tokens)[:, 0] for tokens in single.earlier]
        yield "embedding", join_embeddings([*earlier, self._embed(single)[:, 0]])
        for objective in self._objectives:
            seen = single if objective.views == "single" else self.see(objective.views, contents)
            gradients = self._gradients(objective, seen)
            part = F.normalize(self._project(gradients, seen.activations), dim=-1)
            if seen.alike is not None and not self._has_negatives:
                part[seen.alike.to(part.device)] = 0  # nothing to compare: what is left is rounding
            yield objective.name, part

    def fit(self, batches: Callable[[], Iterable[list[Content]]], *, images: int) -> None:
        """Draw the negatives and fit the PCA on memory inputs, where the recipe has them.

        ``batches()`` yields lists of inputs; it is called once for each of the two, and yields ``images``
        inputs in all. Same seed and inputs, same result.
        """
        features, wanted = self.recipe.features, self.recipe.objective.infonce.negatives
        if self._has_negatives:
            generator = torch.Generator().manual_seed(self.recipe.seed)
            chosen = set(torch.randperm(images, generator=generator)[:wanted].tolist())
            every = (content for batch in batches() for content in batch)
            seen = [
                self._embed(self.see("overlapping", [content], few=True))[0]
                for number, content in enumerate(every)
                if number in chosen
            ]
            if not seen:
                raise DatasetError(
                    f"none of the {self.noun}s that should fit the features can be read; check them"
                )
            self._set({**self._tensors, "negatives": torch.cat(seen)})
        if features.pca is not None:
            sample = torch.cat([self.raw_vectors(batch) for batch in batches()])
            if len(sample) <= features.pca:
                raise ConfigError(
                    f"features.pca={features.pca} needs more {self.noun}s than that to be fitted, and there "
                    f"are {len(sample)}; choose a smaller width or add {self.noun}s"
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

    def _with_bias(self, activation: Tensor) -> Tensor:
        """Activations (..., A), with 1 appended where the projection has a bias."""
        return activation if self.backbone.projection[1] is None else F.pad(activation, (0, 1), value=1.0)

    @torch.no_grad()
    def _embed(self, seen: Seen) -> Tensor:
        """Pooled embeddings (B, V, E), not normalised."""
        with self._lock:
            return self._pooled(seen, self._projected(seen))

    def _projected(self, seen: Seen) -> Tensor:
        """Output of the attention projection, (B * V, N, E)."""
        weight, bias = self.backbone.projection
        return F.linear(seen.activations[..., : weight.shape[1]].flatten(0, 1), weight, bias)

    def _pooled(self, seen: Seen, projected: Tensor) -> Tensor:
        """From the projection's output to pooled embeddings, (B, V, E); the lock has to be held."""
        return self._pool(seen, self.backbone.tail(seen.residual, projected))

    def _pool(self, seen: Seen, tokens: Tensor) -> Tensor:
        """The pooled tokens (B * V, N, E) of each view: (B, V, E)."""
        if seen.weights is None:
            return tokens.mean(dim=1).view(*seen.activations.shape[:2], -1)
        pooled = torch.einsum("bn,bne->be", seen.weights, tokens)
        return pooled.view(*seen.activations.shape[:2], -1)

    def _gradients(self, objective: Objective, seen: Seen) -> Tensor:
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
        """Latents (B, M, d) of the fixed negatives, the same for every input."""
        if not objective.contrasts or "negatives" not in self._tensors:
            return None
        return self._latents_of("negatives", objective).expand(batch, -1, -1)

    @torch.no_grad()
    def _project(self, gradients: Tensor, activations: Tensor) -> Tensor:
        """Project sum_vt g_vt (x) a_vt of each input: (B, V, T, E), (B, V, T, A + 1) -> (B, k).

        Factored costs 2 k E for each of V T tokens. Dense forms the sum, E (E + 1) numbers, once an input,
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

    def raw_vectors(self, contents: Sequence[Content]) -> Tensor:
        """Vectors before PCA or metric: (B, raw_width) float32."""
        embedding, *gradients = self.feature_parts(contents).values()
        if not gradients:
            return embedding
        joined = join_gradients(gradients, self.recipe.objective.shares)
        vectors = join_features([embedding, joined], self.recipe.features.gradient_weight)
        return F.normalize(vectors, dim=-1)  # a part may be zero


def of_images_alone(views: str) -> ConfigError:
    """What to raise for views that only images have."""
    return ConfigError(f"objectives that compare {views} describe images alone; take kl or infonce")
