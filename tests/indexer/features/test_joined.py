"""Several objectives at once, and what older indexes say of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from indexer.features.fungi import FungiExtractor, open_extractor
from indexer.features.objectives import check_independent, create_objectives
from indexer.features.projection import join_features
from indexer.objective_settings import ObjectiveSettings
from indexer.recipe import load_recipe
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.similarity import Cosine
from retrieval.store.layout import FEATURES
from retrieval.store.manifest import FileEntry, Manifest

Extractor = Callable[..., FungiExtractor]


def test_each_gradient_is_projected_and_normalised_by_itself(
    tiny_extractor: Extractor, random_images: Tensor
) -> None:
    joined = tiny_extractor("objective.kind=[infonce,kl]", "objective.weights=[3,1]")
    parts = joined.patch_gradients(random_images)
    tensors = {name: tensor.float() for name, tensor in load(joined.to_bytes()).items()}
    cosines = []
    for name, gradient in zip(("infonce", "kl"), parts.gradients, strict=True):
        alone = tiny_extractor(f"objective.kind={name}")
        torch.testing.assert_close(alone.patch_gradients(random_images).gradients[0], gradient)
        unit = F.normalize(gradient, dim=-1, eps=1e-30)
        projected = (unit @ tensors["u"].T) * (parts.activations @ tensors["v"].T)
        cosines.append(F.cosine_similarity(projected[0, 0], projected[0, 5], dim=-1))
    embedding = F.cosine_similarity(parts.embeddings[0, 0], parts.embeddings[0, 5], dim=-1)
    expected = (embedding + 0.75 * cosines[0] + 0.25 * cosines[1]) / 2
    vectors = joined.extract(random_images)
    assert joined.similarity == Cosine(vectors.shape[-1])
    assert float(vectors[0, 0] @ vectors[0, 5]) == pytest.approx(float(expected), abs=1e-5)
    torch.testing.assert_close(join_features(joined.feature_parts(random_images), 1.0), vectors)


@pytest.mark.parametrize("projection", ["factored", "dense", "none"])
def test_joined_vectors_have_length_one_and_no_batch(
    projection: str, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    settings = ["objective.kind=[infonce,kl]", f"features.projection={projection}", "index.engine=exact"]
    extractor = tiny_extractor(*settings)
    vectors = extractor.extract(random_images)
    if projection != "none":
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:2]))
    alone = torch.cat([extractor.extract(image[None]) for image in random_images])
    torch.testing.assert_close(alone, vectors, rtol=1e-4, atol=1e-5)


def test_the_exact_similarity_of_joined_gradients_is_the_mean_of_cosines(
    tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor(
        "objective.kind=[infonce,kl]", "features.projection=none", "index.engine=exact"
    )
    parts, vectors = extractor.patch_gradients(random_images), extractor.extract(random_images)
    found = extractor.similarity.compare(vectors[0, :1], vectors[0, 5:6])
    outer = [
        F.cosine_similarity(g[0, 0], g[0, 5], dim=-1)
        * F.cosine_similarity(parts.activations[0, 0], parts.activations[0, 5], dim=-1)
        for g in (F.normalize(g, dim=-1, eps=1e-30) for g in parts.gradients)
    ]
    embedding = F.cosine_similarity(parts.embeddings[0, 0], parts.embeddings[0, 5], dim=-1)
    assert float(found) == pytest.approx(float((embedding + sum(outer) / 2) / 2), abs=1e-5)


def test_without_neighbours_there_is_no_support_bank(
    tiny_extractor: Extractor, random_images: Tensor
) -> None:
    extractor = tiny_extractor("objective.infonce.neighbours=0")
    assert extractor.passes_to_fit == 0
    assert "support" not in load(extractor.to_bytes())
    assert extractor.extract(random_images).isfinite().all()


def test_crops_cannot_describe_patches(tiny_extractor: Extractor) -> None:
    with pytest.raises(ConfigError, match=r"dino compares crops of a whole image.*kind=infonce, kl"):
        tiny_extractor("objective.kind=dino")


@pytest.mark.parametrize("name", ["infonce", "kl", "dino"])
def test_no_input_leaks_into_another(name: str) -> None:
    (objective,) = create_objectives(ObjectiveSettings(kind=(name,)))
    check_independent(objective)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.kind=simclr"], "no objective 'simclr'; choose of infonce, kl, dino"),
        (["objective.kind=[kl,kl]"], "each once"),
        (["objective.weights=[1,2]"], "2 numbers for 1 objectives"),
        (["objective.weights=[0]"], "above 0"),
        (["objective.kind=kl", "objective.temperature=0.5"], r"a setting of InfoNCE.*objective\.kl\.temp"),
    ],
)
def test_bad_objectives_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, overrides)


def test_keys_of_older_recipes_are_those_of_infonce(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("objective: {kind: infonce, temperature: 0.1, keep: 0.25}\n")
    settings = load_recipe(path).objective
    assert (settings.kind, settings.infonce.temperature, settings.infonce.keep) == (("infonce",), 0.1, 0.25)


def test_an_index_of_the_older_kl_is_refused_with_the_reason(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    recipe = tiny_extractor().recipe.model_dump(mode="json")
    recipe["objective"] = {"kind": "kl", "temperature": 0.07, "head_width": 96, "keep": 0.5}
    manifest = Manifest(recipe=recipe, fingerprints={}, classes=None, similarity=Cosine(8))  # type: ignore[arg-type]
    with pytest.raises(IndexMismatchError, match=r"not the published one.*build the index again"):
        open_extractor(tmp_path, manifest)


@pytest.mark.parametrize("rerank", [None, 5])
def test_an_index_of_the_older_kl_opens_where_no_gradient_decided_its_vectors(
    rerank: int | None, tmp_path: Path, tiny_extractor: Extractor, random_images: Tensor
) -> None:
    built = tiny_extractor("features.kind=embeddings")
    (tmp_path / FEATURES).write_bytes(built.to_bytes())
    recipe = built.recipe.model_dump(mode="json")
    recipe["objective"] = {"kind": "kl", "temperature": 0.07, "head_width": 96, "keep": 0.5}
    recipe["rerank"]["candidates"] = rerank
    manifest = Manifest(
        recipe=recipe,
        fingerprints=built.fingerprints,
        classes=None,  # type: ignore[arg-type]
        similarity=built.similarity,
        files={FEATURES: FileEntry(0, "")},  # where it lies; sizes are the index's affair
    )
    if rerank is not None:
        with pytest.raises(IndexMismatchError, match="not the published one"):
            open_extractor(tmp_path, manifest)
        return
    opened = open_extractor(tmp_path, manifest, runtime=built.recipe.runtime)
    torch.testing.assert_close(opened.extract(random_images), built.extract(random_images))


def test_kl_equals_the_golden_numbers_of_an_independent_reference() -> None:
    path = Path(__file__).parents[2] / "golden" / "kl.json"  # made by make_kl.py beside it, without torch
    golden = json.loads(path.read_text())
    (kl,) = create_objectives(ObjectiveSettings(kind=("kl",)))
    embeddings = torch.tensor(golden["embeddings"], dtype=torch.float64, requires_grad=True)
    tensors = {
        f"kl.{name}": torch.tensor(golden[name], dtype=torch.float64) for name in ("head_weight", "head_bias")
    }
    loss = kl.loss(embeddings, tensors, None)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert loss.item() == pytest.approx(golden["loss"], rel=1e-12)
    torch.testing.assert_close(gradient, torch.tensor(golden["gradient"], dtype=torch.float64))


def test_kl_settings_are_the_published_ones() -> None:
    settings = ObjectiveSettings().kl
    assert (settings.temperature, settings.head_width) == (1.0, 768)
