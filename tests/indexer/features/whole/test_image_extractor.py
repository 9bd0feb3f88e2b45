"""Whole images: gradients as the authors' package gives them, projections, and no leaking between images."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from indexer.features.projection import join_features, join_gradients
from indexer.features.weights import create_model, fingerprint
from indexer.features.whole.images import ImageExtractor
from indexer.recipe import Recipe
from retrieval.errors import ConfigError
from retrieval.similarity import Cosine

GOLDEN = Path(__file__).parents[3] / "golden"
IMAGE = "features.level=image"
ALL = "objective.kind=[kl,dino,infonce]"
SMALL = ("objective.dino.local_crops=2", "objective.infonce.stride_scale=1", "objective.infonce.negatives=2")

Recipes = Callable[..., Recipe]


def photos(count: int = 4) -> list[npt.NDArray[np.uint8]]:
    random = np.random.default_rng(3)
    shapes = [(40, 60), (70, 50), (90, 90), (33, 120)]
    return [random.integers(0, 256, (*shapes[i], 3), dtype=np.uint8) for i in range(count)]


def extractor_of(recipe: Recipe) -> ImageExtractor:
    extractor = ImageExtractor.create(recipe)
    images = photos()
    extractor.fit(lambda: [images[:2], images[2:]], images=4)
    return extractor


def golden_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fungivision", GOLDEN / "make_fungivision.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def our_gradient(name: str, recipes: Recipes, script: ModuleType) -> Tensor:
    """The full gradient of the golden images, (B, E, A + 1), from our parts."""
    size = f"image.size=[{script.SIZE},{script.SIZE}]"
    recipe = recipes(IMAGE, f"objective.kind={name}", "objective.infonce.head_width=96", size)
    extractor = ImageExtractor.create(recipe)
    if name == "infonce":
        extractor._set({**extractor._tensors, "negatives": script.raw_negatives(extractor.backbone.width)})
        extractor._tensors["negatives"] = script.raw_negatives(extractor.backbone.width)  # not rounded
    (objective,) = extractor._objectives
    seen = extractor._forward(list(script.views_of(name)))
    gradients = extractor._gradients(objective, seen)
    return torch.einsum("bvto,bvti->boi", gradients, seen.activations)


@pytest.mark.parametrize("name", ["kl", "dino", "infonce"])
def test_gradients_are_those_of_the_authors_package(name: str, tiny_recipe: Recipes) -> None:
    script, golden = golden_script(), np.load(GOLDEN / "fungivision.npz")
    if fingerprint(create_model(script.MODEL, "random", seed=0)) != str(golden["weights"]):
        pytest.skip("this version of timm or torch draws other random weights than the golden file's")
    _assert_parallel(our_gradient(name, tiny_recipe, script)[:1], torch.from_numpy(golden[name]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["kl", "dino", "infonce"])
def test_gradients_agree_with_the_package_where_it_is_installed(name: str, tiny_recipe: Recipes) -> None:
    pytest.importorskip("fungivision", reason="fungivision is not installed")
    script = golden_script()
    _assert_parallel(our_gradient(name, tiny_recipe, script), script.gradients(name))


def _assert_parallel(ours: Tensor, theirs: Tensor) -> None:
    """Equal to 1e-4 of their length, up to the scale of a mean over a batch, which normalising removes."""
    ours, theirs = (part / part.flatten(1).norm(dim=1)[:, None, None] for part in (ours, theirs))
    assert float((ours - theirs).flatten(1).norm(dim=1).max()) < 1e-4


@pytest.mark.parametrize("projection", ["factored", "dense"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_an_image_does_not_depend_on_its_batch(projection: str, pool: str, tiny_recipe: Recipes) -> None:
    settings = (IMAGE, ALL, f"features.pool={pool}", f"features.projection={projection}", *SMALL)
    extractor = extractor_of(tiny_recipe(*settings))
    together = extractor.extract(photos())
    alone = torch.cat([extractor.extract([image]) for image in photos()])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    assert extractor.similarity == Cosine(64 + 3 * 24)


@pytest.mark.parametrize("projection", ["factored", "dense"])
def test_projections_are_of_the_summed_gradient(projection: str, tiny_recipe: Recipes) -> None:
    recipe = tiny_recipe(IMAGE, "objective.kind=dino", f"features.projection={projection}", *SMALL)
    extractor = extractor_of(recipe)
    (objective,) = extractor._objectives
    seen = extractor._forward([extractor._views("crops", image) for image in photos(2)])
    gradients = extractor._gradients(objective, seen)
    full = torch.einsum("bvto,bvti->boi", gradients, seen.activations).double()
    signs = {name: tensor.double() for name, tensor in load(extractor.to_bytes()).items()}
    if projection == "dense":
        expected = full.flatten(1) @ signs["p"].T
    else:
        expected = torch.einsum("ko,boi,ki->bk", signs["u"], full, signs["v"])
    found = extractor._project(gradients, seen.activations)
    cosines = torch.nn.functional.cosine_similarity(found.double(), expected)
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_only_the_cls_token_is_pooled_where_there_is_one(tiny_recipe: Recipes) -> None:
    extractor = extractor_of(tiny_recipe(IMAGE, "features.kind=embeddings"))
    views = [extractor._views("single", image) for image in photos()]
    expected = torch.nn.functional.normalize(extractor.backbone.embed(torch.cat(views))[:, 0], dim=-1)
    torch.testing.assert_close(extractor.extract(photos()), expected)


def test_same_seed_same_vectors_and_from_the_file_too(tiny_recipe: Recipes, tmp_path: Path) -> None:
    recipe = tiny_recipe(IMAGE, ALL, *SMALL)
    first, second = extractor_of(recipe), extractor_of(recipe)
    assert first.to_bytes() == second.to_bytes()
    path = tmp_path / "features.safetensors"
    path.write_bytes(first.to_bytes())
    opened = ImageExtractor.create(recipe)
    opened.load(path)
    torch.testing.assert_close(opened.extract(photos()), first.extract(photos()), rtol=0, atol=0)
    other = extractor_of(tiny_recipe(IMAGE, ALL, *SMALL, "seed=1"))
    assert not torch.allclose(other.extract(photos()), first.extract(photos()), atol=0.1)


def test_weights_of_the_parts() -> None:
    units = [torch.nn.functional.normalize(torch.randn(2, 5), dim=-1) for _ in range(3)]
    joined = join_features([units[0], join_gradients(units[1:], (0.25, 0.75))], 2.0)
    cosines = [float(part[0] @ part[1]) for part in units]
    expected = (cosines[0] + 0.5 * cosines[1] + 1.5 * cosines[2]) / 3
    assert float(joined[0] @ joined[1]) == pytest.approx(expected, abs=1e-6)


def test_pca_of_images(tiny_recipe: Recipes) -> None:
    extractor = extractor_of(tiny_recipe(IMAGE, "objective.kind=kl", "features.pca=3"))
    assert extractor.extract(photos()).shape == (4, 3)
    with pytest.raises(ConfigError, match=r"features\.pca=4 needs more images .* there are 4"):
        extractor_of(tiny_recipe(IMAGE, "objective.kind=kl", "features.pca=4"))


@pytest.mark.parametrize(
    "override", ["features.projection=none", "rerank.candidates=60"], ids=["exact", "re-ranked"]
)
def test_what_holds_for_patches_alone_is_refused(override: str, tiny_recipe: Recipes) -> None:
    with pytest.raises(ConfigError, match="patches"):
        tiny_recipe(IMAGE, override, "index.engine=exact")
