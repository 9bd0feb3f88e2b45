"""The cut ViT against timm's own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.features.backbone import Backbone, choose_device
from indexer.features.precision import choose_precision
from indexer.features.weights import create_model
from indexer.recipe import BackboneSettings, RuntimeSettings
from retrieval.errors import ConfigError


def make(model: str = "test_vit", size: tuple[int, int] = (48, 64), **settings: object) -> Backbone:
    chosen = BackboneSettings.model_validate({"model": model, "weights": "random", **settings})
    return Backbone(chosen, size=size, runtime=RuntimeSettings(device="cpu"))


def reference(model: str = "test_vit", size: tuple[int, int] = (48, 64)) -> nn.Module:
    net = create_model(model, "random")
    net.set_input_size(img_size=size)  # type: ignore[operator]
    return net


def pictures(size: tuple[int, int] = (48, 64), count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets timm create its ViTs in their own architecture, but narrow and two blocks deep."""
    create = timm.create_model

    def narrow(name: str, **options: Any) -> nn.Module:
        small = {} if name.startswith("test_") else {"embed_dim": 32, "depth": 2, "num_heads": 2}
        return create(name, **options, **small)

    monkeypatch.setattr(timm, "create_model", narrow)


@pytest.mark.parametrize(
    ("model", "size", "prefix"),
    [
        ("test_vit", (48, 64), 1),
        ("test_vit2", (48, 64), 1),  # a register and no CLS, layer scale
        ("test_vit4", (48, 64), 1),
        ("deit_tiny_distilled_patch16_224", (32, 48), 2),
        ("test_vit_relpos", (48, 64), 0),  # no CLS, relative positions
        ("vit_small_patch14_reg4_dinov2", (28, 42), 5),  # registers and layer scale
        ("eva02_tiny_patch14_224", (28, 42), 1),  # rotary positions, SwiGLU
        ("vit_small_patch16_dinov3", (32, 48), 5),  # rotary positions, registers
        ("vit_tiny_r_s16_p8_224", (64, 128), 1),  # patches of a CNN's feature map
    ],
)
@pytest.mark.usefixtures("small_models")
@pytest.mark.filterwarnings("ignore::UserWarning:timm")
def test_cut_and_tail_are_forward_features_exactly(model: str, size: tuple[int, int], prefix: int) -> None:
    backbone, images = make(model, size), pictures(size)
    with torch.no_grad():
        expected = reference(model, size).forward_features(images)  # type: ignore[operator]
    tokens = backbone.embed(images)
    assert torch.equal(tokens, expected)
    assert backbone.prefix_tokens == prefix
    assert tokens.shape == (2, prefix + backbone.tokens, backbone.width)
    assert backbone.grid == (size[0] // backbone.patch_size[0], size[1] // backbone.patch_size[1])


@pytest.mark.parametrize("block", [0, 2, -2, 5, -1])
@pytest.mark.parametrize("norm", ["auto", "model", "plain"])
def test_every_block_and_norm_is_the_models_own_intermediate(block: int, norm: str) -> None:
    net, images = reference(), pictures()
    seen: list[Tensor] = []
    blocks: nn.Sequential = net.blocks  # type: ignore[assignment]
    for module in blocks:
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net.forward_features(images)  # type: ignore[operator]
        tokens = seen[block]
        mean, variance = tokens.mean(-1, keepdim=True), tokens.var(-1, keepdim=True, unbiased=False)
        last = block in (5, -1)
        if norm == "model" or (norm == "auto" and last):
            expected = net.norm(tokens)  # type: ignore[operator]
        else:
            expected = (tokens - mean) / (variance + 1e-6).sqrt()
    backbone = make(block=block, norm=norm)
    assert backbone.block == block % 6
    torch.testing.assert_close(backbone.embed(images), expected, rtol=1e-5, atol=1e-5)


def test_the_tail_is_token_wise_and_differentiable() -> None:
    backbone = make(block=3)
    cut = backbone.cut(pictures(count=1))
    projected = backbone.projected(cut).requires_grad_(True)
    embeddings = backbone.tail(cut.residual, projected)
    (gradient,) = torch.autograd.grad(embeddings[0, 4].sum() + embeddings[0, 4, 0] ** 2, projected)
    touched = gradient[0].abs().sum(-1) > 0
    assert touched.tolist() == [t == 4 for t in range(13)]


def test_a_batch_gives_what_its_images_give() -> None:
    backbone, images = make(), pictures(count=4)
    together = backbone.embed(images)
    for i in range(4):
        torch.testing.assert_close(together[i], backbone.embed(images[i : i + 1])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_models")
def test_the_model_is_asked_for_its_card() -> None:
    backbone = make("vit_small_patch14_reg4_dinov2", (28, 42))
    card = timm.get_pretrained_cfg("vit_small_patch14_reg4_dinov2")
    assert (backbone.mean, backbone.std, backbone.interpolation) == (card.mean, card.std, card.interpolation)
    assert backbone.patch_size == (14, 14)
    weight, bias = backbone.projection
    assert weight.shape == (32, 32)
    assert bias is not None


def test_hooks_are_gone_after_a_cut() -> None:
    backbone = make()
    backbone.cut(pictures())
    assert not any(module._forward_pre_hooks for module in backbone._model.modules()), (
        "a hook left behind would slow or break the next pass"
    )


def test_position_embeddings_are_resampled() -> None:
    net = create_model("test_vit", "random")
    positions: Tensor = net.pos_embed  # type: ignore[assignment]
    grid = positions[:, 1:].reshape(1, 10, 10, -1).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, size=(3, 4), mode="bicubic", antialias=True)
    expected = torch.cat([positions[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)
    fresh = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=(48, 64)).eval()
    fresh.load_state_dict({**net.state_dict(), "pos_embed": expected})
    with torch.no_grad():
        tokens = fresh.forward_features(pictures())
    torch.testing.assert_close(make().embed(pictures()), tokens, rtol=1e-4, atol=1e-5)


def test_the_fingerprint_is_of_the_weights_not_of_the_size() -> None:
    assert make().fingerprint == make(size=(32, 32), block=2).fingerprint
    assert make().fingerprint != make("test_vit4").fingerprint


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((50, 64), r"\[48,64\]"), ((48, 60), r"\[48,64\]"), ((3, 100), r"\[16,96\]"), ((0, 64), r"\[16,64\]")],
)
def test_size_that_is_no_multiple_names_the_nearest(size: tuple[int, int], nearest: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"no multiple of the patch size \[16, 16\]; .*image\.size={nearest}"
    ):
        make(size=size)


