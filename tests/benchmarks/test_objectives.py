from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from benchmarks import objectives
from benchmarks.cuts import make_cuts
from indexer.bank.build import build_index
from indexer.datasets import load_dataset
from indexer.features.fungi import FungiExtractor
from indexer.recipe import load_recipe
from segmentation.scoring.evaluator import evaluate
from segmentation.segmenter import Segmenter


def unchanged(vectors: Tensor, labels: npt.NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """A metric that learns nothing."""
    assert len(vectors) == len(labels)
    return lambda asked: asked


def halved(vectors: Tensor, labels: npt.NDArray[np.uint8]) -> Callable[[Tensor], Tensor]:
    """A metric that forgets the second half of the embedding and the gradient."""
    assert labels.max() == 255
    return lambda asked: asked[:, :8]


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["objectives.py", *map(str, words)])
    objectives.main()


def test_lines_score_as_indexes_of_the_same_features_do(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [voc, *tiny, "--train", "trainaug", "--blocks", 1, "--seeds", 1, "--patches", 5, "--threads", 1]
    run(monkeypatch, *words, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    found = {(row["features"], row["similarity"]): row["mIoU"] for row in rows}
    assert len(found) == 7 and len(set(found.values())) > 2, "the lines differ"
    assert rows[0]["mIoU gain"] == "" and {row["mIoU sd"] for row in rows} == {""}
    for row in rows[1:]:
        assert row["mIoU gain"] == pytest.approx(row["mIoU"] - rows[0]["mIoU"], abs=0.011)
    indexes = {
        ("embeddings", "cosine"): ["features.kind=embeddings"],
        ("embeddings + infonce", "exact"): ["features.projection=none"],
        ("embeddings + kl", "factored"): ["objective.kind=kl", "features.projection=factored"],
        ("embeddings + infonce + kl", "factored"): ["objective.kind=[infonce,kl]"],
        ("embeddings + infonce + kl", "exact"): ["objective.kind=[infonce,kl]", "features.projection=none"],
    }
    for number, (line, settings) in enumerate(indexes.items()):
        own = ["backbone.block=1", "bank.max_patches=15", *tiny, *settings]
        place = tmp_path / f"{number}.index"
        recipe = load_recipe("offline.yaml", own)
        build_index(load_dataset(voc, split="trainaug"), place, recipe=recipe)
        with Segmenter.open(place, runtime=recipe.runtime) as segmenter:
            report = evaluate(segmenter, load_dataset(voc, split="val"))
        assert found[line] == pytest.approx(100 * report.miou, abs=0.5), line


def test_tables_tell_seeds_classes_and_metrics(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [voc, *tiny, "--train", "trainaug", "--blocks", 0, -1, "--seeds", 2, "--patches", 4]
    words += ["--class", "aeroplane", "--images", 2, "--memory", 3, "--cache", tmp_path / "cache"]
    words += ["--metric", f"{__name__}:unchanged", "--metric", f"{__name__}:halved"]
    words += ["--metric-temperature", 0.02]
    words += ["--out", tmp_path / "out", "--json", tmp_path / "rows.json"]
    run(monkeypatch, *words)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 2 * (7 + 4 + 4) and [row["block"] for row in rows[::15]] == [0, 5]
    assert all(isinstance(row["aeroplane IoU sd"], float) for row in rows)
    scores = {(row["block"], row["features"], row["similarity"]): row for row in rows}
    for (block, features, similarity), row in scores.items():
        if similarity == "unchanged":
            same = scores[block, features, "cosine" if features == "embeddings" else "factored"]
            assert row["mIoU"] == pytest.approx(same["mIoU"], abs=0.5), "the same vectors, the same score"
    assert any(
        row["mIoU"] != scores[block, features, "unchanged"]["mIoU"]
        for (block, features, similarity), row in scores.items()
        if similarity == "halved"
    )
    text = (tmp_path / "out" / "objectives.md").read_text()
    assert f" {tmp_path}" not in text, "tables say nothing of where things lie on this machine"
    assert "Memory: 3 images of trainaug" in text and "scored: 2 of val" in text

    def never(*_: object) -> None:
        raise AssertionError("what is in the cache is not run again")

    monkeypatch.setattr("benchmarks.cuts._halved", never)
    run(monkeypatch, *words)
    assert json.loads((tmp_path / "rows.json").read_text()) == rows


def test_the_metric_of_the_product_scores_as_the_product_does(
    voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("image.size=[224,224]", "features.kind=embeddings")
    metric = ("features.metric=class", "features.width=192", "transfer.temperature=0.06")
    words = ["--train", "trainaug", "--blocks", 9, "--seeds", 1, "--json", tmp_path / "rows.json"]
    words += ["--metric", "benchmarks.metric_maps:class_metric"]
    run(monkeypatch, voc, *settings[:1], *words)
    rows = json.loads((tmp_path / "rows.json").read_text())
    own = next(r for r in rows if r["similarity"] == "class_metric" and r["features"] == "embeddings")
    recipe = load_recipe("offline.yaml", [*settings, *metric, "backbone.block=9", "index.engine=exact"])
    build_index(load_dataset(voc, split="trainaug"), tmp_path / "x.index", recipe=recipe)
    with Segmenter.open(tmp_path / "x.index", runtime=recipe.runtime) as segmenter:
        report = evaluate(segmenter, load_dataset(voc, split="val"))
    assert own["mIoU"] == pytest.approx(100 * report.miou, abs=0.7)


def test_what_is_kept_of_the_cut_gives_the_vectors_of_the_images(voc: Path, tiny: tuple[str, ...]) -> None:
    data = load_dataset(voc, split="val")
    extractor = FungiExtractor.create(load_recipe(None, ["features.projection=factored", *tiny]))
    cuts = make_cuts(extractor, data, None)
    for image, sample in enumerate(data.samples):
        pixels = extractor.prepare(data.read(sample)[0], cuts.geometries[image])[0][None]
        kept = extractor.patch_gradients(cuts.of([image], extractor.backbone.device))
        for ours, theirs in zip(kept.gradients, extractor.patch_gradients(pixels).gradients, strict=True):
            assert float(torch.cosine_similarity(ours, theirs, dim=-1).min()) > 0.999


def test_faults_are_one_sentence(voc: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: --class plane: no such class; choose of background, "):
        run(monkeypatch, voc, *tiny, "--train", "trainaug", "--class", "plane")
    with pytest.raises(SystemExit, match=r"^error: --metric 'nowhere:f' cannot be imported"):
        run(monkeypatch, voc, *tiny, "--train", "trainaug", "--metric", "nowhere:f")
