"""Engines from the command line: build on Qdrant, convert, remove, filters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from retrieval import open_index, read_images, read_manifest
from segmentation.cli import app
from segmentation.cli.arguments import engine_overrides

pytest.importorskip("qdrant_edge")

BACKBONE = ("backbone.model=test_vit", "backbone.weights=random", "backbone.block=-1")
SETTINGS = (*BACKBONE, "image.size=[64,64]", "runtime.device=cpu")
SMALL = (
    "bank.max_patches=null",
    "objective.infonce.support_size=16",
    "transfer.k=3",
    "index.qdrant.threads=1",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    classes = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(("dark", "bright"))]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(3):
        mask = np.zeros((48, 70), np.uint8)
        mask[:, 35:] = 1
        photo = (mask[..., None] * 150 + generator.integers(0, 90, (48, 70, 3))).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"photo{number}.png")
    return folder


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    out = tmp_path_factory.mktemp("edge") / "edge.index"
    result = run("index", "build", data, "--out", out, "--engine", "qdrant", *SETTINGS, *SMALL)
    assert result.exit_code == 0, result.output
    return out


def test_qdrant_serves_every_command(edge: Path, data: Path) -> None:
    assert read_manifest(edge).engine["kind"] == "qdrant_edge"
    assert run("index", "verify", edge).exit_code == 0
    assert "qdrant_edge" in run("index", "info", edge).stdout
    photo = data / "images" / "photo0.png"
    votes = json.loads(run("search", edge, photo, "--at", "10,60", "--json").stdout)
    assert votes[0]["image_id"] == "photo0" and votes[0]["similarity"] == pytest.approx(1, abs=0.01)


def test_conversion_keeps_the_votes(edge: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo1.png"
    here, votes = edge, []
    for step, engine in enumerate(("exact", "faiss", "qdrant")):
        result = run("index", "convert", here, "--to", engine, "--out", tmp_path / str(step))
        assert result.exit_code == 0, result.output
        here = tmp_path / str(step)
        votes.append(json.loads(run("search", here, photo, "--at", "40,5", "--json").stdout))
    for other in votes[1:]:
        assert [(v["image_id"], v["patch"]) for v in other] == [(v["image_id"], v["patch"]) for v in votes[0]]
    again = run("index", "convert", edge, "--to", "exact", "--out", here)
    assert again.exit_code == 1 and "holds an index already" in again.stderr


def test_convert_refuses_other_settings(edge: Path, tmp_path: Path) -> None:
    result = run("index", "convert", edge, "--to", "exact", "--out", tmp_path / "x", "seed=3")
    assert result.exit_code == 1 and "only index.*" in result.stderr
    unknown = run("index", "convert", edge, "--to", "oracle", "--out", tmp_path / "x")
    assert unknown.exit_code == 1 and "oracle" in unknown.stderr


def test_remove(edge: Path, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert run("index", "convert", edge, "--to", "qdrant", "--out", copy).exit_code == 0
    with open_index(copy) as index:
        before = len(index)
    wrong = run("index", "remove", copy, "photo9")
    assert wrong.exit_code == 1 and "has no memory image 'photo9'; did you mean 'photo" in wrong.stderr
    assert run("index", "remove", copy, "photo1").exit_code == 0
    assert run("index", "remove", copy, "photo1").exit_code == 1
    with open_index(copy) as index:
        assert len(index) == before * 2 // 3
    assert [record.removed for record in read_images(copy)] == [False, True, False]
    photo = data / "images" / "photo1.png"
    votes = json.loads(run("search", copy, photo, "--at", "10,10", "--json").stdout)
    assert {vote["image_id"] for vote in votes} <= {"photo0", "photo2"}


def test_search_filters(edge: Path, data: Path) -> None:
    photo = data / "images" / "photo0.png"
    only = run("search", edge, photo, "--at", "10,60", "--only-image", "photo2", "--json")
    assert {vote["image_id"] for vote in json.loads(only.stdout)} == {"photo2"}
    no_dark = run("search", edge, photo, "--at", "10,5", "--not-class", "dark", "--json")
    assert all(vote["label"].get("bright", 0) >= 0.5 for vote in json.loads(no_dark.stdout))
    nothing = run("search", edge, photo, "--at", "10,5", "--not-class", "dark", "--not-class", "bright")
    assert nothing.exit_code == 1 and "leave no memory patch" in nothing.stderr
    wrong = run("search", edge, photo, "--at", "10,5", "--not-class", "blue")
    assert wrong.exit_code == 1 and "there is no class 'blue'" in wrong.stderr


def test_a_server_that_is_away_is_one_line(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.setattr("retrieval.engines.qdrant.connection._FIRST_PAUSE", 0.01)
    address = "qdrant://127.0.0.1:9/bank"
    photo = data / "images" / "photo0.png"
    for arguments in (("index", "info", address), ("search", address, photo, "--at", "1,1")):
        result = run(*arguments)
        assert result.exit_code == 1, result.output
        assert "no Qdrant server answers at http://127.0.0.1:9" in result.stderr


def test_shard_needs_a_server(data: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "--out", tmp_path / "x", "--shard", "1/2", *SETTINGS, *SMALL)
    assert result.exit_code == 1 and "--shard needs a Qdrant server" in result.stderr


def test_engine_options() -> None:
    assert engine_overrides(None, None, None) == []
    assert engine_overrides("faiss", None, None) == ['index.engine="faiss"']
    assert engine_overrides(None, "http://h:1", "c") == [
        'index.engine="qdrant"',
        'index.qdrant.url="http://h:1"',
        'index.qdrant.collection="c"',
    ]
