"""The commands on a cluster of two stubs, of which one dies: built, looked at, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segmentation.cli import app

pytest.importorskip("qdrant_client")

from .stub import QdrantStub

SETTINGS = (
    *("backbone.model=test_vit", "backbone.weights=random", "backbone.block=-1", "image.size=[64,64]"),
    *("runtime.device=cpu", "bank.max_patches=null", "objective.infonce.support_size=16", "transfer.k=3"),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    classes = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(("dark", "bright"))]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    generator = np.random.default_rng(0)
    for number in range(2):
        mask = np.zeros((48, 70), np.uint8)
        mask[:, 35:] = 1
        photo = (mask[..., None] * 150 + generator.integers(0, 90, (48, 70, 3))).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"photo{number}.png")
    return folder


def test_a_life_with_a_dead_node(
    stub: QdrantStub, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    other = QdrantStub()
    other.collections, other.points = stub.collections, stub.points
    hosts = [f"127.0.0.1:{node.port - 1}" for node in (stub, other)]
    urls = ",".join(f"http://{host}" for host in hosts)
    address, photo = f"qdrant://{','.join(hosts)}/bank", data / "images" / "photo0.png"
    try:
        built = run(
            "index", "build", data, "--out", tmp_path / "i", "--url", urls, "--collection", "bank", *SETTINGS
        )
        assert built.exit_code == 0, built.output
        stub.indexed, stub.threshold = 0, 10_000
        told = run("index", "info", address)
        assert told.exit_code == 0, told.output
        assert "as expected" in told.stdout and urls in told.stdout
        assert "those below 10,000 KB of vectors are searched without one" in " ".join(told.stdout.split())
        before = segment(address, photo, tmp_path / "before")
        stub.server.stop(0).wait()
        for out, where in (("after", address), ("folder", tmp_path / "i")):
            np.testing.assert_array_equal(segment(where, photo, tmp_path / out), before)
        other.server.stop(0).wait()
        dead = run("segment", address, photo, "--out", tmp_path / "none")
        assert dead.exit_code == 1 and "no Qdrant server answers at" in dead.stderr
        assert all(f"http://{host}" in dead.stderr.replace("\n", "") for host in hosts)
    finally:
        other.server.stop(0)


def segment(index: Any, photo: Path, out: Path) -> Any:
    done = run("segment", index, photo, "--out", out)
    assert done.exit_code == 0, done.output
    (path,) = out.rglob("photo0*.png")
    return np.array(Image.open(path))
