"""A frozen timm ViT, cut at the attention projection of one of its blocks.

Everything after that projection is token-wise, so the self-supervised loss of a patch needs no
backward pass through attention: run the model without autograd up to the cut, then
differentiate the short tail alone.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.features.cut import Cut, CutReached, Replay, joined_blocks
from indexer.features.precision import LEAST_COSINE, choose_precision, computing_in, least_cosine, probe
from indexer.features.weights import create_model, empty_model, fingerprint
from indexer.recipe import BackboneSettings, RuntimeSettings
from retrieval.errors import ConfigError
from retrieval.processor import measured


class Backbone:
    """A ViT that tells what it is, runs to the cut, and goes on from there.

    Attributes: ``patch_size`` (height, width), ``size`` (H, W) of its input, ``grid`` (h, w) of
    patches, ``prefix_tokens``, ``width`` E, ``mean`` and ``std`` of the input in 0..1, the name of
    the ``interpolation`` it was trained with, ``block`` (not negative) of its ``blocks`` that is cut, the
    blocks whose embeddings are ``joined`` (rising, that one last), ``fingerprint`` of the weights.
    """

    def __init__(
        self, settings: BackboneSettings, *, size: tuple[int, int], runtime: RuntimeSettings, seed: int = 0
    ) -> None:
        """Load the weights and fit the position embeddings to ``size`` (H, W) in pixels.

        Raises ConfigError where the model is no ViT that can be cut or the size is no multiple of
        its patch, WeightsError where the weights cannot be had.
        """
        model = create_model(settings.model, settings.weights, seed=seed)
        self.fingerprint = fingerprint(model)
        self.patch_size = _patch_size(model, settings.model)
        _check_size(size, self.patch_size)
        model.set_input_size(img_size=size)  # type: ignore[operator]
        self.size = size
        self.grid = (size[0] // self.patch_size[0], size[1] // self.patch_size[1])
        self.prefix_tokens = int(model.num_prefix_tokens)  # type: ignore[arg-type]
        self.width = int(model.num_features)  # type: ignore[arg-type]
        card: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
        self.mean, self.std = tuple(card["mean"]), tuple(card["std"])
        self.interpolation = str(card["interpolation"])

        blocks = list(model.blocks)  # type: ignore[arg-type]
        self.blocks = len(blocks)
        self.joined = joined_blocks(settings, len(blocks))
        self.block = self.joined[-1]
        block = blocks[self.block]
        if not isinstance(getattr(getattr(block, "attn", None), "proj", None), nn.Linear):
            raise ConfigError(
                f"{settings.model}: block {self.block} has no attention projection (attn.proj) to cut at; "
                "choose a plain ViT"
            )
        self.device = choose_device(runtime.device)
        self._dtype = torch.float32
        self._model = model.to(self.device)
        self._block: nn.Module = block
        self._earlier: list[nn.Module] = [blocks[number] for number in self.joined[:-1]]
        self._tail, self._replay = _make_tail(block)
        last = self.block == self.blocks - 1
        keeps_norm = settings.norm == "model" or (settings.norm == "auto" and last)
        final: nn.Module | None = getattr(model, "norm", None)
        self._norm = final if keeps_norm else None
        self._plain = not keeps_norm
        # one before the last has the model's norm only where the recipe says so
        self._earlier_norm, self._earlier_plain = final, settings.norm != "model"
        self._compute_in(choose_precision(runtime.precision, self.device), auto=runtime.precision == "auto")

    @property
    def precision(self) -> str:
        """The numbers in which it runs up to the cut: float32, bfloat16 or float16."""
        return str(self._dtype).removeprefix("torch.")

    def _compute_in(self, dtype: torch.dtype, *, auto: bool) -> None:
        """Take ``dtype`` up to the cut; ``auto``: on the CPU only where patches stay what they are."""
        if auto and dtype == torch.bfloat16 and self.device.type == "cpu":
            place = f"{self.fingerprint[:16]}, block {self.block}, {self.size[0]} x {self.size[1]}"
            cosine = measured(f"cosine of bfloat16 to float32: {place}", self._bfloat16_cosine)
            if not cosine >= LEAST_COSINE:  # also where it is no number
                return
        self._dtype = dtype
        if dtype == torch.bfloat16 and self.device.type == "cpu":
            self._cast_linears()

    def _bfloat16_cosine(self) -> float:
        """The least cosine that patches of a test picture have in bfloat16 to what they are in float32."""
        picture = probe(self.size)
        plain = self.cut(picture)
        self._dtype = torch.bfloat16
        low = self.cut(picture)
        self._dtype = torch.float32
        return min(
            least_cosine(self.embeddings(plain), self.embeddings(low)),
            least_cosine(plain.activation, low.activation),
        )

    def _cast_linears(self) -> None:
        """Keep the linear layers before the cut in bfloat16: autocast would cast them in every pass."""
        before: list[nn.Module] = list(self._model.blocks)[: self.block]  # type: ignore[arg-type]
        for layer in (layer for block in before for layer in block.modules()):
            if isinstance(layer, nn.Linear):
                layer.to(torch.bfloat16)

    @property
    def tokens(self) -> int:
        """Patches of one image, T = h * w."""
        return self.grid[0] * self.grid[1]

    @property
    def projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight (E, A) and bias (E,) of the attention projection at the cut."""
        linear: nn.Linear = self._block.attn.proj  # type: ignore[union-attr, assignment]
        return linear.weight, linear.bias

    def normalise(self, images: Tensor) -> Tensor:
        """Images (..., 3, H, W) in 0..1 as the model was trained to see them."""
        mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (images - mean) / std

    @torch.no_grad()
    def cut(self, images: Tensor) -> Cut:
        """Run images (B, 3, H, W), normalised float32, up to the attention projection of the block.

        What earlier blocks give that are joined with it is kept on the way.
        """
        seen: dict[str, Tensor] = {}
        earlier: list[Tensor] = []

        def leaving(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            earlier.append(output)

        def entering(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen["residual"] = inputs[0]

        def projecting(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen["activation"] = inputs[0]
            raise CutReached

        linear: nn.Module = self._block.attn.proj  # type: ignore[union-attr, assignment]
        hooks = [
            self._block.register_forward_pre_hook(entering),
            linear.register_forward_pre_hook(projecting),
            *(block.register_forward_hook(leaving) for block in self._earlier),
        ]
        try:
            with computing_in(self._dtype, self.device):
                self._model.forward_features(images.to(self.device))  # type: ignore[operator]
        except CutReached:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        kept = tuple(tokens.float() for tokens in earlier)
        return Cut(seen["residual"].float(), seen["activation"].float(), kept)

    def behind_the_cut(self) -> AbstractContextManager[None]:
        """A context for what follows the cut: the model's numbers on the CPU, float32 elsewhere.

        CamVid, InfoNCE on block 9 in bfloat16: the gradient's cosine to float32's is .9999, .9995 at least.
        """
        return computing_in(self._dtype if self.device.type == "cpu" else torch.float32, self.device)

    def projected(self, cut: Cut) -> Tensor:
        """Output of the attention projection, (B, N, E): h = W a + b."""
        weight, bias = self.projection
        return F.linear(cut.activation, weight, bias)

    def tail(self, residual: Tensor, projected: Tensor) -> Tensor:
        """From the projection's output to the embeddings, token by token: (B, N, E) -> (B, N, E).

        Differentiable with respect to ``projected``.
        """
        self._replay.output = projected
        try:
            tokens: Tensor = self._tail(residual)
        finally:
            self._replay.output = None
        return _normed(tokens, self._norm, plain=self._plain)

    @torch.no_grad()
    def earlier(self, tokens: Tensor) -> Tensor:
        """The embeddings, not normalised, of an earlier block that gave ``tokens``: both (B, N, E)."""
        return _normed(tokens, self._earlier_norm, plain=self._earlier_plain)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Embeddings of all tokens, prefix first: (B, 3, H, W) -> (B, N, E) float32, not normalised."""
        return self.embeddings(self.cut(images))

    @torch.no_grad()
    def embeddings(self, cut: Cut) -> Tensor:
        """What :meth:`embed` gives of the images whose cut this is, (B, N, E)."""
        with self.behind_the_cut():
            return self.tail(cut.residual, self.projected(cut)).float()


def _normed(tokens: Tensor, norm: nn.Module | None, *, plain: bool) -> Tensor:
    """Tokens (..., E) through a norm without an affine part, or the model's where it has one."""
    if plain:
        return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
    return tokens if norm is None else norm(tokens)


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU. Raises ConfigError for one that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"runtime.device {name!r} should be auto, cpu, cuda, cuda:N or mps") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise ConfigError(f"runtime.device {name!r} is not available here; use auto or cpu")
    return device


def patch_size_of(model: str) -> tuple[int, int]:
    """(height, width) of the patches of a timm model, in pixels, without its weights; raises ConfigError."""
    return _patch_size(empty_model(model), model)


def _patch_size(model: nn.Module, name: str) -> tuple[int, int]:
    embed: Any = getattr(model, "patch_embed", None)
    needed = ("blocks", "set_input_size", "num_prefix_tokens", "num_features")
    if not hasattr(embed, "feat_ratio") or not all(hasattr(model, part) for part in needed):
        raise ConfigError(
            f"{name} is no ViT with patch embedding and blocks; "
            "choose a model whose timm name starts with vit_ or eva"
        )
    height, width = embed.feat_ratio(as_scalar=False)  # in a hybrid, the patches of a CNN's feature map
    return int(height), int(width)


def _check_size(size: tuple[int, int], patch: tuple[int, int]) -> None:
    if any(s <= 0 or s % p for s, p in zip(size, patch, strict=True)):
        nearest = [max(1, round(s / p)) * p for s, p in zip(size, patch, strict=True)]
        raise ConfigError(
            f"image.size {list(size)} is no multiple of the patch size {list(patch)}; "
            f"the nearest is image.size=[{nearest[0]},{nearest[1]}]"
        )


def _make_tail(block: nn.Module) -> tuple[nn.Module, Replay]:
    """The block with its attention replaced: same parameters, but the attention's output is given."""
    tail, replay = copy.copy(block), Replay()
    tail._modules = dict(block._modules)
    tail.attn = replay
    return tail, replay
