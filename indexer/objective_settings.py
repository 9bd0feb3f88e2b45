"""The ``objective`` section of a recipe: which losses describe an input, and each one's own settings."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from indexer.sections import MOST_WIDTH, Section
from retrieval.errors import ConfigError

#: Keys that older recipes and manifests have directly below ``objective``; they are InfoNCE's now.
FLAT_KEYS = ("temperature", "tempered", "head_width", "neighbours", "keep", "support_size")
#: The objectives that come with Mycelia.
NAMES = ("infonce", "kl", "dino")
#: Pixels that a window has at least, each way.
LEAST_WINDOW = 2
#: The environment variable with the modules, split by commas, whose objectives an index may be opened with.
TRUSTED_VARIABLE = "MYCELIA_OBJECTIVES"


class InfoNCESettings(Section):
    """InfoNCE: of patches between the tokens of an image, of whole images between overlapping windows."""

    temperature: float = Field(0.07, ge=1e-4, le=1e4, description="T of the positives")
    tempered: bool = Field(
        False, description="divide both terms by the temperature (the published code divides one)"
    )
    head_width: int = Field(96, ge=1, le=MOST_WIDTH, description="width of the fixed random head")
    neighbours: int = Field(
        2,
        ge=0,
        le=10_000,
        description="of patches: nearest support entries of each token that are its negatives; 0 skips the "
        "support bank and its cost, which in the published form changes nothing measurable",
    )
    keep: float = Field(0.5, gt=0, le=1, description="of patches: share of those negatives kept")
    support_size: int = Field(
        4096,
        ge=1,
        le=2**24,
        description="of patches: embeddings of memory images that negatives are drawn from",
    )
    negatives: int = Field(
        64,
        ge=0,
        le=65_536,
        description="of whole images: memory images whose windows are the fixed negatives; so of texts and "
        "recordings (the papers took 256)",
    )
    patches: int = Field(
        4,
        ge=4,
        le=2**24,
        description="of whole images: a window has 1 / patches of the image's area; a square number",
    )
    stride_scale: int = Field(
        6, ge=1, le=1000, description="of whole images: windows are a side / stride_scale apart"
    )

    views: int = Field(
        12, ge=2, le=10_000, description="of texts and recordings: altered copies that are compared"
    )
    negative_views: int = Field(
        2, ge=1, le=10_000, description="of texts and recordings: altered copies of each negative"
    )
    deletion: float = Field(0.1, ge=0, lt=1, description="of texts: share of the words that a copy lacks")
    noise: float = Field(
        0.1, ge=0, le=1000, description="of recordings: largest noise on a copy's (normalised) spectrogram"
    )
    shift: int = Field(
        10, ge=0, le=100_000, description="of recordings: frames by which a copy is shifted in time, at most"
    )

    @field_validator("patches")
    @classmethod
    def _is_square(cls, patches: int) -> int:
        if round(patches**0.5) ** 2 != patches:
            raise ValueError("should be a square number, for example 4 or 9")
        return patches


class KLSettings(Section):
    """KL to the uniform distribution."""

    temperature: float = Field(
        1.0, ge=1e-4, le=1e4, description="T of the softmax (the papers took 15 for text)"
    )
    head_width: int = Field(768, ge=1, le=MOST_WIDTH, description="width of the fixed random head")


class DINOSettings(Section):
    """Self-distillation between crops; of whole images only."""

    teacher_temperature: float = Field(0.07, ge=1e-4, le=1e4, description="T of the global crops' softmax")
    student_temperature: float = Field(0.1, ge=1e-4, le=1e4, description="T of every crop's softmax")
    head_width: int = Field(2048, ge=1, le=MOST_WIDTH, description="width of the two fixed random heads")
    global_crops: int = Field(2, ge=1, le=1000, description="large crops")
    local_crops: int = Field(10, ge=0, le=1000, description="small crops")
    global_scale: tuple[float, float] = Field((0.25, 1.0), description="area of a large crop, of the image's")
    local_scale: tuple[float, float] = Field((0.05, 0.25), description="area of a small crop")

    @field_validator("global_scale", "local_scale")
    @classmethod
    def _is_range(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("should be [smallest, largest], both above 0 and at most 1")
        return scale


class ObjectiveSettings(Section):
    """The self-supervised losses whose gradients describe a patch or an image."""

    kind: tuple[str, ...] = Field(
        ("infonce",),
        description="which losses: infonce, kl, dino (whole images only), or MODULE:CLASS of your own; "
        "several in brackets, [infonce,kl]",
    )
    weights: tuple[float, ...] | None = Field(
        None, description="how much each of several counts beside the others; evenly when empty"
    )
    infonce: InfoNCESettings = InfoNCESettings()
    kl: KLSettings = KLSettings()
    dino: DINOSettings = DINOSettings()
    options: dict[str, Any] = Field({}, description="what an objective of your own is made with")

    @model_validator(mode="before")
    @classmethod
    def _place_sections(cls, data: Any) -> Any:
        """Flat keys of older recipes go into InfoNCE's section; one kind may stand without brackets."""
        if not isinstance(data, dict):
            return data
        placed = dict(data)
        if isinstance(placed.get("kind"), str):
            placed["kind"] = (placed["kind"],)
        flat = {key: placed.pop(key) for key in FLAT_KEYS if key in placed}
        kind = placed.get("kind", ("infonce",))
        if flat and _are_names(kind) and "infonce" not in kind:
            raise ConfigError(
                f"objective.{next(iter(flat))} is a setting of InfoNCE, but objective.kind is "
                f"{', '.join(kind)}; its own settings are named so: objective.kl.temperature "
                "(recipes of older versions mean another KL than the published one: drop such keys)"
            )
        section = placed.get("infonce", {})
        section = section.model_dump() if isinstance(section, BaseModel) else section
        if flat and isinstance(section, dict):  # anything else is refused as a section
            placed["infonce"] = {**section, **flat}
        return placed

    @field_validator("kind", mode="before")
    @classmethod
    def _names_objectives(cls, kind: Any) -> Any:
        if not _are_names(kind):
            raise ValueError("should be the name of an objective, or several in brackets, [infonce,kl]")
        return kind

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: tuple[str, ...]) -> tuple[str, ...]:
        for name in kind:
            if name not in NAMES and ":" not in name:
                raise ValueError(f"there is no objective {name!r}; choose of {', '.join(NAMES)}")
        if not kind or len(set(kind)) < len(kind):
            raise ValueError("name at least one objective, and each once")
        return kind

    @field_validator("weights")
    @classmethod
    def _are_positive(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and not all(1e-6 <= weight <= 1e6 for weight in weights):
            raise ValueError("should be numbers above 0, from 1e-6 to 1e6")
        return weights

    @model_validator(mode="after")
    def _fit_each_other(self) -> ObjectiveSettings:
        if self.weights is not None and len(self.weights) != len(self.kind):
            raise ConfigError(
                f"objective.weights has {len(self.weights)} numbers for {len(self.kind)} objectives; "
                "give one for each, or leave it empty"
            )
        return self

    def check_windows(self, size: tuple[int, int]) -> None:
        """Raise ConfigError where windows of an image (height, width) are too small to show anything."""
        if all(name in ("kl", "dino") for name in self.kind):  # one of your own may take windows
            return
        parts = math.isqrt(self.infonce.patches)
        if min(size) // parts < LEAST_WINDOW:
            most = (min(size) // LEAST_WINDOW) ** 2
            height, width = size
            raise ConfigError(
                f"objective.infonce.patches={self.infonce.patches} cuts an image of {height} x {width} "
                f"pixels into windows of {height // parts} x {width // parts}, and each side needs "
                f"{LEAST_WINDOW}; choose at most {most}, for example 4 or 9"
            )

    @property
    def own_modules(self) -> tuple[str, ...]:
        """The modules of objectives that do not come with Mycelia, in the order of ``kind``."""
        return tuple(name.partition(":")[0] for name in self.kind if name not in NAMES)

    @property
    def shares(self) -> tuple[float, ...]:
        """How much each objective counts, in the order of ``kind``; they sum to 1."""
        weights = self.weights or (1.0,) * len(self.kind)
        return tuple(weight / sum(weights) for weight in weights)


def check_trusted(settings: ObjectiveSettings, folder: Path) -> None:
    """Raise ConfigError where an index has an objective of a module that the user here has not named.

    Opening the index would import that module, and an index may come from anybody.
    """
    named = {name.strip() for name in os.environ.get(TRUSTED_VARIABLE, "").split(",")}
    for module in settings.own_modules:
        if module not in named:
            every = ",".join(dict.fromkeys(settings.own_modules))
            raise ConfigError(
                f"{folder}: the index was built with an objective of the Python module {module!r}, whose "
                "code would run here; where you trust it, name it in the environment variable "
                f"{TRUSTED_VARIABLE}={every}"
            )


def _are_names(kind: Any) -> bool:
    return isinstance(kind, list | tuple) and all(isinstance(name, str) for name in kind)
