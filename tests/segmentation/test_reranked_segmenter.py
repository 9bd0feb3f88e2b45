"""From photos to masks with re-ranking, on a tiny random ViT: it has to equal the exact similarity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from retrieval.errors import ConfigError
from segmentation.cli import app
from segmentation.segmenter import Segmenter

SETTINGS = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "backbone.block=-1",
    "image.size=[64,64]",
    "features.gradient_weight=0.5",
    "bank.max_patches=null",
    "objective.infonce.support_size=16",
    "transfer.k=6",
    "runtime.device=cpu",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranked") / "data"
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(4):
        mask = np.kron(rng.integers(0, 2, (3, 4)), np.ones((16, 17), int)).astype(np.uint8)
        photo = (mask[..., None] * 150 + rng.integers(0, 90, (*mask.shape, 3))).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"photo{number}.png")
    classes = [{"id": i, "name": name, "color": [i, i, i]} for i, name in enumerate(("dark", "bright"))]
    (folder / "classes.json").write_text(json.dumps({"classes": classes}))
    return folder


def build(data: Path, name: str, *settings: str) -> Path:
    out = data.parent / name
    result = run("index", "build", data, "--out", out, *SETTINGS, *settings)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def exact(data: Path) -> Path:
    return build(data, "exact.index", "features.projection=none", "index.engine=exact")


@pytest.fixture(scope="module")
def reranked(data: Path) -> Path:
    return build(data, "r.index", "features.kind=embeddings", "rerank.candidates=500", "index.engine=exact")


@pytest.mark.parametrize("settings", [("features.kind=embeddings",), ("features.projection=factored",)])
def test_every_patch_a_candidate_is_the_exact_similarity(
    data: Path, exact: Path, settings: tuple[str, ...]
) -> None:
    pytest.importorskip("faiss")
    name = settings[0].partition("=")[2]
    index = build(data, f"{name}.index", *settings, "rerank.candidates=500", "index.engine=faiss")
    photo = np.array(Image.open(data / "images" / "photo2.png"))[::-1, ::-1]
    with Segmenter.open(index) as ours, Segmenter.open(exact) as theirs:
        found, expected = ours.segment(photo), theirs.segment(photo)
    np.testing.assert_allclose(found.neighbors.similarities, expected.neighbors.similarities, atol=3e-3)
    np.testing.assert_allclose(found.shares, expected.shares, atol=0.1)
    assert (found.mask == expected.mask).mean() > 0.98


def test_candidates_change_the_order_and_can_be_chosen_late(data: Path, reranked: Path, exact: Path) -> None:
    photo = np.array(Image.open(data / "images" / "photo2.png"))[::-1, ::-1]
    with Segmenter.open(exact) as segmenter:
        best = segmenter.segment(photo).neighbors.similarities
    with Segmenter.open(reranked, candidates=6) as segmenter:
        assert segmenter.recipe.rerank.candidates == 6
        few = segmenter.segment(photo).neighbors.similarities
    assert (few < best + 3e-3).all() and (few < best - 0.01).any(), "six candidates are not the six best"
    with pytest.raises(ConfigError, match="nothing to re-rank by"):
        Segmenter.open(exact, candidates=6)


def test_commands_know_of_it(data: Path, reranked: Path, exact: Path, tmp_path: Path) -> None:
    assert "500 candidates by exact FUNGI, gradient weight 0.5" in run("index", "info", reranked).stdout
    assert "re-ranking" not in run("index", "info", exact).stdout
    report = tmp_path / "score.json"
    result = run("evaluate", reranked, data, "rerank.candidates=40", "--json", report)
    assert result.exit_code == 0, result.output
    assert json.loads(report.read_text())["recipe"]["rerank"] == {"candidates": 40}
    emptied = run("evaluate", reranked, data, "rerank.candidates=null")
    assert emptied.exit_code == 1 and "cannot be emptied" in emptied.stderr
    foreign = run("evaluate", exact, data, "rerank.candidates=40")
    assert foreign.exit_code == 1 and "leave rerank.candidates empty" in foreign.stderr
    refused = run("index", "convert", reranked, "--to", "qdrant", "--out", tmp_path / "q.index")
    assert refused.exit_code == 1 and "error: " in refused.stderr
    copy = shutil.copytree(reranked, tmp_path / "copy.index")
    assert run("index", "remove", copy, "photo3").exit_code == 0
    assert run("index", "verify", copy).exit_code == 0
    assert run("index", "convert", copy, "--to", "exact", "--out", tmp_path / "e.index").exit_code == 0
    photo = data / "images" / "photo1.png"
    votes = json.loads(run("search", tmp_path / "e.index", photo, "--at", "9,9", "--json").stdout)
    assert votes[0]["image_id"] == "photo1" and votes[0]["similarity"] == pytest.approx(1, abs=0.01)
    assert "photo3" not in {vote["image_id"] for vote in votes}
