"""Which numbers a model computes in, and that bfloat16 says nearly what float32 says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from indexer.features import attention, backbone, precision
from indexer.features.attention import BFloat16Attention, attend
from indexer.features.backbone import Backbone
from indexer.features.fungi import FungiExtractor
from indexer.features.precision import choose_precision, computing_in, least_cosine, probe
from indexer.recipe import BackboneSettings, RuntimeSettings

CPU = torch.device("cpu")


def heads(tokens: int = 100, *, seed: int = 0) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, tokens, 16, generator=numbers).bfloat16()


def vit(name: str) -> Backbone:
    settings = BackboneSettings(model="vit_tiny_patch16_224", weights="random", block=1)
    return Backbone(settings, size=(128, 160), runtime=RuntimeSettings(device="cpu", precision=name))


@pytest.mark.parametrize(("times", "chosen"), [(3.0, torch.bfloat16), (1.1, torch.float32)])
def test_auto_takes_what_was_measured_to_be_faster(
    monkeypatch: pytest.MonkeyPatch, times: float, chosen: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "measured", lambda name, measure: times)
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16


def test_the_measurement_is_quick_and_finds_a_ratio() -> None:
    assert 0.01 < precision._layers_speedup() < 100.0


@pytest.mark.parametrize(("cosine", "expected"), [(0.999, "bfloat16"), (0.98, "float32")])
def test_auto_keeps_float32_where_patches_would_change(
    monkeypatch: pytest.MonkeyPatch, cosine: float, expected: str
) -> None:
    monkeypatch.setattr(precision, "measured", lambda name, measure: 3.0)
    asked = []
    monkeypatch.setattr(backbone, "measured", lambda name, measure: asked.append(name) or cosine)
    chosen = vit("auto")
    assert chosen.precision == expected
    assert chosen.fingerprint[:16] in asked[0] and "128 x 160" in asked[0]
    assert chosen.projection[0].dtype == torch.float32, "what gradients are taken of stays as it is"


def test_bfloat16_keeps_the_patches_of_a_whole_model() -> None:
    plain, low = vit("float32"), vit("bfloat16")
    picture = probe((128, 160))
    assert least_cosine(plain.embed(picture), low.embed(picture)) > precision.LEAST_COSINE
    assert low.embed(picture).dtype == torch.float32
    torch.testing.assert_close(low.embed(picture), low.embed(picture), rtol=0, atol=0)
    assert 0.99 < low._bfloat16_cosine() <= 1.0 + 1e-6


@pytest.mark.parametrize("settings", [(), ("features.projection=none",), ("objective.kind=kl",)])
def test_bfloat16_keeps_gradients_too(
    tiny_extractor: Callable[..., FungiExtractor], random_images: torch.Tensor, settings: tuple[str, ...]
) -> None:
    plain, low = (tiny_extractor(*settings, f"runtime.precision={p}") for p in ("float32", "bfloat16"))
    vectors = low.extract(random_images)
    assert vectors.dtype == torch.float32
    assert not torch.equal(vectors, plain.extract(random_images)), "bfloat16 was not used"
    for first, second in zip(
        plain.feature_parts(random_images), low.feature_parts(random_images), strict=True
    ):
        assert float(F.cosine_similarity(first, second, dim=-1).mean()) > 0.99
    assert low.recipe.runtime.precision == "bfloat16"


def test_attention_by_heads_is_attention() -> None:
    q, k, v = (heads(seed=seed) for seed in range(3))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert (attend(q, k, v).float() - expected).abs().max() < 0.02
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), scale=0.5)
    assert (attend(q, k, v, scale=0.5).float() - expected).abs().max() < 0.03


def test_a_mean_that_all_keys_share_costs_nothing() -> None:
    q, k, v = (heads(seed=seed) for seed in range(3))
    shifted = (k.float() + 4.0).bfloat16()
    expected = F.scaled_dot_product_attention(q.float(), shifted.float(), v.float())
    assert (attend(q, shifted, v).float() - expected).abs().max() < 0.02


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({}, True),
        ({"scale": 0.1}, True),
        ({"is_causal": True}, False),
        ({"dropout_p": 0.1}, False),
        ({"attn_mask": torch.ones(100, 100, dtype=torch.bool)}, False),
    ],
)
def test_only_plain_attention_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], taken: bool
) -> None:
    calls = []
    monkeypatch.setattr(attention, "attend", lambda *parts, scale: calls.append(scale) or parts[0])
    with torch.inference_mode(), BFloat16Attention():
        F.scaled_dot_product_attention(heads(), heads(), heads(), **change)
        F.scaled_dot_product_attention(heads().float(), heads().float(), heads().float(), **change)
        F.scaled_dot_product_attention(heads(8), heads(8), heads(8))  # too few tokens to gain
    F.scaled_dot_product_attention(heads(), heads(), heads())
    assert len(calls) == taken


def test_arguments_may_have_names() -> None:
    q, k, v = (heads(seed=seed) for seed in range(3))
    with torch.inference_mode(), BFloat16Attention():
        named = F.scaled_dot_product_attention(query=q, key=k, value=v)
        mixed = F.scaled_dot_product_attention(q, k, value=v, scale=0.25)
    assert torch.equal(named, attend(q, k, v)) and torch.equal(mixed, named)


def test_float32_enters_nothing() -> None:
    with computing_in(torch.float32, CPU):
        assert not torch.is_autocast_enabled("cpu")
    with computing_in(torch.bfloat16, CPU):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
