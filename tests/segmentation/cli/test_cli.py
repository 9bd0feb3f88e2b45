"""The command: help, exit statuses, messages, and one run of every command on a tiny index."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import FORMATS
from retrieval import read_images, read_manifest, write_manifest
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.remove import remove_images
from retrieval.errors import ConfigError
from segmentation.cli.console import format_bytes
from segmentation.cli.overrides import check_overrides
from segmentation.cli.search import parse_position

from .command import error_of, run

COMMANDS = {
    ("index", "build"): ["--out", "--config", "--split", "--format", "--subset", "--engine", "--skip-bad"],
    ("index", "info"): ["--json"],
    ("index", "verify"): ["INDEX"],
    ("segment",): ["--out", "--overlay", "--confidence", "--overwrite", "--skip-bad", "--json"],
    ("search",): ["--at", "--k", "--json", "--picture"],
    ("evaluate",): ["--split", "--format", "--subset", "--protocol", "--json", "--report", "--skip-bad"],
    ("tune",): ["--out", "--config", "--split", "--group", "--images", "--blocks", "--json", "--overwrite"],
    ("demo",): ["--out"],
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_says_what_options_and_examples_there_are(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    for option in COMMANDS[command]:
        assert option in result.stdout
    assert f"mycelia {' '.join(command)}" in result.stdout


def test_the_command_starts_without_what_is_slow_to_import() -> None:
    asked = "import sys, segmentation.cli; print(sorted({'numpy', 'torch', 'cv2', 'PIL'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_names_every_layout() -> None:
    shown = " ".join(run("index", "build", "--help").stdout.split())
    assert f"Layout of the data set: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}." in shown


def test_help_lists_every_command() -> None:
    shown = run("--help").stdout + run("index", "--help").stdout
    for command in COMMANDS:
        assert command[-1] in shown


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("mycelia ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["index", "build", "somewhere"],
        ["segment", "some.index", "--out", "masks"],
        ["search", "some.index", "photo.jpg"],
        ["search", "some.index", "photo.jpg", "--at", "12"],
        ["search", "some.index", "photo.jpg", "--at", "-1,3"],
        ["evaluate", "some.index", "data", "--protocol", "other"],
        ["evaluate", "some.index"],
        ["demo", "--unknown"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert result.stdout == ""


def test_unknown_setting_names_the_nearest(data: Path, tiny: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "features.knid=fungi", "--config", tiny, "--out", tmp_path / "x")
    assert "features.kind" in error_of(result)


def test_setting_without_value_is_explained(data: Path, tiny: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "features.kind", "--config", tiny, "--out", tmp_path / "x")
    assert "key=value" in error_of(result)


def test_missing_recipe_is_named(data: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "--out", tmp_path / "new.index", "--config", tmp_path / "none.yaml")
    assert "none.yaml" in error_of(result)


def test_missing_data_set_is_named(tiny: Path, tmp_path: Path) -> None:
    result = run("index", "build", tmp_path / "nowhere", "--config", tiny, "--out", tmp_path / "new.index")
    assert "nowhere" in error_of(result)
    assert not (tmp_path / "new.index").exists()


def test_existing_index_is_refused_before_any_work(index: Path, tmp_path: Path) -> None:
    before = (index / "manifest.json").read_bytes()
    result = run("index", "build", tmp_path / "nowhere", "--out", index)
    assert str(index) in error_of(result)
    assert (index / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("command", [["index", "info"], ["index", "verify"]], ids=" ".join)
def test_missing_index_is_named(command: list[str], tmp_path: Path) -> None:
    assert "none.index" in error_of(run(*command, tmp_path / "none.index"))


def test_build_says_what_it_made_and_what_to_do_next(data: Path, tiny: Path, tmp_path: Path) -> None:
    result = run("index", "build", data, "--config", tiny, "--out", tmp_path / "new.index")
    assert result.exit_code == 0, result.output
    assert "3 images" in result.stdout
    assert "mycelia segment" in result.stderr


def test_info_as_json_holds_the_recipe_and_the_classes(index: Path) -> None:
    result = run("index", "info", index, "--json")
    manifest = json.loads(result.stdout)
    assert manifest["recipe"]["backbone"]["model"] == "test_vit"
    assert [entry["name"] for entry in manifest["classes"]["classes"]] == ["dark", "bright"]


def test_info_for_people_names_engine_and_classes(index: Path) -> None:
    shown = run("index", "info", index).stdout
    assert "dark, bright" in shown
    assert "exact" in shown


def test_info_tells_of_the_metric(index: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    assert "\nmetric " not in run("index", "info", index).stdout
    out = tmp_path / "metric.index"
    settings = ("features.metric=class", "features.width=30", "features.shrinkage=ledoit-wolf")
    assert run("index", "build", data, "--config", tiny, "--out", out, *settings).exit_code == 0
    (line,) = [line for line in run("index", "info", out).stdout.splitlines() if line.startswith("metric ")]
    rows = read_manifest(out).counts["rows"]  # half of each photo is dark: fewer of each class than 30
    assert line.startswith("metric      class, shrinkage ") and "(ledoit-wolf), 30 of 128 numbers" in line
    assert f"fitted on {rows} patches; fewer patches than numbers" in line
    assert f"dark ({rows / 2:.0f}), bright ({rows / 2:.0f})" in line
    assert run("segment", out, data / "images" / "photo0.png", "--out", tmp_path / "masks").exit_code == 0


def test_verify_passes_and_finds_a_changed_byte(index: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(index, tmp_path / "copy.index"))
    assert run("index", "verify", copy).exit_code == 0
    victim = copy / "labels.npy"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    assert "labels.npy" in error_of(run("index", "verify", copy))


def test_results_have_to_have_a_place(index: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    photo, file = data / "images" / "photo0.png", tmp_path / "file"
    file.touch()
    assert "file is a file, but --out" in error_of(run("segment", index, photo, "--out", file))
    message = error_of(run("index", "build", data, "--config", tiny, "--out", file / "new.index"))
    assert "cannot be written" in message
    assert "cannot be written" in error_of(run("evaluate", index, data, "--json", file / "score.json"))
    result = run("evaluate", index, data, "--json", tmp_path)
    assert "--json names a file" in error_of(result)
    assert "evaluate" not in result.stderr  # before any work


def test_evaluate_shows_the_score_before_it_writes(
    monkeypatch: pytest.MonkeyPatch, index: Path, data: Path, tmp_path: Path
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(index))

    monkeypatch.setattr("segmentation.cli.evaluate.write_json", full)
    result = run("evaluate", index, data, "--json", tmp_path / "score.json")
    assert "full" in error_of(result)
    assert "mean" in result.stdout


def test_search_lists_the_votes(index: Path, data: Path, tmp_path: Path) -> None:
    photo, picture = data / "images" / "photo0.png", tmp_path / "why.png"
    result = run("search", index, photo, "--at", "10,60", "--json", "--picture", picture)
    assert result.exit_code == 0, result.output
    votes = json.loads(result.stdout)
    assert len(votes) == 3
    assert sum(vote["weight"] for vote in votes) == pytest.approx(1, abs=1e-5)
    with Image.open(picture) as shown:
        assert shown.format == "PNG"
    table = run("search", index, photo, "--at", "10,60", "--k", 1).stdout
    assert "similarity" in table
    assert votes[0]["image_id"] in table


def test_search_outside_the_photo(index: Path, data: Path) -> None:
    photo = data / "images" / "photo0.png"
    assert "48" in error_of(run("search", index, photo, "--at", "48,0"))


@pytest.fixture
def elsewhere(index: Path, tmp_path: Path) -> Path:
    """The index as one that was built on a GPU, in an older Mycelia, says of itself."""
    copy = Path(shutil.copytree(index, tmp_path / "elsewhere.index"))
    manifest = read_manifest(copy)
    runtime = {"device": "cuda:7", "precision": "float16", "batch_size": 64}
    write_manifest(copy, replace(manifest, recipe={**manifest.recipe, "runtime": runtime}))
    return copy


def test_an_index_does_not_say_where_to_run(elsewhere: Path, data: Path, tmp_path: Path) -> None:
    photo, report = data / "images" / "photo0.png", tmp_path / "report.json"
    chosen = ("runtime.device=cpu", "runtime.batch_size=2", "transfer.k=2")
    for number, settings in enumerate(((), chosen)):
        commands = (
            ("segment", elsewhere, photo, *settings, "--out", tmp_path / str(number)),
            ("search", elsewhere, photo, *settings, "--at", "10,60", "--json"),
            ("evaluate", elsewhere, data, *settings, "--json", report),
        )
        for command in commands:
            result = run(*command)
            assert result.exit_code == 0, result.output
            if command[0] == "search":
                assert len(json.loads(result.stdout)) == (2 if settings else 3)
    runtime = json.loads(report.read_text())["recipe"]["runtime"]
    assert (runtime["device"], runtime["batch_size"]) == ("cpu", 2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("runtime.device=gpu7", "runtime.device 'gpu7' should be auto, cpu, cuda, cuda:N or mps"),
        ("runtime.batch_size=0", "runtime.batch_size = 0 does not fit"),
        ("runtime.devise=cpu", "runtime.device"),
        ("features.kind=embeddings", "features.kind cannot be changed here"),
        ("rerank.candidates=9", "nothing to re-rank by"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(
    setting: str, message: str, index: Path, data: Path, tmp_path: Path
) -> None:
    photo = data / "images" / "photo0.png"
    assert message in error_of(run("segment", index, photo, setting, "--out", tmp_path / "masks"))
    assert message in error_of(run("search", index, photo, setting, "--at", "1,1"))
    assert message in error_of(run("evaluate", index, data, setting))
    assert not (tmp_path / "masks").exists()


def test_evaluate_writes_what_it_prints(index: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "report.json"
    picture = tmp_path / "confusion.png"
    options = ("--json", file, "--picture", picture, "--protocol", "hummingbird")
    result = run("evaluate", index, data, "transfer.k=2", *options)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert {"miou", "per_class", "images", "protocol", "seconds", "recipe"} <= report.keys()
    assert report["images"] == 3
    assert report["recipe"]["transfer"]["k"] == 2
    assert f"{100 * report['miou']:.1f}" in result.stdout
    assert "hummingbird" in result.stdout
    assert result.stderr.count("warning: the index was built with bank.protocol=standard") == 1
    for name in report["per_class"]:
        assert name in result.stdout


def test_evaluate_writes_a_page(index: Path, data: Path, tmp_path: Path) -> None:
    result = run("evaluate", index, data, "--report", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "page").glob("*.html"))


def test_evaluate_refuses_settings_that_are_built_in(index: Path, data: Path) -> None:
    message = error_of(run("evaluate", index, data, "features.kind=embeddings"))
    assert "features.kind" in message
    assert "transfer.*" in message


def test_interruption_and_full_disk(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(index))

    monkeypatch.setattr("retrieval.folder.verify_folder", interrupted)
    result = run("index", "verify", index)
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr
    monkeypatch.setattr("retrieval.folder.verify_folder", full)
    assert "full" in error_of(run("index", "verify", index))


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("retrieval.folder.verify_folder", broken)
    assert isinstance(run("index", "verify", index).exception, ZeroDivisionError)


def test_positions() -> None:
    assert parse_position("120,300") == (120, 300)
    assert parse_position(" 0 , 7 ") == (0, 7)


def test_overrides_of_allowed_sections() -> None:
    check_overrides(["transfer.k=3", "runtime.device=cpu"], sections=("transfer", "runtime"))
    with pytest.raises(ConfigError, match="seed"):
        check_overrides(["seed=3"], sections=("transfer", "runtime"))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1234567, "1.2 MB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_info_tells_how_far_a_memory_is_from_what_its_metric_saw(
    data: Path, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "metric.index"
    settings = ("features.metric=class", "features.width=30", "bank.epochs=2")
    run("index", "build", data, "--config", tiny, "--out", out, *settings)

    def metric() -> str:
        shown = run("index", "info", out).stdout.splitlines()
        return next(line for line in shown if line.startswith("metric "))

    assert "fitted on" in metric() and "after that" not in metric() and "gone" not in metric()
    before = read_manifest(out).counts["rows"]
    record = replace(read_images(out)[0], id="new", sha256="0" * 64)
    vectors = np.eye(30, dtype=np.float32)[:8]
    labels = np.full((8, 2), 100, dtype=np.uint8)
    add_images(out, [NewImage(record, vectors, labels, np.zeros((8, 2), dtype=np.int32))])
    share = 100 * 8 / (before + 8)
    assert f"; 8 of {before + 8} patches ({share:.1f}%) were added after that (building again" in metric()
    remove_images(out, ["photo1"])
    assert "were added after that and 1 image that it saw is gone (building again fits it anew)" in metric()
    remove_images(out, ["photo2", "new"])
    assert "added" not in metric() and "; 2 images that it saw are gone (building" in metric()


def test_info_names_all_blocks_that_are_joined(index: Path, data: Path, tiny: Path, tmp_path: Path) -> None:
    assert ", block -1\n" in run("index", "info", index).stdout
    out = tmp_path / "joined.index"
    run("index", "build", data, "--config", tiny, "--out", out, "backbone.blocks=[2,-1]")
    assert ", blocks 2, -1\n" in run("index", "info", out).stdout
