"""Names outside the terminal's encoding, photos over the limit, and what is said of many files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command import TINY, error_of, run, write_photos

MAIN = "from segmentation.cli import main; main()"
NAMES = ("道路", "Straße", "طريق", "😀")


def run_apart(*arguments: object, encoding: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, whose terminal has this encoding."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos and classes whose names no old encoding has, and an index of them beside."""
    root = tmp_path_factory.mktemp("names")
    data = write_photos(root / "données", count=4)
    for number, name in enumerate(NAMES):
        for part in ("images", "masks"):
            (data / part / f"photo{number}.png").rename(data / part / f"{name}.png")
    classes = {"classes": [{"id": 0, "name": "沥青"}, {"id": 1, "name": "Gehweg ß 😀"}], "ignore": [255]}
    (data / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    (root / "tiny.yaml").write_text(TINY)
    result = run("index", "build", data, "--config", root / "tiny.yaml", "--out", root / "i")
    assert result.exit_code == 0, result.output
    return root


def test_no_name_ends_a_run(named: Path, tmp_path: Path) -> None:
    data, encoding = named / "données", "cp1252"
    done = run_apart("segment", named / "i", data / "images", "--out", tmp_path / "m", encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 4 and b"\\u9053\\u8def.png" in done.stdout
    assert sorted(path.stem for path in (tmp_path / "m").iterdir()) == sorted(NAMES)
    done = run_apart("evaluate", named / "i", data, "--json", tmp_path / "r.json", encoding="ascii")
    assert done.returncode == 0, done.stderr
    assert "沥青" in json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["per_class"]


@pytest.mark.parametrize("encoding", ["cp1252"])
def test_json_on_stdout_is_json_in_every_encoding(named: Path, tmp_path: Path, encoding: str) -> None:
    photos = named / "données" / "images"
    done = run_apart("segment", named / "i", photos, "--out", tmp_path / "m", "--json", encoding=encoding)
    entries = json.loads(done.stdout.decode(encoding))
    assert {Path(entry["image"]).stem for entry in entries} == set(NAMES)


def test_an_error_names_the_file_in_any_encoding(named: Path, tmp_path: Path) -> None:
    bad = tmp_path / "坏😀.png"
    bad.write_bytes(b"no image")
    done = run_apart("segment", named / "i", bad, "--out", tmp_path / "m", encoding="ascii")
    assert done.returncode == 1
    assert b"error: image " in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="names that are no text exist on POSIX alone")
def test_a_name_that_is_no_text(named: Path, tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        for part in ("images", "masks"):
            (data / part / "photo0.png").rename(data / part / odd)
    except OSError:
        pytest.skip("the file system wants names that are text")
    recipe, out = named / "tiny.yaml", tmp_path / "i"
    assert run("index", "build", data, "--config", recipe, "--out", out).exit_code == 0
    done = run_apart("segment", out, data / "images", "--out", tmp_path / "m", encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert b"caf\\udce9.png" in done.stdout
    result = run("evaluate", out, data, "--json", tmp_path / "r.json", "--report", tmp_path / "page")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["images"] == 3


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos of 300 x 400 are over the limit, but not over twice the limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 110_000)


@pytest.mark.usefixtures("large")
def test_photos_over_the_limit_are_allowed_by_an_option(named: Path, tmp_path: Path) -> None:
    data, recipe = write_photos(tmp_path / "data", size=(300, 400)), named / "tiny.yaml"
    photo = data / "images" / "photo0.png"
    commands = [
        ("index", "build", data, "--config", recipe, "--out", tmp_path / "i"),
        ("segment", named / "i", photo, "--out", tmp_path / "m"),
        ("search", named / "i", photo, "--at", "3,4"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for command in commands:
            error = error_of(run(*command))
            assert "photo0.png has more than 110000 pixels" in error
            assert "--max-pixels 120000, which takes about 0.0 GB of memory" in error
            result = run(*command, "--max-pixels", 120_000)
            assert result.exit_code == 0, result.output
            assert "photos of up to 120,000 pixels are allowed; one of that size takes" in result.stderr
            assert Image.MAX_IMAGE_PIXELS == 110_000
        assert "more than 110000 pixels" in error_of(run("evaluate", tmp_path / "i", data))
        assert run("evaluate", tmp_path / "i", data, "--max-pixels", 150_000).exit_code == 0


def test_no_raw_warning_of_a_large_photo(named: Path, tmp_path: Path) -> None:
    """In a process of its own, where Python would print its warning."""
    code = f"from PIL import Image; Image.MAX_IMAGE_PIXELS = 3000; {MAIN}"
    command = ["segment", named / "i", named / "données" / "images", "--out", tmp_path / "m"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, timeout=300)
    assert done.returncode == 1
    assert b"Warning" not in done.stderr and b"--max-pixels 3360" in done.stderr


def test_what_is_true_of_many_files_is_shortened(named: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        deep = np.full((20, 30), 100 + number, np.uint16)
        Image.fromarray(deep * 16).save(photos / f"{number}.png")
    result = run("segment", named / "i", photos, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("uses 12 of its 16 bits") == 6
    assert "3 more such messages, like: image " in result.stderr


def test_an_old_deep_photo_looks_as_the_plain_one(named: Path, tmp_path: Path) -> None:
    plain = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    plain[0, 0] = 255
    Image.fromarray(plain).save(tmp_path / "plain.png")
    Image.fromarray(plain.astype(np.uint16) * 16 + plain // 16).save(tmp_path / "deep.png")
    result = run("segment", named / "i", tmp_path / "plain.png", tmp_path / "deep.png", "--out", tmp_path)
    assert result.exit_code == 1  # the masks would replace the photos
    result = run(
        "segment", named / "i", tmp_path / "plain.png", tmp_path / "deep.png", "--out", tmp_path / "m"
    )
    assert result.exit_code == 0, result.output
    masks = [np.array(Image.open(tmp_path / "m" / f"{name}.png")) for name in ("plain", "deep")]
    np.testing.assert_array_equal(*masks)


def test_a_long_photo_is_named_once_with_a_size(named: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(np.zeros((32, 400, 3), np.uint8)).save(photos / f"{number}.png")
    result = run("segment", named / "i", photos, "--out", tmp_path / "m")
    said = [line for line in result.stderr.splitlines() if "much longer or wider" in line]
    assert len(said) == 1
    assert "32 x 400" in said[0] and said[0].endswith("with image.size=[32,400]")


def test_build_says_what_auto_chose(named: Path, tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data", size=(32, 400))
    auto = ["image.size=auto", "image.auto_size=[64,64]"]
    result = run("index", "build", data, *auto, "--config", named / "tiny.yaml", "--out", tmp_path / "i")
    assert result.exit_code == 0, result.output
    assert "image.size: auto takes [32,400]: the images' median shape is 32 x 400" in result.stderr
    assert "32 x 400" in run("index", "info", tmp_path / "i").stdout
    result = run("index", "build", data, "--config", named / "tiny.yaml", "--out", tmp_path / "j")
    assert "try image.size=[32,400] or image.size=auto" in result.stderr


def test_json_counts_pixels_and_masks_sort_by_them(named: Path, tmp_path: Path) -> None:
    photos = named / "données" / "images"
    result = run("segment", named / "i", photos, "--out", tmp_path / "m", "--json")
    for entry in json.loads(result.stdout):
        mask = np.array(Image.open(entry["mask"]))
        names = ("沥青", "Gehweg ß 😀")
        expected = {name: int((mask == id).sum()) for id, name in enumerate(names) if (mask == id).any()}
        assert entry["pixels"] == expected
        assert entry["classes"] == pytest.approx({k: v / mask.size for k, v in expected.items()}, abs=1e-6)


def test_paint_background(tmp_path: Path, named: Path) -> None:
    data = write_photos(tmp_path / "data")
    classes = {
        "classes": [{"id": 0, "name": "Background", "color": [0, 200, 0]}, {"id": 1, "name": "bright"}]
    }
    (data / "classes.json").write_text(json.dumps(classes))
    assert (
        run("index", "build", data, "--config", named / "tiny.yaml", "--out", tmp_path / "i").exit_code == 0
    )
    pictures = {}
    for name, options in {"plain": [], "painted": ["--paint-background"]}.items():
        out = tmp_path / name
        photo = data / "images" / "photo0.png"
        assert run("segment", tmp_path / "i", photo, "--out", out, "--overlay", *options).exit_code == 0
        pictures[name] = np.array(Image.open(out / "photo0.overlay.jpg")).astype(int)[:48]
    mask = np.array(Image.open(tmp_path / "plain" / "photo0.png")) == 0
    assert mask.any()
    left = (pictures["painted"].shape[1] - mask.shape[1]) // 2
    green = {
        name: picture[:, left : left + mask.shape[1], 1][mask].mean() for name, picture in pictures.items()
    }
    assert green["painted"] > green["plain"] + 40