@pytest.mark.parametrize("block", [6, -7])
def test_block_that_is_not_there(block: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"backbone\.block {block} does not exist: the model has blocks 0\.\.5"
    ):
        make(block=block)


@pytest.mark.parametrize("model", ["test_resnet", "test_mambaout", "test_convnext"])
def test_models_that_are_no_vit(model: str) -> None:
    with pytest.raises(ConfigError, match=f"{model} is no ViT"):
        make(model, (64, 64))


@pytest.mark.usefixtures("small_models")
def test_vit_with_parallel_projections_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no attention projection \(attn\.proj\) to cut at"):
        make("vit_pwee_patch16_reg1_gap_256", (32, 32))


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="should be auto, cpu, cuda"):
        choose_device("toaster")
    with pytest.raises(ConfigError, match="not available here"):
        choose_device("xpu")


def test_precisions() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == torch.float32
    assert choose_precision("bfloat16", cpu) == torch.bfloat16


def test_autocast_stays_close_and_returns_float32() -> None:
    settings = BackboneSettings(model="test_vit", weights="random")
    mixed = Backbone(settings, size=(48, 64), runtime=RuntimeSettings(device="cpu", precision="bfloat16"))
    tokens, exact = mixed.embed(pictures()), make().embed(pictures())
    assert tokens.dtype == torch.float32
    assert not torch.equal(tokens, exact), "autocast was not used"
    assert F.cosine_similarity(tokens, exact, dim=-1).min() > 0.99
