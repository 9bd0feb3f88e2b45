"""``mycelia similar``: lists, sheets, doubts about the memory, and what does not go together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ..classification.toy import build_memory, install_toy, photo, save, write_memory
from .command import error_of, run


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    install_toy(monkeypatch)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Four photos a class, a copy of one under another class, and a sea that is called rose."""
    images = write_memory(tmp_path / "memory")
    copy = Path(shutil.copy(images[0][0], tmp_path / "copy.png"))
    lie = save(tmp_path / "lie.png", photo("sea", 77))
    return build_memory(tmp_path / "toy.index", [*images, (copy, ("leaf",)), (lie, ("rose",))])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "photo.png", photo("leaf", 80))


def test_similar_images_are_listed(memory: Path, image: Path) -> None:
    result = run("similar", memory, image, "--count", 3)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("leaf") >= 3 and "similarity" in result.stdout
    assert f"{image}: leaf, " in result.stderr
    listed = json.loads(run("similar", memory, image, "--count", 3, "--json", "transfer.k=2").stdout)
    assert len(listed) == 3
    assert set(listed[0]) == {
        "image_id",
        "image_path",
        "number",
        "classes",
        "similarity",
        "thumbnail",
        "excerpt",
    }
    assert Path(listed[0]["thumbnail"]).is_file()


def test_a_sheet_is_written(memory: Path, image: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "new" / "sheet.png"
    result = run("similar", memory, image, "--picture", sheet)
    assert result.exit_code == 0 and f"picture: {sheet}" in result.stderr
    with Image.open(sheet) as picture:
        assert picture.format == "PNG" and picture.width > 1000
    assert "will be replaced" in run("similar", memory, image, "--picture", sheet).stderr
    before = image.read_bytes()
    assert "is the photo itself" in error_of(run("similar", memory, image, "--picture", image))
    assert image.read_bytes() == before


def test_doubts_about_the_memory(memory: Path) -> None:
    pairs = run("similar", memory, "--duplicates", "--above", "0.9999")
    assert pairs.exit_code == 0 and "copy" in pairs.stdout and "(differs)" in pairs.stdout
    doubts = run("similar", memory, "--suspicious")
    assert doubts.exit_code == 0 and "lie" in doubts.stdout
    assert "with a label that the others deny" in doubts.stderr
    both = json.loads(run("similar", memory, "--duplicates", "--suspicious", "--json").stdout)
    assert any(pair["same_file"] and pair["labels_differ"] for pair in both["duplicates"])
    assert {doubt["image"]["image_id"] for doubt in both["suspicious"]} == {"lie", "copy"}
    nothing = run("similar", memory, "--suspicious", "transfer.temperature=100")
    assert nothing.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got none"),
        (["a.png", "b.png"], "got 2"),
        (["a.png", "--duplicates"], "takes no photo"),
        (["--suspicious", "--picture", "x.png"], "not of --suspicious"),
        (["a.png", "--above", "0.9"], "belongs to --duplicates"),
        (["--duplicates", "--above", "2"], "below 1 is expected"),
    ],
)
def test_arguments_that_do_not_go_together(memory: Path, arguments: list[str], said: str) -> None:
    result = run("similar", memory, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())


def test_bad_photos_and_indexes_of_patches(memory: Path, tmp_path: Path, image: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert "bad.png" in error_of(run("similar", memory, tmp_path / "bad.png"))
    assert "none.png" in error_of(run("similar", memory, tmp_path / "none.png"))
    patches = build_memory(tmp_path / "p", write_memory(tmp_path / "m"), level="patch")
    for arguments in ([image], ["--duplicates"]):
        assert "mycelia segment" in error_of(run("similar", patches, *arguments))
    assert "only transfer.*" in error_of(run("similar", memory, image, "index.engine=exact"))
