"""FUNGI features against a float64 reference in which every token has its own copy of the weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from indexer.features.backbone import choose_device
from indexer.features.fungi import FungiExtractor, open_extractor
from indexer.features.projection import join_features
from indexer.recipe import Recipe, RuntimeSettings
from retrieval import ClassInfo, ClassMap, Cosine, GradientProduct, Manifest, Reranked
from retrieval.errors import ConfigError, DatasetError, IndexDamagedError, IndexMismatchError
from retrieval.store.layout import FEATURES
from retrieval.store.manifest import FileEntry

Extractor = Callable[..., FungiExtractor]


def gradients_by_autograd(extractor: FungiExtractor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings (B, N, E) and full gradients (B, N, E, A + 1) in float64, image by image.

    Token t has its own [W_t, b_t]; the loss is written out as in fungi.md, and autograd differentiates
    it with respect to all of these matrices.
    """
    backbone, objective = extractor.backbone, extractor.recipe.objective
    contrast = objective.infonce
    tensors = {name: tensor.double() for name, tensor in load(extractor.to_bytes()).items()}
    block = deepcopy(backbone._block).double()
    embeddings, gradients = [], []
    for image in images:
        cut = backbone.cut(image[None])
        residual, activation = cut.residual[0].double(), cut.activation[0].double()  # (N, E), (N, A)
        weight, bias = (tensor.double() for tensor in backbone.projection if tensor is not None)
        weights = weight.repeat(len(residual), 1, 1).requires_grad_(True)  # (N, E, A)
        biases = bias.repeat(len(residual), 1).requires_grad_(True)
        projected = torch.einsum("noi,ni->no", weights, activation) + biases
        x = residual + block.ls1(projected)
        y = x + block.ls2(block.mlp(block.norm2(x)))
        e = (
            F.layer_norm(y, y.shape[-1:], eps=1e-6)
            if backbone._plain
            else deepcopy(backbone._norm).double()(y)
        )
        if objective.kind == ("kl",):
            z = F.normalize(e, dim=-1) @ tensors["kl.head_weight"].T + tensors["kl.head_bias"]
            shares = torch.softmax(z / objective.kl.temperature, dim=-1)
            loss = (1 / z.shape[1] * torch.log(1 / z.shape[1] / shares)).sum(-1).mean()
        else:
            z = F.normalize(e @ tensors["head_weight"].T + tensors["head_bias"], dim=-1)
            loss = _infonce(e, z, tensors, contrast.temperature, contrast.tempered, contrast.neighbours)
        dw, db = torch.autograd.grad(loss, (weights, biases))
        gradients.append(torch.cat([dw, db.unsqueeze(-1)], dim=-1))
        embeddings.append(e.detach())
    return torch.stack(embeddings), torch.stack(gradients)


def _infonce(
    e: Tensor, z: Tensor, tensors: dict[str, Tensor], tau: float, tempered: bool, neighbours: int
) -> Tensor:
    support = tensors["support"]
    latents = F.normalize(support @ tensors["head_weight"].T + tensors["head_bias"], dim=-1)
    near = [
        (F.normalize(token, dim=0) @ support.T).argsort(descending=True)[:neighbours] for token in e.detach()
    ]
    negatives = latents[torch.cat(near)]
    divisor, losses = (tau if tempered else 1.0), []
    for t in range(len(z)):
        others = torch.cat([z[:t], z[t + 1 :]])
        against = torch.cat([negatives, others]) @ z[t] / divisor
        losses.append(-(others @ z[t]).mean() / tau + against.exp().sum().log())
    return torch.stack(losses).mean()


