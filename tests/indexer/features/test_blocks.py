"""Embeddings of several blocks, joined: against timm's own forward pass and single blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.bank.build import build_index
from indexer.datasets import Dataset
from indexer.features.backbone import Backbone
from indexer.features.fungi import FungiExtractor, open_extractor
from indexer.features.whole.images import ImageExtractor
from indexer.recipe import BackboneSettings, Recipe, RuntimeSettings, load_recipe, recipe_from_dict
from retrieval import open_index
from retrieval.errors import ConfigError
from retrieval.similarity import Cosine, GradientProduct

Extractor = Callable[..., FungiExtractor]
MakeRecipe = Callable[..., Recipe]

EMBEDDINGS = "features.kind=embeddings"
SINGLE = "objective.kind=kl"
#: The fingerprint of block 9.
NINE = "1bc669b7b2cd7be3d7872a1daac3611f5b106b8d82c24a9f2f88abe1c5065818"


def make(**settings: object) -> Backbone:
    chosen = BackboneSettings.model_validate({"model": "test_vit", "weights": "random", **settings})
    return Backbone(chosen, size=(48, 64), runtime=RuntimeSettings(device="cpu"))


def means(parts: list[Tensor]) -> Tensor:
    """The mean cosine of every patch of the first image to every one of the second: (T, T)."""
    units = [F.normalize(part, dim=-1) for part in parts]
    return torch.stack([unit[0] @ unit[1].T for unit in units]).mean(dim=0)


@pytest.mark.parametrize("blocks", [(3, 1), (-1, 0, 2), (4, -1)])
@pytest.mark.parametrize("norm", ["auto", "model", "plain"])
def test_similarity_is_the_mean_of_the_single_blocks_cosines(
    blocks: tuple[int, ...], norm: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    settings = (EMBEDDINGS, f"backbone.norm={norm}")
    joined = tiny_extractor(*settings, f"backbone.blocks={list(blocks)}")
    single = [tiny_extractor(*settings, f"backbone.block={block}") for block in blocks]
    vectors = joined.extract(random_images[:2])
    assert vectors.shape == (2, 12, 64 * len(blocks)) and joined.similarity == Cosine(64 * len(blocks))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2, 12))
    wanted = means([extractor.extract(random_images[:2]) for extractor in single])
    torch.testing.assert_close(vectors[0] @ vectors[1].T, wanted, rtol=1e-4, atol=1e-5)


def test_one_pass_of_the_model_gives_all_blocks(
    tiny_extractor: Extractor, random_images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = tiny_extractor(EMBEDDINGS, "backbone.blocks=[1,2,4]")
    forward, passes = extractor.backbone._model.forward_features, []

    def counted(images: Tensor) -> Tensor:
        passes.append(len(images))
        return forward(images)  # type: ignore[operator, no-any-return]

    monkeypatch.setattr(extractor.backbone._model, "forward_features", counted)
    extractor.extract(random_images)
    assert passes == [4]
    modules = extractor.backbone._model.modules()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@pytest.mark.parametrize("objective", ["objective.kind=kl", "objective.kind=[infonce,kl]"])
def test_gradients_are_those_of_the_deepest_block(
    objective: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    joined = tiny_extractor(objective, "backbone.blocks=[4,1]")
    deepest = tiny_extractor(objective, "backbone.block=4")
    ours, theirs = (extractor.feature_parts(random_images) for extractor in (joined, deepest))
    torch.testing.assert_close(ours[1], theirs[1])
    torch.testing.assert_close(ours[0][..., 64:] * 2**0.5, theirs[0])
    parts = joined.patch_gradients(random_images)
    assert len(parts.earlier) == 1
    torch.testing.assert_close(parts.embeddings, deepest.patch_gradients(random_images).embeddings)


def test_the_exact_product_weighs_embeddings_of_all_blocks(
    tiny_extractor: Extractor, random_images: Tensor
) -> None:
    exact = ("features.projection=none", "index.engine=exact", SINGLE, "features.gradient_weight=0.5")
    joined = tiny_extractor(*exact, "backbone.blocks=[2,5]")
    assert joined.similarity == GradientProduct(128, 64, 65, 0.5)
    vectors = joined.extract(random_images[:2])
    single = [
        tiny_extractor(*exact, f"backbone.block={block}").extract(random_images[:2]) for block in (2, 5)
    ]
    embeddings = means([part[..., :64] for part in single])
    g, a = (single[1][0, :, part] @ single[1][1, :, part].T for part in (slice(64, 128), slice(128, 193)))
    found = joined.similarity.compare(vectors[0], vectors[1])
    torch.testing.assert_close(found, (embeddings + 0.5 * g * a) / 1.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        (EMBEDDINGS, "features.pca=5"),
        (SINGLE, "features.pca=5"),
        (EMBEDDINGS, "features.metric=class", "features.width=5"),
        (SINGLE, "features.metric=class"),
        (EMBEDDINGS, "rerank.candidates=9"),
        (SINGLE, "features.metric=class", "features.width=5", "rerank.candidates=9"),
        (SINGLE, "features.projection=none"),
    ],
)
def test_an_index_of_joined_blocks_finds_its_own_rows(
    settings: tuple[str, ...],
    tiny_recipe: MakeRecipe,
    labelled_folder: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    dataset = labelled_folder(4)
    recipe = tiny_recipe("index.engine=exact", "backbone.blocks=[5,2]", *settings)
    build_index(dataset, tmp_path / "x", recipe=recipe)
    with open_index(tmp_path / "x") as index:
        extractor = open_extractor(tmp_path / "x", index.manifest)
        assert extractor.backbone.joined == (2, 5) and extractor.similarity == index.similarity
        image, _ = dataset.read(dataset.samples[1])
        vectors = extractor.extract(extractor.prepare(image)[0][None])[0].numpy()
        patches = np.concatenate([block.patches for block in index.stream()])
        mine = np.flatnonzero(patches[:, 0] == 1)
        places = patches[mine, 1] * extractor.grid[1] + patches[mine, 2]
        assert index.search(vectors[places], 1).ids[:, 0].tolist() == mine.tolist()


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_whole_images_are_joined_alike(pool: str, tiny_recipe: MakeRecipe) -> None:
    photos = [np.random.default_rng(i).integers(0, 256, (40, 60, 3)).astype(np.uint8) for i in range(2)]
    whole = ("features.level=image", SINGLE, f"features.pool={pool}")

    def parts(*settings: str) -> list[Tensor]:
        return list(ImageExtractor.create(tiny_recipe(*whole, *settings)).feature_parts(photos).values())

    joined, first, last = (
        parts(setting) for setting in ("backbone.blocks=[4,1]", "backbone.block=1", "backbone.block=4")
    )
    torch.testing.assert_close(joined[0], torch.cat([first[0], last[0]], dim=-1) / 2**0.5)
    torch.testing.assert_close(joined[1], last[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": [1, 6]}, r"backbone\.blocks 6 does not exist: the model has blocks 0\.\.5"),
        ({"blocks": [5, 2, -1]}, r"backbone\.blocks \[5, 2, -1\] names one of the 6 blocks twice"),
        ({"blocks": [2, 4], "block": 2}, r"block=2 is not the deepest of .*; .*or set backbone\.block=4"),
        ({"blocks": [2, 4], "block": 3}, "leave one of the two out"),
    ],
)
def test_blocks_that_do_not_fit_the_model(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


@pytest.mark.parametrize("settings", [{"block": 4}, {"block": -2}, {}])
def test_the_deepest_block_may_be_said_as_well(settings: dict[str, object]) -> None:
    backbone = make(blocks=[4, 0], **settings)
    assert (backbone.block, backbone.joined) == (4, (0, 4))


def test_recipes_that_cannot_join_blocks() -> None:
    with pytest.raises(ConfigError, match=r"joins two or more blocks; for a single one take backbone\.block"):
        load_recipe(None, ["backbone.blocks=[9]"])
    text = ["backbone.kind=text", "features.level=image", "objective.kind=kl"]
    with pytest.raises(ConfigError, match=r"for texts choose one, backbone\.block=9"):
        load_recipe(None, [*text, "backbone.blocks=[7,9]"])


def test_fingerprints_of_before_there_were_joins() -> None:
    # from the version without backbone.blocks: an index that was begun then can be finished
    nine = load_recipe(None, ["backbone.block=9"])
    assert nine.fingerprint() == NINE
    data = nine.model_dump(mode="json")
    del data["backbone"]["blocks"]
    assert recipe_from_dict(data) == nine
    joined = load_recipe(None, ["backbone.blocks=[7,9]"])
    assert recipe_from_dict(joined.model_dump(mode="json")) == joined
    assert (
        joined.fingerprint() == load_recipe(None, ["backbone.blocks=[7,9]", "backbone.block=9"]).fingerprint()
    )
    assert len({r.fingerprint() for r in (joined, nine, load_recipe(None, ["backbone.blocks=[5,9]"]))}) == 3
