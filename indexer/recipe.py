"""A recipe: every setting of an experiment, validated, frozen, from YAML and ``key=value``.

A recipe decides the result; where the job runs (device, batch size, worker count) is in the
``runtime`` section, which is left out of the recipe's fingerprint.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from indexer.kinds import NOUNS, describes_images
from indexer.objective_settings import FLAT_KEYS as FLAT_OBJECTIVE_KEYS
from indexer.objective_settings import ObjectiveSettings, check_trusted
from indexer.sections import (
    QUERY_KEYS,
    AugmentationSettings,
    BackboneSettings,
    BankSettings,
    FeatureSettings,
    ImageSettings,
    RerankSettings,
    RuntimeSettings,
    Section,
    TransferSettings,
)
from indexer.yaml_text import MOST_BYTES, parse_yaml
from retrieval.engines.registry import engines_named
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.json_text import ParseError, read_limited
from retrieval.settings import FLAT_KEYS, IndexSettings

__all__ = [
    "AugmentationSettings",
    "BackboneSettings",
    "BankSettings",
    "FeatureSettings",
    "ImageSettings",
    "ObjectiveSettings",
    "Recipe",
    "RerankSettings",
    "RuntimeSettings",
    "TransferSettings",
    "built_recipe",
    "config_folder",
    "describes_images",
    "load_recipe",
    "override_recipe",
    "recipe_from_dict",
]


#: Settings of patches alone: recipes may have them for both, and builds of whole images ignore them.
PATCH_KEYS = ("image.fit", "bank.max_patches", "bank.augmentation", "bank.protocol")


class Recipe(Section):
    """All settings of an experiment or a deployment."""

    seed: int = Field(
        0, ge=-(2**63), lt=2**64, description="what all random steps follow from: same seed, same rows"
    )
    backbone: BackboneSettings = BackboneSettings()
    image: ImageSettings = ImageSettings()
    features: FeatureSettings = FeatureSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    bank: BankSettings = BankSettings()
    index: IndexSettings = IndexSettings()
    rerank: RerankSettings = RerankSettings()
    transfer: TransferSettings = TransferSettings()
    runtime: RuntimeSettings = RuntimeSettings()

    def check_rules(self) -> None:
        """Raise ConfigError for sections that contradict each other."""
        engine, features = self.index.spec, self.features
        if self.backbone.kind != "image":
            self._check_kind_rules()
        if features.level == "image":
            self._check_image_rules()
        exact = features.kind == "fungi" and features.projection == "none"
        self._check_metric_rules()
        self._check_scale_rules()
        if exact and features.reduces:
            key, instead = ("pca", "empty") if features.metric == "none" else ("metric", "at none")
            raise ConfigError(
                f"features.{key} needs a projected gradient; with features.projection=none leave it {instead}"
            )
        if exact and self.reranks:
            raise ConfigError(
                "features.projection=none orders all neighbours by the exact similarity already; leave "
                "rerank.candidates empty, or choose features.projection=factored or features.kind=embeddings"
            )
        engine.check_abilities(inner_product=not exact, reranked=self.reranks)

    def _check_kind_rules(self) -> None:
        what = f"{NOUNS[self.backbone.kind]}s"
        if self.features.level == "patch":
            raise ConfigError(
                f"features.level=patch describes patches of images, and {what} are described as a whole; "
                "leave it out"
            )
        if self.backbone.blocks:
            raise ConfigError(
                f"backbone.blocks joins blocks of a model of images; for {what} choose one, backbone.block="
                f"{self.backbone.blocks[-1]}"
            )
        if "dino" in self.objective.kind and self.uses_gradients:
            raise ConfigError(f"the objective dino compares crops of images; for {what} take kl or infonce")

    def _check_metric_rules(self) -> None:
        features = self.features
        if features.metric == "none" and features.width is not None:
            raise ConfigError(
                f"features.width={features.width} is the width of a metric; choose features.metric=class or "
                f"whiten, or features.pca={features.width} for principal components"
            )
        if features.metric != "none" and (features.pca is not None or features.whiten != "none"):
            raise ConfigError(
                f"features.metric={features.metric} stands in the place of features.pca and features.whiten; "
                "leave these out, and set features.width to keep the leading directions"
            )

    def _check_scale_rules(self) -> None:
        if self.image.scale is None:
            return
        scale = f"image.scale={self.image.scale:g}"
        if self.features.level == "image":
            raise ConfigError(f"{scale} is of patches; whole images are fitted to image.size, leave it empty")
        if self.bank.epochs > 1 or self.bank.augmentation.kind == "hummingbird":
            raise ConfigError(
                f"{scale} shows all images at one scale, and augmentation crops and resizes them; leave "
                "image.scale empty, or take bank.epochs=1 and bank.augmentation=mycelia"
            )

    def _check_image_rules(self) -> None:
        if self.image.shifts > 1 or self.image.flip:
            raise ConfigError(
                "image.shifts and image.flip make finer masks; of whole images they have to be 1 and false"
            )
        if self.features.projection == "none" and self.features.kind == "fungi":
            raise ConfigError(
                "features.projection=none describes patches alone: a whole image's gradient is no product; "
                "choose features.projection=factored or dense"
            )
        of_masks = (self.transfer.prior, self.transfer.calibration, self.transfer.unknown)
        if any(value is not None for value in of_masks):
            raise ConfigError(
                "transfer.prior, transfer.calibration and transfer.unknown are of masks; of whole images "
                "leave them empty"
            )
        if self.reranks:
            raise ConfigError("rerank.candidates orders patches; leave it empty with features.level=image")
        if self.bank.epochs > 1:
            raise ConfigError(
                f"bank.epochs={self.bank.epochs} augments patches; of whole images it has to be 1"
            )
        if self.bank.shifts > 1:
            raise ConfigError(
                f"bank.shifts={self.bank.shifts} shifts patches; of whole images it has to be 1"
            )
        if self.uses_gradients and self.backbone.kind == "image" and self.image.size != "auto":
            self.objective.check_windows(self.image.size)

    @property
    def whole(self) -> bool:
        """Whether a vector describes a whole image."""
        return self.features.level == "image"

    @property
    def ignored(self) -> tuple[str, ...]:
        """The :data:`PATCH_KEYS` that are not as by default, where the recipe is of whole images."""
        if not self.whole:
            return ()
        changed = []
        for key in PATCH_KEYS:
            section, name = key.split(".")
            if getattr(getattr(self, section), name) != getattr(getattr(_DEFAULTS, section), name):
                changed.append(key)
        return tuple(changed)

    @property
    def reranks(self) -> bool:
        """Whether neighbours are ordered by the exact FUNGI similarity."""
        return self.rerank.candidates is not None

    @property
    def uses_gradients(self) -> bool:
        """Whether describing a patch takes its gradient."""
        return self.features.kind == "fungi" or self.reranks

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the stored rows (not engine, transfer, runtime)."""
        data = self.model_dump(mode="json", exclude={"index", "rerank", "transfer", "runtime"})
        del data["image"]["auto_size"]  # what it decided is in the size
        for key in QUERY_KEYS:
            del data["image"][key]
        if self.image.scale is None:  # older fingerprints know nothing of it
            del data["image"]["scale"]
        if self.backbone.kind == "image":  # older fingerprints know no other kind
            del data["backbone"]["kind"]
        del data["backbone"][
            "block" if self.backbone.blocks else "blocks"
        ]  # which they imply, or older ones lack
        if self.bank.shifts == 1:
            del data["bank"]["shifts"]
        if self.whole:
            _drop_ignored(data)
        else:
            data["objective"] = _patch_objective(data["objective"])
            del data["features"]["level"], data["features"]["pool"]
        if self.features.metric == "none":  # older fingerprints know nothing of it
            del data["features"]["metric"], data["features"]["shrinkage"], data["features"]["width"]
        if self.reranks:  # said only then: older fingerprints know nothing of it
            data["rerank"] = True
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


