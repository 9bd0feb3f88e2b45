"""``mycelia inspect`` and ``mycelia classes`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command import error_of, run, write_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", count=5)


def test_inspect_says_what_is_there(photos: Path, tiny: Path) -> None:
    result = run("inspect", photos, "--config", tiny)
    assert result.exit_code == 0, result.output
    for text in (
        "5, each with a mask",
        "48 x 70 (height x width), all images",
        "dark",
        "bright",
        "50.0",
        "nothing odd",
    ):
        assert text in result.stdout
    assert "from 5 of 5 masks" in result.stdout


def test_a_sample_is_said(photos: Path, tiny: Path) -> None:
    assert "from 2 of 5 masks" in run("inspect", photos, "--config", tiny, "--sample", 2).stdout


def test_inspect_goes_on_where_a_build_stops(photos: Path, tiny: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 70), 9, dtype=np.uint8)).save(photos / "masks" / "photo1.png")
    build = run("index", "build", photos, "--config", tiny, "--out", tmp_path / "x.index")
    reason = error_of(build).removeprefix("error: ")
    result = run("inspect", photos, "--config", tiny)
    assert result.exit_code == 0
    assert reason.split("; ")[0] in " ".join(result.stdout.split())


def test_inspect_compares_the_recipe_s_size(photos: Path, tiny: Path) -> None:
    for path in (photos / "images").iterdir():
        Image.open(path).resize((840, 120)).save(path)
        mask = photos / "masks" / path.name
        Image.open(mask).resize((840, 120), Image.Resampling.NEAREST).save(mask)
    advice = json.loads(run("inspect", photos, "--config", tiny, "--json").stdout)["image_size"]
    assert (advice["size"], advice["suits"]) == ([64, 64], False)
    assert advice["better"][1] == pytest.approx(7 * advice["better"][0], rel=0.2)
    squashed = run("inspect", photos, "--config", tiny).stdout
    assert "7.0 times narrower" in squashed and "try image.size=[" in squashed
    assert "suits the images" in run("inspect", photos, "-c", tiny, "image.size=[112,784]").stdout


def test_inspect_as_json(photos: Path, tiny: Path) -> None:
    (photos / "images" / "a.mov").write_bytes(b"?")
    data = json.loads(run("inspect", photos, "--config", tiny, "--json").stdout)
    assert (data["images"], data["masks_read"], data["left_out"]) == (5, 5, {".mov": 1})
    assert [item["name"] for item in data["classes"]] == ["dark", "bright"]
    assert data["shapes"]["common"] == [{"size": [48, 70], "images": 5}]


def test_inspect_draws_a_sheet(photos: Path, tiny: Path, tmp_path: Path) -> None:
    (photos / "masks" / "photo0.png").write_bytes(b"broken")
    (photos / "images" / "photo1.png").write_bytes(b"broken")
    sheet = tmp_path / "deep" / "sheet.png"
    assert run("inspect", photos, "--config", tiny, "--picture", sheet).exit_code == 0
    with Image.open(sheet) as image:
        assert image.width == 1600 and image.height > 300


def test_a_picture_needs_a_place(photos: Path, tiny: Path, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    assert "names a file" in error_of(run("inspect", photos, "-c", tiny, "--picture", tmp_path))
    assert str(taken) in error_of(run("inspect", photos, "-c", tiny, "--picture", taken / "x" / "a.png"))


def test_inspect_refuses_what_is_no_data_set(tmp_path: Path, tiny: Path) -> None:
    assert "has no layout that is known" in error_of(run("inspect", tmp_path, "--config", tiny))


def test_classes_lists_and_writes(photos: Path) -> None:
    (photos / "classes.json").unlink()
    for path in (photos / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.stack([250 * mask, 50 * mask, 83 * mask], axis=2)).save(path)
    listed = run("classes", photos)
    assert listed.exit_code == 0 and "250, 50, 83" in listed.stdout and "50" in listed.stdout
    assert not (photos / "classes.json").exists()
    assert "--write" in listed.stderr
    written = run("classes", photos, "--write")
    assert written.exit_code == 0
    data = json.loads((photos / "classes.json").read_text())
    assert data["classes"][1] == {"id": 1, "name": "class_1", "color": [250, 50, 83]}
    assert "is there already" in error_of(run("classes", photos, "--write"))
    again = json.loads(run("classes", photos, "--json").stdout)
    assert again["template"] == data and again["refusal"] == ""


def test_classes_lists_noise_apart(photos: Path) -> None:
    mask = np.zeros((48, 70, 3), dtype=np.uint8)
    mask[0, :40, 0] = np.arange(1, 41)
    mask[20:] = (0, 200, 0)
    Image.fromarray(mask).save(photos / "masks" / "photo0.png")
    for path in (photos / "masks").iterdir():
        Image.open(path).convert("RGB").save(path)
    text = " ".join(run("classes", photos).stdout.split())
    assert "left out as probable noise" in text and "colours" in text


def test_folders_of_any_name_are_named(photos: Path, tiny: Path) -> None:
    (photos / "images").rename(photos / "first")
    (photos / "masks").rename(photos / "second")
    named = ("--images", "first", "--masks", "second")
    assert "--images" in error_of(run("inspect", photos, "--config", tiny))
    looked = run("inspect", photos, "--config", tiny, *named)
    assert looked.exit_code == 0 and "5, each with a mask" in looked.stdout
    (photos / "classes.json").unlink()
    written = run("classes", photos, *named, "--write")
    assert written.exit_code == 0 and (photos / "classes.json").is_file()
    wrong = run("inspect", photos, "--config", tiny, "--images", "first", "--masks", "third")
    assert "third" in error_of(wrong) and "first, second" in error_of(wrong)


def test_choices_in_reading_are_said(photos: Path, tiny: Path) -> None:
    (photos / "images").rename(photos / "img")
    (photos / "masks").rename(photos / "ann")
    assert "img/ with ann/" in run("inspect", photos, "--config", tiny).stdout
