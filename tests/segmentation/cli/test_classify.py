"""``mycelia classify``: what is printed and written, where photos are sorted, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from retrieval.errors import ConfigError
from segmentation.cli.classify import class_folders

from ..classification.toy import build_memory, install_toy, photo, save, write_memory
from .command import error_of, run


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy(monkeypatch)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return build_memory(tmp_path / "toy.index", write_memory(tmp_path / "memory"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    save(folder / "a.png", photo("rose", 60))
    save(folder / "deep" / "a.png", photo("sea", 61))
    save(folder / "deep" / "b.jpg", photo("leaf", 62))
    return folder


def test_a_line_for_each_photo_and_files(memory: Path, photos: Path, tmp_path: Path) -> None:
    table, data = tmp_path / "out" / "t.csv", tmp_path / "out" / "r.json"
    result = run("classify", memory, photos, "--top", 2, "--csv", table, "--json", data, "transfer.k=12")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(photos / n) for n in ("a.png", "deep/a.png", "deep/b.jpg")
    ]
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == ["rose", "sea", "leaf"]
    assert "classified 3 images" in result.stderr
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class1"] for row in rows] == ["rose", "sea", "leaf"]
    assert list(rows[0]) == ["image", "class1", "share1", "class2", "share2"]
    entries = json.loads(data.read_text())["images"]
    assert [entry["class"] for entry in entries] == ["rose", "sea", "leaf"]
    assert len(entries[0]["classes"]) == 2 and entries[0]["sorted"] is None
    again = run("classify", memory, photos, "--csv", table)
    assert again.exit_code == 0 and f"{table} is there already and will be replaced" in again.stderr


@pytest.mark.parametrize("link", [False, True])
def test_photos_are_sorted_into_folders_of_their_classes(
    memory: Path, photos: Path, tmp_path: Path, link: bool
) -> None:
    out = tmp_path / "sorted"
    result = run("classify", memory, photos, "--sort-into", out, *(["--link"] if link else []))
    assert result.exit_code == 0, result.output
    placed = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert placed == {"rose/a.png", "sea/deep/a.png", "leaf/deep/b.jpg"}
    assert (out / "rose" / "a.png").is_symlink() == link
    assert (out / "rose" / "a.png").read_bytes() == (photos / "a.png").read_bytes()
    assert (photos / "a.png").is_file()
    refused = error_of(run("classify", memory, photos, "--sort-into", out))
    assert f"{out} is not empty; choose a new or empty folder" in refused


def test_places_that_would_lose_something_are_refused(memory: Path, photos: Path, tmp_path: Path) -> None:
    twin = save(tmp_path / "other" / "a.png", photo("sea", 1))
    error = error_of(run("classify", memory, photos, twin, "--sort-into", tmp_path / "out"))
    assert "would both be a.png" in error and not (tmp_path / "out").exists()
    image = photos / "a.png"
    assert "is one of the files" in error_of(run("classify", memory, image, "--csv", image))
    assert "is a folder" in error_of(run("classify", memory, image, "--json", photos))
    assert "is a file" in error_of(run("classify", memory, image, "--sort-into", image))
    same = error_of(run("classify", memory, image, "--json", tmp_path / "x", "--csv", tmp_path / "x"))
    assert "two names" in same


def test_wrong_arguments_get_a_sentence(memory: Path, photos: Path, tmp_path: Path) -> None:
    assert run("classify", memory, "transfer.k=3").exit_code == 2
    linked = run("classify", memory, photos, "--link")
    assert linked.exit_code == 2 and "--sort-into" in linked.stderr
    assert "only transfer.*, runtime.*" in error_of(run("classify", memory, photos, "image.size=[8,8]"))
    assert "there is no image or folder at" in error_of(run("classify", memory, photos / "none.png"))
    patches = build_memory(tmp_path / "p", write_memory(tmp_path / "m"), level="patch")
    error = error_of(run("classify", patches, photos))
    assert "index of patches" in error and "mycelia segment" in error
    assert "Examples:" in run("classify", "--help").stdout


def test_bad_photos_are_passed_over_only_when_told(memory: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes(b"no image")
    assert "a.png" in error_of(run("classify", memory, photos))
    data = tmp_path / "r.json"
    result = run("classify", memory, photos, "--skip-bad", "--json", data)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert "skipped 1 bad image" in result.stderr
    assert list(json.loads(data.read_text())["skipped"]) == [str(photos / "a.png")]


def test_names_of_classes_become_names_of_folders() -> None:
    assert class_folders(["a/b", "..", "c d", "日本"]) == {
        "a/b": "a_b",
        "..": "_",
        "c d": "c d",
        "日本": "日本",
    }
    with pytest.raises(ConfigError, match="would share the folder"):
        class_folders(["a/b", "A_b"])
