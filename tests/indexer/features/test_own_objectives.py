"""Objectives of one's own: what is refused, and whose code an index may run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from indexer.features.fungi import FungiExtractor, open_extractor
from indexer.features.objectives import Objective, create_objectives
from indexer.objective_settings import ObjectiveSettings
from retrieval.errors import ConfigError
from retrieval.similarity import Cosine
from retrieval.store.layout import FEATURES
from retrieval.store.manifest import FileEntry, Manifest

Extractor = Callable[..., FungiExtractor]


class Even(Objective):
    """The mean square of an input's embeddings."""

    name = "even"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def random_tensors(self, width: int, seed: int) -> dict[str, Tensor]:
        return {}

    def latents(self, embeddings: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        return embeddings * self.scale

    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        return self.latents(embeddings, tensors).square().mean(dim=(1, 2)).sum()


class Uneven(Even):
    """Another of the same name."""


class Nameless(Even):
    name = None  # type: ignore[assignment]


class Embedding(Even):
    name = "embedding"


class Shipped(Even):
    name = "kl"


class Picky(Even):
    def __init__(self) -> None:
        raise KeyError


class Leaky(Even):
    """The same over the batch: an input's gradient depends on how many others there are."""

    name = "leaky"

    def loss(self, embeddings: Tensor, tensors: dict[str, Tensor], negatives: Tensor | None) -> Tensor:
        return self.latents(embeddings, tensors).square().mean()


@pytest.fixture
def own_module(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("own_losses")
    for kind in (Even, Uneven, Nameless, Embedding, Shipped, Picky, Leaky):
        setattr(module, kind.__name__, kind)
    module.NoLoss = dict  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_losses", module)
    return "own_losses"


def test_an_objective_of_ones_own(own_module: str, tiny_extractor: Extractor, random_images: Tensor) -> None:
    extractor = tiny_extractor(f"objective.kind={own_module}:Even", "objective.options={scale: 2.0}")
    assert extractor.extract(random_images).isfinite().all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_losses:Leaky", "another gradient in a batch than alone"),
        ("own_losses:Missing", "cannot be imported"),
        ("no_such_module:Loss", r"cannot be imported.*expected MODULE:CLASS"),
        ("own_losses:NoLoss", "is no indexer.features.objectives.Objective"),
        (".own_losses:Even", r"cannot be imported.*expected MODULE:CLASS"),
        ("own_losses:Nameless", "'own_losses:Nameless' has no name; give the class one"),
        ("own_losses:Embedding", "has the name 'embedding', which is taken"),
        ("own_losses:Shipped", "has the name 'kl', which is taken"),
        ("own_losses:Picky", "objective.options do not fit 'own_losses:Picky': KeyError"),
    ],
)
def test_a_bad_objective_of_ones_own_is_refused(own_module: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_objectives(ObjectiveSettings(kind=(name,)))


def test_two_objectives_of_one_name_are_refused(own_module: str) -> None:
    with pytest.raises(ConfigError, match=r"'own_losses:Uneven' has the name 'even', which is taken"):
        create_objectives(ObjectiveSettings(kind=("own_losses:Even", "kl", "own_losses:Uneven")))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit", "SystemExit"),
        ("class Loss(:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_fails_is_named_with_its_reason(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_losses.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=rf"'failing_losses:Loss' cannot be imported \({reason}"):
        create_objectives(ObjectiveSettings(kind=("failing_losses:Loss",)))


FOREIGN = """
import pathlib

pathlib.Path(__file__).with_name("ran").touch()
"""


def test_an_index_runs_no_code_of_modules_that_the_user_has_not_named(
    tmp_path: Path, tiny_extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_losses.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tiny_extractor().recipe.model_dump(mode="json")
    recipe["objective"]["kind"] = ["kl", "foreign_losses:Loss"]
    manifest = Manifest(recipe=recipe, fingerprints={}, classes=None, similarity=Cosine(8))  # type: ignore[arg-type]
    message = r"module 'foreign_losses', whose code would run here.*MYCELIA_OBJECTIVES=foreign_losses"
    for named in (None, "other", "foreign_losses.more"):
        if named is not None:
            monkeypatch.setenv("MYCELIA_OBJECTIVES", named)
        with pytest.raises(ConfigError, match=message):
            open_extractor(tmp_path, manifest)
        assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("MYCELIA_OBJECTIVES", "other, foreign_losses")
    with pytest.raises(ConfigError, match="has no attribute 'Loss'"):
        open_extractor(tmp_path, manifest)
    assert (tmp_path / "ran").exists()


def test_an_index_of_an_objective_of_ones_own_opens_where_its_module_is_named(
    own_module: str,
    tmp_path: Path,
    tiny_extractor: Extractor,
    random_images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = tiny_extractor(f"objective.kind={own_module}:Even")
    (tmp_path / FEATURES).write_bytes(built.to_bytes())
    recipe = built.recipe.model_dump(mode="json")
    manifest = Manifest(
        recipe=recipe,
        fingerprints=built.fingerprints,
        classes=None,  # type: ignore[arg-type]
        similarity=built.similarity,
        files={FEATURES: FileEntry(0, "")},  # where it lies; sizes are the index's affair
    )
    with pytest.raises(ConfigError, match="MYCELIA_OBJECTIVES=own_losses"):
        open_extractor(tmp_path, manifest)
    monkeypatch.setenv("MYCELIA_OBJECTIVES", own_module)
    opened = open_extractor(tmp_path, manifest, runtime=built.recipe.runtime)
    torch.testing.assert_close(opened.extract(random_images), built.extract(random_images))
