"""An engine that an installed package brings works like those of the project, which does not know it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indexer.recipe import load_recipe
from retrieval import Filter, GradientProduct, IndexFolder, IndexSettings, Manifest, create_index, open_index
from retrieval.edit.convert import convert_index
from retrieval.edit.remove import remove_images
from retrieval.engines.registry import engine_packages, engines
from retrieval.errors import ConfigError, IndexMismatchError
from retrieval.store.records import ImageRecord

TOY = '''
"""Brute force in numpy."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from retrieval.engines.embedded import create_embedded, open_embedded
from retrieval.engines.spec import EngineSpec
from retrieval.store.row_file import RowFile


class ToySettings(BaseModel):
    """How the toy searches."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    block: int = Field(64, ge=1, description="queries compared at a time")


class ToyEngine:
    def __init__(self, vectors, block):
        self.vectors_file, self.block = vectors, block

    @property
    def parameters(self):
        return {"kind": "toy", "block": self.block}

    def __len__(self):
        return len(self.vectors_file)

    def add(self, vectors):
        self.vectors_file.append(vectors)

    def search(self, queries, k, allowed):
        best = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(queries), self.block):
            found = queries[start : start + self.block] @ self.vectors_file.array().T
            if allowed is not None:
                found[:, ~allowed] = -np.inf
            order = np.argsort(-found, axis=1, kind="stable")[:, :k]
            near = np.take_along_axis(found, order, axis=1)
            best[start : start + self.block, : near.shape[1]] = near
            ids[start : start + self.block, : near.shape[1]] = np.where(np.isneginf(near), -1, order)
        return best, ids

    def vectors(self, ids):
        return np.asarray(self.vectors_file.array()[ids], dtype=np.float32)

    def stage(self):
        return self.vectors_file.stage()

    def committed(self):
        self.vectors_file.committed()

    def close(self):
        self.vectors_file.close()


def _create(asked):
    def make(similarity, rows):
        file = RowFile(asked.files, "toy.npy", (similarity.width,), np.float32)
        return ToyEngine(file, asked.settings.block)

    return create_embedded(asked, make)


def _open(asked):
    def load(similarity, rows):
        file = RowFile.open(asked.files, "toy.npy", (similarity.width,), np.float32)
        return ToyEngine(file, int(asked.manifest.engine["block"]))

    return open_embedded(asked, load)


TOY = EngineSpec(
    name="toy",
    kind="toy",
    title="the toy",
    settings=ToySettings,
    create=_create,
    open=_open,
    packages=("toy",),
)
'''


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = TOY, target: str = "toy_engine:TOY"
) -> None:
    """What ``pip install`` of a package with such an entry point leaves."""
    (folder / "toy_engine.py").write_text(code)
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mycelia.engines]\ntoy = {target}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "toy_engine", raising=False)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IndexSettings:
    (tmp_path / "site").mkdir()
    install(tmp_path / "site", monkeypatch)
    return IndexSettings(engine="toy", toy={"block": 5})


RECORDS = [ImageRecord(i, f"photo {i}", f"{i}.png", "0" * 64, 60, 50, 30) for i in range(10)]


def test_it_finds_what_the_exact_engine_finds_through_a_life(
    tmp_path: Path, toy: IndexSettings, bank: Any, manifest: Callable[..., Manifest]
) -> None:
    exact = IndexSettings(engine="exact", dtype="float32")
    for name, settings in (("toy", toy), ("exact", exact)):
        with create_index(tmp_path / name, manifest(), rows=300, settings=settings) as index:
            index.add(bank.vectors, bank.labels, bank.patches)
            index.flush(images=RECORDS)
        remove_images(tmp_path / name, ["photo 3"])
    with open_index(tmp_path / "toy", verify=True) as ours, open_index(tmp_path / "exact") as oracle:
        for filter in (None, Filter(images=[1, 5]), Filter(not_classes=[0, 2])):
            found, wanted = (index.search(bank.queries, 20, filter=filter) for index in (ours, oracle))
            np.testing.assert_array_equal(found.ids, wanted.ids)
            np.testing.assert_allclose(found.similarities, wanted.similarities, atol=1e-6)
            np.testing.assert_array_equal(found.labels, wanted.labels)
    stored = json.loads((tmp_path / "toy" / "manifest.json").read_text())
    assert stored["engine"] == {"kind": "toy", "block": 5}


def test_it_is_converted_from_and_to(tmp_path: Path, toy: IndexSettings, build: Any, bank: Any) -> None:
    with build(tmp_path / "flat", IndexSettings(engine="exact")) as index:
        index.flush(images=RECORDS)
    assert convert_index(tmp_path / "flat", tmp_path / "toy", settings=toy) == 300
    assert convert_index(tmp_path / "toy", tmp_path / "back", settings=IndexSettings(engine="exact")) == 300
    assert IndexFolder.open(tmp_path / "toy").spec.title == "the toy"
    assert (tmp_path / "back" / "vectors.npy").read_bytes() == (
        tmp_path / "flat" / "vectors.npy"
    ).read_bytes()


def test_a_recipe_knows_its_name_and_its_section(toy: IndexSettings) -> None:
    recipe = load_recipe(None, ["index.engine=toy", "index.toy.block=7"])
    assert recipe.index.section.block == 7 and recipe.index.spec.name == "toy"
    assert load_recipe(None, ["index.engine=toy"]).index.section.block == 64
    assert "toy" in engine_packages() and any(spec.name == "toy" for spec in engines())
    with pytest.raises(ConfigError, match=r"index\.toy\.block.*greater than or equal to 1"):
        load_recipe(None, ["index.engine=toy", "index.toy.block=0"])
    with pytest.raises(ConfigError, match=r"index\.toy\.blocks"):
        load_recipe(None, ["index.toy.blocks=3"])
    with pytest.raises(ConfigError, match="the toy cannot search the exact gradient similarity"):
        load_recipe(None, ["index.engine=toy", "features.projection=none"])


def test_what_it_cannot_do_is_refused_in_its_name(
    tmp_path: Path, toy: IndexSettings, manifest: Callable[..., Manifest]
) -> None:
    with pytest.raises(ConfigError, match="the toy cannot search the exact gradient similarity"):
        create_index(tmp_path / "x", manifest(GradientProduct(8, 8, 8, 1.0)), rows=1, settings=toy)


def test_without_the_package_its_index_says_what_is_missing(
    tmp_path: Path, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        (tmp_path / "site").mkdir()
        install(tmp_path / "site", patch)
        with build(tmp_path / "index", IndexSettings(engine="toy")) as index:
            index.flush()
    with pytest.raises(IndexMismatchError, match=r"'toy'.*install the package that brings it"):
        open_index(tmp_path / "index")
    with pytest.raises(ConfigError, match="no such engine"):
        load_recipe(None, ["index.engine=toy"])


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("import nothing_like_it", "toy_engine:TOY", "cannot be loaded .*nothing_like_it"),
        ("TOY = 3", "toy_engine:TOY", "should be a EngineSpec, not int"),
        ("TOY = 3", "toy_engine:SPEC", "cannot be loaded"),
    ],
)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, target: str, message: str
) -> None:
    install(tmp_path, monkeypatch, code, target)
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, ["index.engine=toy"])