OBJECTIVES = {
    "published": ("objective.infonce.keep=1",),
    "tempered": ("objective.infonce.keep=1", "objective.infonce.tempered=true"),
    "kl": ("objective.kind=kl",),
    "inner block": ("objective.infonce.keep=1", "backbone.block=2"),
    "layer scale, register": ("objective.infonce.keep=1", "backbone.model=test_vit2"),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_equal_autograd_on_the_full_weight(
    objective: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor(*OBJECTIVES[objective])
    parts = extractor.patch_gradients(random_images[:2])
    embeddings, full = gradients_by_autograd(extractor, random_images[:2])
    prefix = extractor.backbone.prefix_tokens
    outer = torch.einsum("bto,bti->btoi", parts.gradients[0], parts.activations).double()
    assert outer.shape == (2, 12, 64, 65)
    expected = full[:, prefix:]
    error = (outer - expected).flatten(2).norm(dim=-1) / expected.flatten(2).norm(dim=-1)
    assert error.max() < 1e-3
    torch.testing.assert_close(parts.embeddings.double(), embeddings[:, prefix:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("projection", ["factored", "dense"])
def test_vectors_equal_the_definition(
    projection: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    weight = 0.5
    extractor = tiny_extractor(
        "objective.infonce.keep=1", f"features.projection={projection}", f"features.gradient_weight={weight}"
    )
    embeddings, full = (tensor[:, 1:] for tensor in gradients_by_autograd(extractor, random_images[:2]))
    signs = {name: tensor.double() for name, tensor in load(extractor.to_bytes()).items()}
    if projection == "dense":
        projected = full.flatten(2) @ signs["p"].T
    else:
        projected = torch.einsum("ko,btoi,ki->btk", signs["u"], full, signs["v"])
    unit_e, unit_g = F.normalize(embeddings, dim=-1), F.normalize(projected, dim=-1)
    expected = torch.cat([unit_e, unit_g * weight**0.5], dim=-1) / (1 + weight) ** 0.5
    vectors = extractor.extract(random_images[:2])
    assert (vectors.shape, vectors.dtype) == ((2, 12, 64 + 24), torch.float32)
    assert extractor.similarity == Cosine(88)
    torch.testing.assert_close(vectors.double(), expected, rtol=1e-3, atol=1e-4)
    # so that the inner product is (cos e + w cos G) / (1 + w), and a vector has length one
    similarity = (unit_e[0, 0] @ unit_e[0, 5] + weight * (unit_g[0, 0] @ unit_g[0, 5])) / (1 + weight)
    assert float(vectors[0, 0] @ vectors[0, 5]) == pytest.approx(float(similarity), abs=1e-4)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 12))


def test_exact_vectors_carry_the_cosine_of_the_true_gradients(
    tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor("objective.infonce.keep=1", "features.projection=none", "index.engine=exact")
    assert extractor.similarity == GradientProduct(64, 64, 65, 1.0)
    vectors = extractor.extract(random_images[:1])[0].double()
    e, g, a = vectors.split([64, 64, 65], dim=-1)
    for part in (e, g, a):
        torch.testing.assert_close(part.norm(dim=-1), torch.ones(12, dtype=torch.float64))
    _, full = gradients_by_autograd(extractor, random_images[:1])
    flat = F.normalize(full[0, 1:].flatten(1), dim=-1)
    torch.testing.assert_close((g @ g.T) * (a @ a.T), flat @ flat.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weight", [0.25, 3.0])
def test_parts_join_to_the_vectors_of_any_weight(
    weight: float, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    parts = tiny_extractor().feature_parts(random_images)  # made with the default weight, 1
    other = tiny_extractor(f"features.gradient_weight={weight}").extract(random_images)
    torch.testing.assert_close(join_features(parts, weight), other)
    e, g = (part.flatten(0, 1) for part in parts)
    mixed = (e @ e.T + weight * (g @ g.T)) / (1 + weight)
    torch.testing.assert_close(other.flatten(0, 1) @ other.flatten(0, 1).T, mixed)


RERANKED = {
    "embeddings": ("features.kind=embeddings",),
    "embeddings, pca": ("features.kind=embeddings", "features.pca=10"),
    "factored": (),
    "dense, pca": ("features.projection=dense", "features.pca=10"),
}


@pytest.mark.parametrize("kind", RERANKED)
def test_reranked_vectors_are_those_searched_and_those_of_the_exact_similarity(
    kind: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    """The same numbers, bit by bit, as an index of either kind would hold; no embedding twice."""
    extractor = tiny_extractor(*RERANKED[kind], "rerank.candidates=7", "features.gradient_weight=0.5")
    exact = tiny_extractor("features.projection=none", "index.engine=exact", "features.gradient_weight=0.5")
    searched = tiny_extractor(*RERANKED[kind], "features.gradient_weight=0.5")
    vectors, expected = extractor.extract(random_images), exact.extract(random_images)
    similarity, first = extractor.similarity, searched.similarity
    assert isinstance(similarity, Reranked)
    assert (similarity.coarse, similarity.exact, similarity.candidates) == (first, exact.similarity, 7)
    assert similarity.separate == (kind != "embeddings")
    assert vectors.shape[-1] == similarity.width
    torch.testing.assert_close(vectors[..., -193:], expected)
    torch.testing.assert_close(vectors[..., : first.width], searched.extract(random_images))
    assert extractor.passes_to_fit == 1 + ("pca" in kind)


@pytest.mark.parametrize("kind", ["fungi", "embeddings"])
def test_an_extractor_serves_several_threads(
    kind: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor(f"features.kind={kind}")
    batches = [random_images.roll(shift, dims=3) for shift in range(24)]
    expected = [extractor.extract(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(extractor.extract, batches), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_embeddings_are_the_backbones(tiny_extractor: Extractor, random_images: Tensor) -> None:
    extractor = tiny_extractor("features.kind=embeddings")
    expected = F.normalize(extractor.backbone.embed(random_images)[:, 1:], dim=-1)
    assert torch.equal(extractor.extract(random_images), expected)
    assert extractor.similarity == Cosine(64)
    assert extractor.passes_to_fit == 0


KINDS = {
    "factored": (),
    "dense": ("features.projection=dense",),
    "exact": ("features.projection=none", "index.engine=exact"),
    "kl": ("objective.kind=kl",),
    "tempered": ("objective.infonce.tempered=true",),
    "inner block": ("backbone.block=3",),
    "embeddings": ("features.kind=embeddings",),
    "pca": ("features.pca=10", "features.whiten=half"),
    "re-ranked": ("features.kind=embeddings", "rerank.candidates=7"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_its_images_give(
    kind: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor(*KINDS[kind])
    together = extractor.extract(random_images)
    alone = torch.cat([extractor.extract(image[None]) for image in random_images])
    assert together.shape == (4, 12, extractor.similarity.width)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=2e-4)
    shuffled = extractor.extract(random_images[[2, 0, 3, 1]])
    torch.testing.assert_close(shuffled, together[[2, 0, 3, 1]], rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("kind", ["factored", "pca", "dense", "re-ranked"])
def test_saved_features_give_the_same_vectors(
    kind: str, tiny_extractor: Extractor, random_images: Tensor, tmp_path: Path
) -> None:
    extractor = tiny_extractor(*KINDS[kind])
    (tmp_path / FEATURES).write_bytes(extractor.to_bytes())
    other = FungiExtractor.create(extractor.recipe)
    other.load(tmp_path / FEATURES)
    assert torch.equal(other.extract(random_images), extractor.extract(random_images))
    assert other.to_bytes() == extractor.to_bytes()


def test_random_matrices_come_from_the_seed(tiny_extractor: Extractor) -> None:
    assert tiny_extractor().to_bytes() == tiny_extractor().to_bytes()
    first, other = (load(tiny_extractor(f"seed={seed}").to_bytes()) for seed in (0, 1))
    assert all(not torch.equal(first[name], other[name]) for name in ("head_weight", "u", "v", "support"))
    assert first["u"].dtype == torch.int8


def test_support_bank_holds_unit_embeddings_of_the_images(tiny_extractor: Extractor) -> None:
    support = load(tiny_extractor().to_bytes())["support"]
    assert support.shape == (32, 64)
    torch.testing.assert_close(support.norm(dim=-1), torch.ones(32))
    every = load(tiny_extractor("objective.infonce.support_size=1000").to_bytes())["support"]
    assert len(every) == 4 * 12, "no more than the images have"
    assert all(((every - row).abs().sum(-1) < 1e-4).any() for row in support)


def test_keep_is_the_share_of_negatives(tiny_extractor: Extractor, random_images: Tensor) -> None:
    for keep, low, high in ((1, 26, 26), (0.5, 6, 20)):
        extractor = tiny_extractor(f"objective.infonce.keep={keep}")
        negatives = extractor._negatives(extractor._objectives[0], extractor.backbone.embed(random_images))
        assert negatives.shape[0] == 4
        assert low <= negatives.shape[1] <= high
        torch.testing.assert_close(negatives.norm(dim=-1), torch.ones(negatives.shape[:2]))


def test_pca_vectors_are_unit_and_narrow(tiny_extractor: Extractor, random_images: Tensor) -> None:
    extractor = tiny_extractor("features.pca=10", "features.whiten=full")
    vectors = extractor.extract(random_images)
    assert extractor.similarity == Cosine(10)
    assert vectors.shape == (4, 12, 10)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(4, 12))


def test_pca_wider_than_the_vectors_or_the_sample_is_refused(tiny_extractor: Extractor) -> None:
    with pytest.raises(ConfigError, match=r"features\.pca=89 is more than the 88 numbers"):
        tiny_extractor("features.pca=89")
    with pytest.raises(ConfigError, match=r"features\.pca=48 needs more patches .* have 48"):
        tiny_extractor("features.pca=48")


def test_fitting_on_nothing_is_refused(tiny_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(DatasetError, match="none of the images"):
        FungiExtractor.create(tiny_recipe()).fit(lambda: [], images=3)


def test_prepare_normalises_as_the_model_wants(tiny_extractor: Extractor) -> None:
    extractor = tiny_extractor("image.fit=pad")
    tensor, geometry = extractor.prepare(np.full((10, 40, 3), (255, 0, 128), dtype=np.uint8))
    assert (tensor.shape, tensor.dtype) == ((3, 48, 64), torch.float32)
    mean, std = torch.tensor(extractor.backbone.mean), torch.tensor(extractor.backbone.std)
    torch.testing.assert_close(tensor[:, 0, 0], (torch.tensor([1, 0, 128 / 255]) - mean) / std)
    assert geometry.content == (16, 64)
    assert tensor[:, 20:].abs().max() < 0.02, "padding is the mean colour"


def manifest_of(extractor: FungiExtractor) -> Manifest:
    return Manifest(
        recipe=extractor.recipe.model_dump(mode="json"),
        fingerprints=extractor.fingerprints,
        classes=ClassMap((ClassInfo(0, "a", (0, 0, 0)),)),
        similarity=extractor.similarity,
        files={FEATURES: FileEntry(0, "")},  # where it lies; sizes are the index's affair
    )


def test_open_extractor_is_the_one_that_was_stored(
    tiny_extractor: Extractor, random_images: Tensor, tmp_path: Path
) -> None:
    extractor = tiny_extractor("features.pca=10")
    (tmp_path / FEATURES).write_bytes(extractor.to_bytes())
    opened = open_extractor(
        tmp_path, manifest_of(extractor), runtime=RuntimeSettings(device="cpu", batch_size=1)
    )
    assert torch.equal(opened.extract(random_images), extractor.extract(random_images))
    assert opened.recipe.runtime.batch_size == 1


def test_open_extractor_runs_here_wherever_the_index_was_built(
    tiny_extractor: Extractor, random_images: Tensor, tmp_path: Path
) -> None:
    extractor = tiny_extractor()
    (tmp_path / FEATURES).write_bytes(extractor.to_bytes())
    manifest = manifest_of(extractor)
    for runtime in ({"device": "cuda:7", "batch_size": 99}, {"device": "abacus"}, {"beads": 10}):
        older = replace(manifest, recipe={**manifest.recipe, "runtime": runtime})
        opened = open_extractor(tmp_path, older)
        assert opened.recipe.runtime == RuntimeSettings(precision="float32"), "auto, as it came to be"
        assert opened.backbone.device == choose_device("auto")
    newer = replace(manifest, recipe={k: v for k, v in manifest.recipe.items() if k != "runtime"})
    opened = open_extractor(tmp_path, newer, runtime=RuntimeSettings(device="cpu"))
    assert torch.equal(opened.extract(random_images), extractor.extract(random_images))


def test_open_extractor_refuses_other_weights_and_damage(tiny_extractor: Extractor, tmp_path: Path) -> None:
    extractor = tiny_extractor()
    manifest = manifest_of(extractor)
    with pytest.raises(IndexDamagedError, match=FEATURES):
        open_extractor(tmp_path, manifest)
    (tmp_path / FEATURES).write_bytes(extractor.to_bytes()[:-5])
    with pytest.raises(IndexDamagedError, match=FEATURES):
        open_extractor(tmp_path, manifest)
    (tmp_path / FEATURES).write_bytes(extractor.to_bytes())
    for part in ("weights", "preprocessing"):
        other = replace(manifest, fingerprints={**manifest.fingerprints, part: "0" * 64})
        with pytest.raises(IndexMismatchError, match=f"built with other {part}"):
            open_extractor(tmp_path, other)
