"""The votes of left-out images for many settings, from products of the unit vectors that are joined.

The cosine of joined vectors is the weighted mean of the cosines of their parts, so each part's products serve
every set of objectives and every weight. Only a PCA needs the joined vectors themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.bank.fitting import samples_to_fit
from indexer.datasets import Sample
from indexer.features.projection import apply_pca, fit_pca, join_features, join_gradients
from retrieval.errors import ConfigError
from retrieval.progress import Task
from segmentation.transfer import blend_labels, vote_shares
from segmentation.tuning.image_rows import EMBEDDING, LabelledImages
from segmentation.tuning.image_settings import ImageFeatures, ImageSetting
from segmentation.tuning.leave_out import Nearest
from segmentation.tuning.measures import Recorder

#: Left-out images compared with all others at a time.
CHUNK = 256
#: Parts of the images; each has a PCA that was fitted without it.
FOLDS = 5

Ints = npt.NDArray[np.int64]
Parts = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """What is left out with an image: all of its group, and what has the same content."""

    groups: Ints
    """(N,) the group of each image."""
    recorder: Recorder


@dataclass(frozen=True)
class Voting:
    """What the votes of every block need."""

    samples: Sequence[Sample]
    images: LabelledImages
    queries: Ints
    """(Q,) positions of the images that are left out in turn."""
    rules: Sequence[Rule]
    settings: Sequence[ImageSetting]
    whiten: str

    def score(self, parts: Parts, block: int, *, device: torch.device, task: Task) -> None:
        """Record the votes under all settings of a block, whose images are ``parts`` (N, width).

        ``task`` advances by the left-out images; raises ConfigError for a PCA wider than the vectors.
        """
        parts = {name: part.to(device) for name, part in parts.items()}
        here = list(dict.fromkeys(s.features for s in self.settings if s.features.block == block))
        joined, reduced = [f for f in here if f.pca is None], [f for f in here if f.pca is not None]
        for start in range(0, len(self.queries), CHUNK):
            places = np.arange(start, min(start + CHUNK, len(self.queries)))
            rows = torch.from_numpy(self.queries[places]).to(device)
            cosines = {name: part[rows] @ part.T for name, part in parts.items()}
            for features in joined:
                similarities = join_cosines(cosines, features)
                for rule in self.rules:
                    self._record(rule, features, places, similarities)
            task.advance(len(places))
        for features in reduced:
            for rule in self.rules:
                for places, similarities in self._with_pca(parts, features, rule):
                    self._record(rule, features, places, similarities)

    def _with_pca(self, parts: Parts, features: ImageFeatures, rule: Rule) -> Iterator[tuple[Ints, Tensor]]:
        """Places of left-out images and their cosines with all: under a PCA that none of them fitted."""
        vectors = join_parts(parts, features)
        folds = rule.groups % FOLDS
        width = features.pca or vectors.shape[1]
        if width > vectors.shape[1]:
            raise ConfigError(
                f"a PCA of width {width} is wider than the {vectors.shape[1]} numbers of "
                f"{features.described}; choose a smaller --pca"
            )
        for fold in np.unique(folds[self.queries]):
            chosen = self._fitting(folds != fold)
            mean, components = fit_pca(vectors[chosen], width, whiten=self.whiten)
            shorter = apply_pca(vectors, mean, components)
            places = np.flatnonzero(folds[self.queries] == fold)
            for start in range(0, len(places), CHUNK):
                some = places[start : start + CHUNK]
                yield some, shorter[torch.from_numpy(self.queries[some]).to(shorter.device)] @ shorter.T

    def check_pca(self) -> None:
        """Raise ConfigError, before any work, where too few images fit a PCA that should be tried."""
        width = max((setting.features.pca or 0 for setting in self.settings), default=0)
        for rule in self.rules if width else ():
            folds = rule.groups % FOLDS
            fewest = min(len(self._fitting(folds != fold)) for fold in np.unique(folds[self.queries]))
            if width >= fewest:
                raise ConfigError(
                    f"a PCA of width {width} needs more images than that to be fitted, and here {fewest} fit "
                    "it (at most 128, and never those left out); choose a smaller --pca or add images"
                )

    def _fitting(self, allowed: npt.NDArray[np.bool_]) -> list[int]:
        """Positions of the images that fit a PCA as a build of the allowed ones (N,) chooses them."""
        number = {self.samples[i].id: i for i in np.flatnonzero(allowed).tolist()}
        return [number[s.id] for s in samples_to_fit([self.samples[i] for i in number.values()])]

    def _record(self, rule: Rule, features: ImageFeatures, places: Ints, similarities: Tensor) -> None:
        asked = self.queries[places]
        hidden = rule.groups[asked][:, None] == rule.groups
        hidden |= self.images.contents[asked][:, None] == self.images.contents
        settings = [(n, s) for n, s in enumerate(self.settings) if s.features == features]
        nearest = Nearest.none(len(places), max(s.k for _, s in settings), similarities.device)
        nearest.update(
            similarities.masked_fill(torch.from_numpy(hidden).to(similarities.device), -torch.inf), 0
        )
        found = nearest.neighbors(self.images.labels)
        for number, setting in settings:
            near = found.first(setting.k)
            votes = vote_shares(near, temperature=setting.temperature)
            rule.recorder.add(number, places, blend_labels(near.labels, votes))


def join_cosines(cosines: Parts, features: ImageFeatures) -> Tensor:
    """``(cos e + w sum_i share_i cos G_i) / (1 + w)``, (Q, N); of the embedding alone its own cosine."""
    embedding = cosines[EMBEDDING]
    if not features.objectives:
        return embedding
    gradients = torch.zeros_like(embedding)
    for name, share in zip(features.objectives, features.shares, strict=True):
        gradients.add_(cosines[name], alpha=share)
    return embedding.add(gradients, alpha=features.weight).div_(1 + features.weight)


def join_parts(parts: Parts, features: ImageFeatures) -> Tensor:
    """The joined vectors (N, D) whose cosines :func:`join_cosines` gives."""
    if not features.objectives:
        return parts[EMBEDDING]
    gradients = join_gradients([parts[name] for name in features.objectives], features.shares)
    return join_features([parts[EMBEDDING], gradients], features.weight)