_DEFAULTS = Recipe()


def _drop_ignored(data: dict[str, Any]) -> None:
    """Leave out of plain data what decides nothing of whole images."""
    for section, key in (key.split(".") for key in PATCH_KEYS):
        del data[section][key]
    for key in ("neighbours", "keep", "support_size"):
        del data["objective"]["infonce"][key]


def _patch_objective(data: dict[str, Any]) -> dict[str, Any]:
    """What of the objectives decides patches; InfoNCE alone is written as older versions did."""
    if data["kind"] == ["infonce"]:
        flat = {key: data["infonce"][key] for key in FLAT_OBJECTIVE_KEYS}
        return {"kind": "infonce", **flat}
    return {key: value for key, value in data.items() if key != "dino"}


def load_recipe(config: str | Path | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file (the defaults where None), with ``key=value`` overrides merged in.

    Keys are dotted (``features.kind=embeddings``), values are YAML (``image.size=[364,476]``).
    Raises ConfigError for a missing or malformed file, an unknown key (naming the nearest known
    one) and a value out of range.
    """
    # a file may leave to the overrides what its sections need of each other
    recipe = Recipe() if config is None else _validated(_read_yaml(Path(config)), where=str(config))
    return override_recipe(recipe, overrides)


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """The recipe with ``key=value`` overrides merged in, read and checked as :func:`load_recipe` does."""
    data = recipe.model_dump(mode="json")
    for override in overrides:
        _merge_override(data, override)
    return recipe_from_dict(data, where="the command line")


def recipe_from_dict(data: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """A recipe from plain data, its rules checked; ``where`` names its source in error messages."""
    recipe = _validated(data, where=where)
    recipe.check_rules()
    return recipe


def built_recipe(data: dict[str, Any], folder: Path, *, run: bool = True) -> Recipe:
    """The recipe that decided the vectors of an index, from its manifest; ``runtime`` is forgotten.

    Raises IndexMismatchError for an index whose vectors the KL objective of older versions decided, and
    ConfigError for one of an objective whose code the user has not allowed to run here, unless the recipe
    is only looked at (not ``run``).
    """
    deciding = {name: section for name, section in data.items() if name != "runtime"}
    objective = data.get("objective")
    old_kl = objective if isinstance(objective, dict) and objective.get("kind") == "kl" else None
    if old_kl is not None:  # since then the kind is a list
        del deciding["objective"]
    recipe = recipe_from_dict(deciding, where=str(folder / "manifest.json"))
    if old_kl is not None and recipe.uses_gradients:
        raise IndexMismatchError(
            f"{folder}: the index was built with a KL objective that was not the published one (temperature "
            f"{old_kl.get('temperature')}, unit latents of {old_kl.get('head_width')} numbers), which "
            "this version does not compute; build the index again"
        )
    if run and recipe.uses_gradients:
        check_trusted(recipe.objective, folder)
    return recipe


def _validated(data: dict[str, Any], *, where: str) -> Recipe:
    """A recipe whose values fit, each by itself."""
    _check_keys(data, Recipe, where, prefix="")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{where}: {key} = {reprlib.repr(first['input'])} does not fit: {first['msg']}"
        ) from error


def config_folder() -> Path:
    """Where the recipes that come with Mycelia lie: inside the package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "configs"


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        shipped = config_folder() / path.name
        # a bare name, or one as it stands in the documentation; any other path means just that file
        if path.parent not in (Path(), Path("configs")) or not shipped.is_file():
            known = ", ".join(sorted(p.name for p in config_folder().glob("*.yaml")))
            raise ConfigError(
                f"{path}: no such recipe; give a YAML file, or one that comes with Mycelia: {known}"
            )
        path = shipped
    try:
        data = parse_yaml(read_limited(path, most=MOST_BYTES))
    except (OSError, ParseError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of sections, not {type(data).__name__}")
    return data


def _merge_override(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} should be key=value, for example features.kind=embeddings")
    try:
        value = parse_yaml(text)
    except ParseError as error:
        raise ConfigError(f"override {override[:100]!r}: the value is no YAML: {error}") from error
    section = data
    *parents, leaf = key.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
    section[leaf] = value


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def _check_keys(data: dict[str, Any], model: type[BaseModel], where: str, *, prefix: str) -> None:
    for name, value in data.items():
        field = model.model_fields.get(name)
        if field is None and model is IndexSettings and (name in FLAT_KEYS or engines_named(name)):
            continue  # a key of an older recipe, or the section of an installed engine
        if field is None and model is ObjectiveSettings and name in FLAT_OBJECTIVE_KEYS:
            continue  # a key of an older recipe
        if field is None:
            raise ConfigError(f"{where}: unknown key {prefix}{name}{_nearest(f'{prefix}{name}')}")
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            if section is AugmentationSettings and isinstance(value, str):
                continue  # a word for the section
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{where}: {prefix}{name} is a section of settings, not {reprlib.repr(value)}"
                )
            _check_keys(value, section, where, prefix=f"{prefix}{name}.")


def _nearest(key: str) -> str:
    known = _known_keys(Recipe)
    match = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    leaf = key.rpartition(".")[2]
    by_leaf = difflib.get_close_matches(leaf, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.7)
    if by_leaf and (not match or "." not in key):
        match = [k for k in known if k.rpartition(".")[2] == by_leaf[0]][:1]
    return f"; did you mean {match[0]}?" if match else "; `mycelia index build --help` points to all keys"
