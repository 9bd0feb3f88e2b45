"""What extractors of patches and of whole images share: the model, and the tensors that an index stores."""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from indexer.features.backbone import Backbone
from indexer.features.cut import CutModel
from indexer.features.fixed import random_tensors
from indexer.features.metric import Metric, metric_key
from indexer.features.objectives import Objective, create_objectives
from indexer.features.projection import apply_pca
from indexer.images import read_image
from indexer.recipe import Recipe, RuntimeSettings, built_recipe
from retrieval.classes import ClassMap
from retrieval.errors import REPAIR, ConfigError, IndexDamagedError, IndexMismatchError
from retrieval.store.layout import FEATURES
from retrieval.store.manifest import Manifest
from retrieval.store.paths import text_path

E = TypeVar("E", bound="StoredExtractor")

#: Tensors that are stored in fewer bits than they are computed with; the random signs lose nothing.
STORED = {
    "u": torch.int8,
    "v": torch.int8,
    "p": torch.int8,
    "negatives": torch.float16,
    "metric_key": torch.uint8,
}


class StoredExtractor(ABC):
    """A recipe's backbone and objectives, and the tensors that decide vectors: heads, projection, PCA or
    metric.

    Make one with :meth:`create`, or with :meth:`open` that of an index.
    """

    #: As the constructor took it.
    backbone: CutModel

    def __init__(self, recipe: Recipe, backbone: CutModel, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :meth:`open`; ``tensors`` is what :meth:`to_bytes` stores."""
        # reports say what auto came to be
        runtime = recipe.runtime.model_copy(update={"precision": backbone.precision})
        self.recipe = recipe.model_copy(update={"runtime": runtime})
        self.backbone = backbone
        self._objectives = create_objectives(recipe.objective) if recipe.uses_gradients else ()
        self._lock = threading.Lock()  # the cut keeps what passes it in the model, which all threads share
        self._set(tensors)

    @classmethod
    def create(cls: type[E], recipe: Recipe, backbone: CutModel | None = None) -> E:
        """An extractor with the recipe's backbone and random matrices from its seed, not fitted yet.

        ``backbone`` is that of another extractor whose recipe differs in what follows the model alone.
        """
        extractor = cls(recipe, backbone or cls.load_model(recipe), {})
        extractor._set(random_tensors(extractor._objectives, recipe, extractor.backbone))
        features, width = recipe.features, extractor.raw_width
        for key, kept in (("pca", features.pca), ("width", features.width)):
            if kept is not None and kept > width:
                raise ConfigError(
                    f"features.{key}={kept} is more than the {width} numbers of a vector; choose less"
                )
        return extractor

    @classmethod
    def open(cls: type[E], folder: Path, manifest: Manifest, *, runtime: RuntimeSettings | None = None) -> E:
        """The extractor that made the vectors of the index in ``folder``.

        ``runtime`` (device, precision, batch size) is of the place where this runs, the defaults where None;
        what an older index says of it is ignored. Raises IndexMismatchError where the weights that
        are there now are not those of the index, or the metric was fitted for other features or classes.
        """
        recipe = built_recipe(manifest.recipe, folder)
        recipe = recipe.model_copy(update={"runtime": runtime or RuntimeSettings()})
        extractor = cls(recipe, cls.load_model(recipe), {})
        extractor.load(manifest.place(folder, FEATURES))
        for part in ("weights", "preprocessing"):
            if extractor.fingerprints[part] != manifest.fingerprints.get(part):
                raise IndexMismatchError(
                    f"{folder}: the index was built with other {part} than {recipe.backbone.model} from "
                    f"{recipe.backbone.weights} gives now; restore the old ones or build the index again"
                )
        extractor._check_metric(folder, manifest)
        return extractor

    @classmethod
    def load_model(cls, recipe: Recipe) -> CutModel:
        """The frozen model of a recipe; raises ConfigError and WeightsError."""
        return Backbone(
            recipe.backbone, size=recipe.image.fixed_size, runtime=recipe.runtime, seed=recipe.seed
        )

    def read(self, source: Any) -> Any:
        """One input of the memory or one to ask about; raises DataError."""
        return read_image(source)

    @property
    @abstractmethod
    def _preprocessing(self) -> list[Any]:
        """All that decides what the model sees of an image, as plain data."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the weights, of the preprocessing and of the recipe's part that decides vectors."""
        seen = json.dumps(self._preprocessing)
        return {
            "weights": self.backbone.fingerprint,
            "preprocessing": hashlib.sha256(seen.encode()).hexdigest(),
            "recipe": self.recipe.fingerprint(),
        }

    def load(self, path: Path) -> None:
        """Take what :meth:`to_bytes` stored from a file; raises IndexDamagedError."""
        try:
            with text_path(path) as name:
                tensors = load_file(name)
        except (SafetensorError, OSError) as error:
            raise IndexDamagedError(f"{path}: cannot be read ({error}); build the index again") from error
        self._set(tensors)

    def to_bytes(self) -> bytes:
        """Heads, projection, PCA or metric and what negatives come from, in the safetensors format."""
        stored = {
            name: tensor.to(STORED.get(name, tensor.dtype)).cpu().contiguous()
            for name, tensor in self._tensors.items()
        }
        return save_tensors(stored, metadata={"format": "mycelia-features-1"})

    def take_metric(self, metric: Metric, classes: ClassMap) -> None:
        """Measure with a fitted metric from now on; ``classes`` are those of its labels, and of the index."""
        arrays = {
            "metric_mean": metric.mean,
            "metric_directions": metric.directions,
            "metric_shrinkage": np.array([metric.shrinkage], dtype=np.float32),
            "metric_patches": metric.patches,
            "metric_key": metric_key(self.fingerprints, classes),
        }
        self._set({**self._tensors, **{name: torch.tensor(array) for name, array in arrays.items()}})

    def _check_metric(self, folder: Path, manifest: Manifest) -> None:
        stored = self._tensors.get("metric_key")
        if stored is None and self.recipe.features.metric == "none":
            return
        wanted = metric_key(manifest.fingerprints, manifest.fitted_classes or manifest.classes)
        if stored is None or not np.array_equal(stored.cpu().numpy(), wanted):
            raise IndexMismatchError(
                f"{folder}: its {FEATURES} has no metric, or one for other features or classes than the "
                f"index has; {REPAIR}"
            )

    def _set(self, tensors: dict[str, Tensor]) -> None:
        # as they will be read again: what is stored in fewer bits is rounded now
        self._tensors = {
            name: tensor.to(STORED.get(name, tensor.dtype)).to(self.backbone.device).float()
            for name, tensor in tensors.items()
        }
        self._latents: dict[str, Tensor] = {}  # made when first needed

    def _latents_of(self, stored: str, objective: Objective) -> Tensor:
        """An objective's latents of the stored embeddings of that name."""
        if objective.name not in self._latents:
            self._latents[objective.name] = objective.latents(self._tensors[stored], self._tensors)
        return self._latents[objective.name]

    @property
    def _contrasts(self) -> bool:
        """Whether an objective takes negatives."""
        return any(objective.contrasts for objective in self._objectives)

    @property
    def raw_width(self) -> int:
        """Numbers of a vector before PCA or metric."""
        features, width = self.recipe.features, self.backbone.width
        if features.kind == "embeddings":
            return self.embedding_width
        return self.embedding_width + len(self._objectives) * (features.projection_width or width)

    @property
    def embedding_width(self) -> int:
        """Numbers of an embedding: those of all blocks that are joined."""
        return self.backbone.width * len(self.backbone.joined)

    def _reduce(self, vectors: Tensor) -> Tensor:
        for mean, directions in (("pca_mean", "pca_components"), ("metric_mean", "metric_directions")):
            if mean in self._tensors:
                return apply_pca(vectors, self._tensors[mean], self._tensors[directions])
        return vectors
