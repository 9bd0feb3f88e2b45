"""Texts and recordings from files to answers, with tiny random encoders."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .command import error_of, run

MakeEncoder = Callable[..., Path]

ROWS = [
    ("where is my card", "card"),
    ("my card is late", "card"),
    ("card arrived late please help", "card"),
    ("rain and wind", "weather"),
    ("sun and sea", "weather"),
    ("cloud wind rain sun", "weather"),
]
SMALL = ("features.projection_width=24", "transfer.k=2", "runtime.device=cpu", "objective.kind=kl")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, rows in (("train", ROWS), ("val", ROWS[:1] + ROWS[3:4])):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    return folder


@pytest.fixture
def text_index(texts: Path, text_encoder: MakeEncoder, tmp_path: Path) -> Path:
    out = tmp_path / "texts.index"
    settings = ["backbone.kind=text", f"backbone.model={text_encoder()}", "backbone.weights=random", *SMALL]
    result = run(
        "index", "build", texts, "--split", "train", "--out", out, "--config", "text.yaml", *settings
    )
    assert result.exit_code == 0, result.output
    assert "6 texts" in result.stdout and "--text" in result.stderr
    return out


def test_texts_are_classified(text_index: Path, texts: Path, tmp_path: Path) -> None:
    result = run("classify", text_index, "--text", ROWS[0][0], "--text", ROWS[3][0], "--top", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].startswith("where is my card: card")
    (tmp_path / "a.txt").write_text("sun and sea")
    (tmp_path / "new.jsonl").write_text('{"text": "my card is late"}\n{"text": "rain and wind"}\n')
    table, found = tmp_path / "out.csv", tmp_path / "out.json"
    result = run(
        "classify", text_index, tmp_path / "a.txt", tmp_path / "new.jsonl", "--csv", table, "--json", found
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(table.read_text().splitlines()))
    assert rows[0][:2] == ["text", "class1"]
    assert [row[1] for row in rows[1:]] == ["weather", "card", "weather"]
    assert [entry["text"] for entry in json.loads(found.read_text())["texts"]] == [row[0] for row in rows[1:]]


def test_texts_are_scored_and_left_out(text_index: Path, texts: Path) -> None:
    result = run("evaluate", text_index, texts, "--split", "val")
    assert result.exit_code == 0 and "top-1 100.0" in result.stdout
    left = run("evaluate", text_index, texts, "--split", "train", "--leave-out")
    assert (left.exit_code == 0 and "6 images" in left.stdout + left.stderr) or "top-1" in left.stdout


def test_similar_texts_are_shown(text_index: Path) -> None:
    result = run("similar", text_index, "--text", "where is my card", "--count", 1, "--json")
    (match,) = json.loads(result.stdout)
    assert match["excerpt"] == "where is my card" and match["thumbnail"] is None
    assert "where is my card" in run("similar", text_index, "--text", "where is my card").stdout
    assert run("similar", text_index, "--duplicates").exit_code == 0


def test_an_empty_text_in_a_table(text_index: Path, texts: Path, tmp_path: Path) -> None:
    (texts / "val.csv").write_text('text,label\n"",card\nrain,weather\n')
    result = run("evaluate", text_index, texts, "--split", "val")
    assert "val.csv, line 2: the text has no word" in error_of(result)
    result = run("evaluate", text_index, texts, "--split", "val", "--skip-bad")
    assert result.exit_code == 0 and "val:2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--text", ""], "the text has no word"),
        (["nowhere.txt"], "there is no text or folder at nowhere.txt"),
        (["--text", "a", "--sort-into", "sorted"], "is none of its own"),
    ],
)
def test_what_texts_cannot_be_asked(
    text_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in error_of(run("classify", text_index, *arguments))


def test_a_picture_of_texts_is_refused(text_index: Path) -> None:
    result = run("similar", text_index, "--text", "a", "--picture", "x.png")
    assert "texts are listed" in error_of(result)


def test_a_recipe_of_another_kind(texts: Path, tmp_path: Path) -> None:
    result = run(
        "index", "build", texts, "--split", "train", "--out", tmp_path / "x", "--config", "offline.yaml"
    )
    assert "holds texts, but backbone.kind=image sees images" in error_of(result)


def test_recordings_from_files_to_answers(tones: Path, sound_encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "tones.index"
    settings = [f"backbone.model={sound_encoder}", "backbone.weights=random", "features.pool=mean", *SMALL]
    result = run(
        "index", "build", tones, "--split", "train", "--out", out, "--config", "audio.yaml", *settings
    )
    assert result.exit_code == 0, result.output
    assert "8 recordings" in result.stdout
    result = run("evaluate", out, tones, "--split", "val")
    assert "top-1 100.0" in result.stdout
    sheet = tmp_path / "sheet.png"
    result = run("similar", out, tones / "val" / "low" / "0.wav", "--picture", sheet, "--count", 2)
    assert result.exit_code == 0 and sheet.is_file()
    result = run("classify", out, tones / "val", "--sort-into", tmp_path / "sorted", "--top", 1)
    assert result.exit_code == 0 and (tmp_path / "sorted" / "high" / "high" / "1.wav").is_file()
    assert "--text asks an index of texts" in error_of(run("classify", out, "--text", "x"))


def test_a_silent_recording_is_skipped_on_request(tones: Path, sound_encoder: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tones / "train" / "low" / "9.wav", [0.0] * 8000, 16000)
    settings = [f"backbone.model={sound_encoder}", "backbone.weights=random", *SMALL]
    command = ["index", "build", tones, "--split", "train", "--config", "audio.yaml", *settings]
    assert "9.wav is silent" in error_of(run(*command, "--out", tmp_path / "a"))
    result = run(*command, "--out", tmp_path / "b", "--skip-bad")
    assert result.exit_code == 0 and "8 recordings" in result.stdout


def test_a_look_at_texts_and_recordings(texts: Path, tones: Path) -> None:
    (texts / "train.csv").write_text(
        'text,label\nrain,weather\nrain,card\n"",card\nsun,weather\nsun,weather\n'
    )
    result = run("inspect", texts, "--config", "text.yaml")
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "texts 7, each labelled as a whole" in said and "words 1 to 4" in said
    assert "train:3 is the text of train:2 with another class" in said
    assert "line 4) has no word" in said and "train:6 is the same text as train:5" in said
    assert "image.size" not in said
    data = json.loads(run("inspect", texts, "--config", "text.yaml", "--json").stdout)
    assert (data["kind"], data["images"], data["splits"]) == ("text", 7, {"train": 5, "val": 2})
    result = run("inspect", tones, "--config", "audio.yaml")
    assert "recordings 12, each labelled as a whole" in " ".join(result.stdout.split())
