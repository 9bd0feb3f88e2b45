"""The comparison with the peers' code, on a tiny VOC with a random ViT and a stand-in for that code."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peer, peer_sides

#: The peers' entry point with their names; what it is asked must be what they would need.
CHECKOUT = """
import json, os
import faiss, numpy as np, torch

class HbirdEvaluation:
    def __init__(self, rows):
        assert faiss.get_num_gpus() == 1
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = False
        self.index = faiss.IndexReplicas()
        self.index.addIndex(faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), rows.shape[1], config))
        self.index.add(rows)

    def evaluate(self, rows):
        return float((self.index.search(rows, 1)[1][:, 0] == np.arange(len(rows))).mean())

def hbird_evaluation(model, d_model, patch_size, dataset_name, data_dir, *, batch_size, input_size,
                     ftr_extr_fn, train_fs_path, val_fs_path, **settings):
    assert settings == dict(augmentation_epoch=1, device="cpu", n_neighbours=30, nn_method="faiss",
                            memory_size=None, num_workers=0)
    assert dataset_name == "voc" and patch_size == 16
    for path, masks in ((train_fs_path, "SegmentationClassAug"), (val_fs_path, "SegmentationClass")):
        for name in open(path).read().split():
            assert os.path.isfile(f"{data_dir}/images/{name}.jpg")
            assert os.path.isfile(f"{data_dir}/{masks}/{name}.png")
    images = torch.rand(batch_size, 3, input_size, input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens, attention = ftr_extr_fn(model, images)
    assert tokens.shape == (batch_size, (input_size // patch_size) ** 2, d_model) and attention is None
    rows = torch.nn.functional.normalize(tokens.flatten(0, 1), dim=1).numpy()
    return HbirdEvaluation(rows).evaluate(rows)
"""


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["peer.py", *map(str, words)])
    peer.main()


def test_all_sides_in_one_table(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout" / "hbird"
    package.mkdir(parents=True)
    (package / "hbird_eval.py").write_text(CHECKOUT)
    words = ["--voc", voc, "--checkout", package.parent, "--images", 2, "--threads", 1, *tiny]
    run(monkeypatch, *words, "--out", tmp_path / "out", "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    sides = ["Mycelia", "open-hummingbird-eval", "forward passes, float32", "forward passes, bfloat16"]
    assert [row["side"] for row in rows] == sides
    assert rows[1]["mIoU"] == "100.00", "what the peers' function returned"
    assert 0 < float(rows[0]["mIoU"]) <= 100
    assert rows[0]["ours / this, CPU"] == "1.00"
    for row in rows[:2]:
        parts = [float(row[f"{stage} CPU s"]) for stage in ("start and end", "memory", "evaluate")]
        assert sum(parts) == pytest.approx(float(row["whole CPU s"]), abs=0.21), "rounded to 0.1"
        assert row["peak MiB"] > 50
    text = (tmp_path / "out" / "peer.md").read_text()
    assert "2 images of trainaug; scored: 2 of val; 64 x 64 pixels" in text
    assert "Peers: commit unknown" in text and "`backbone.model=test_vit`" in text


def test_without_a_checkout_the_table_says_so(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object, **asked: Any) -> peer.Measured:
        stages = {stage: [1.0, 2.0] for stage in peer.STAGES}
        return peer.Measured(str(asked), stages, (3.0, 6.0), 100.0, None)

    monkeypatch.setattr(peer.Bench, "_run", measured)
    monkeypatch.setattr(peer.Bench, "ours", lambda self: measured(side="Mycelia"))
    run(monkeypatch, "--voc", voc, *tiny, "--out", tmp_path / "out", "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["side"] for row in rows[1:]] == ["forward passes, float32", "forward passes, bfloat16"]
    assert rows[1]["whole CPU s"] == "4.0", "reading and loading are no passes"
    assert rows[1]["ours / this, CPU"] == "1.50"
    assert "no --checkout was given" in (tmp_path / "out" / "peer.md").read_text()


def test_what_is_evenly_spaced() -> None:
    assert peer.spaced("abcdefgh", None) == list("abcdefgh")
    assert peer.spaced("abcdefgh", 4) == list("aceg")
    assert peer.spaced("abc", 9) == list("abc")


def test_processes_one_after_the_other_are_added() -> None:
    build = peer.Measured("", {"load": [1.0, 0.5], "memory": [4.0, 3.0]}, (5.0, 3.5), 80.0, None)
    score = peer.Measured("", {"load": [2.0, 1.5], "evaluate": [6.0, 5.0]}, (8.0, 6.5), 90.0, None)
    both = peer.joined("ours", [build, score], 0.25)
    assert both.stages == {"load": [3.0, 2.0], "memory": [4.0, 3.0], "evaluate": [6.0, 5.0]}
    assert (both.whole, both.peak, both.miou) == ((13.0, 10.0), 90.0, 0.25)


def test_the_clock_gives_what_passed_to_the_stage_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([12.0, 15.0, 16.0])
    cpu = iter([1.0, 0.5, 2.0, 0.5, 2.5, 1.0])  # the process's own, its children's

    def usage(_: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(ru_utime=next(cpu), ru_stime=0.0)

    monkeypatch.setattr(peer_sides.time, "time", lambda: next(now))
    monkeypatch.setattr(resource, "getrusage", usage)
    clock = peer_sides.Clock(10.0)
    for stage in ("memory", "load", "end"):
        clock.enter(stage)
    assert clock.stages == {"load": [3.0, 2.5], "memory": [3.0, 1.0]}


def test_the_stand_in_searches_as_faiss_does() -> None:
    faiss = importlib.import_module("faiss")
    stand_in = types.SimpleNamespace(IndexFlatIP=faiss.IndexFlatIP)
    peer_sides.use_cpu_index(stand_in)
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    index = stand_in.GpuIndexFlatIP(stand_in.StandardGpuResources(), 8, stand_in.GpuIndexFlatConfig())
    index.add(rows)
    found = index.search(rows[:5], 3)[1]
    assert (found == np.argsort(-(rows[:5] @ rows.T), axis=1)[:, :3]).all()


def test_faults_are_one_sentence(
    voc: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*has no hbird/hbird_eval\.py; give the peers' checkout$"):
        run(monkeypatch, "--voc", voc, "--checkout", tmp_path)
    with pytest.raises(SystemExit, match=r"^error: --images, --threads and --batch should be 1 or more$"):
        run(monkeypatch, "--voc", voc, "--threads", 0)
    with pytest.raises(SystemExit, match=r"^error: the command line: unknown key image\.sise"):
        run(monkeypatch, "--voc", voc, "image.sise=[64,64]")
    with pytest.raises(SystemExit, match=r"^error: .*nowhere"):
        run(monkeypatch, "--voc", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match=r"^error: command ended with status 1: error: .*no timm model"):
        run(monkeypatch, "--voc", voc, *tiny, "backbone.model=no_such_vit")
