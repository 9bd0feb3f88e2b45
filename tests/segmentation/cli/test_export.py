"""``mycelia segment --export``: what lies beside the masks, what is refused, what a stopped run leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from segmentation.export import FORMATS

from .command import error_of, run


def test_every_format_lies_beside_the_masks(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    every = ",".join(format.name for format in FORMATS)
    result = run("segment", index, photo, "--out", tmp_path, "--export", every, "--json")
    assert result.exit_code == 0, result.output
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "photo0.png",
        "coco.json",
        "coco-rle.json",
        "photo0.json",
        "cvat.xml",
        "label-studio.json",
        "label-studio.xml",
        "label-studio-polygons.json",
        "label-studio-polygons.xml",
        "yolo/data.yaml",
        "yolo/labels/photo0.txt",
        "photo0.geojson",
    }
    (entry,) = json.loads(result.stdout)
    names = ("photo0.json", "yolo/labels/photo0.txt", "photo0.geojson")
    assert entry["exports"] == [str(tmp_path / name) for name in names]
    assert f"exported {tmp_path / 'coco.json'}" in result.stderr


def test_coco_has_the_masks_of_all_photos(index: Path, data: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for place in ("a/one.png", "two.png"):
        (photos / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "images" / "photo0.png", photos / place)
    out = tmp_path / "out"
    result = run(
        "segment", index, photos, "--out", out, "--export", "coco", "--export", "labelme",
        "--export-classes", "all",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    coco = COCO(out / "coco.json")
    assert sorted(image["file_name"] for image in coco.dataset["images"]) == ["a/one.png", "two.png"]
    for image in coco.dataset["images"]:
        with Image.open((out / image["file_name"]).with_suffix(".png")) as picture:
            mask = np.asarray(picture)
        back = np.full(mask.shape, 255)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            back[coco.annToMask(annotation) == 1] = annotation["category_id"]
        assert np.array_equal(back, mask)


def test_label_studio_asks_for_photos_from_the_name_of_their_folder_on(
    index: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Fotos 1" / "a").mkdir(parents=True)
    shutil.copy(data / "images" / "photo0.png", tmp_path / "Fotos 1" / "a" / "ä.png")
    monkeypatch.chdir(tmp_path / "Fotos 1")
    here, there = "Fotos%201/a/%C3%A4.png", "a/%C3%A4.png"
    given = {".": here, "a/..": here, "a": there, "a/ä.png": there, tmp_path / "Fotos 1": here}
    for number, (photos, name) in enumerate(given.items()):
        out = tmp_path / str(number)
        assert run("segment", index, photos, "--out", out, "--export", "label-studio").exit_code == 0
        (task,) = json.loads((out / "label-studio.json").read_text())
        assert task["data"]["image"] == f"/data/local-files/?d={name}"


def test_photos_are_exported_upright(index: Path, data: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    with Image.open(data / "images" / "photo0.png") as photo:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by a quarter
        photo.convert("RGB").save(turned, exif=exif)
    result = run("segment", index, turned, "--out", tmp_path / "m", "--export", "labelme,coco")
    assert result.exit_code == 0, result.output
    shapes = json.loads((tmp_path / "m" / "turned.json").read_text())
    assert (shapes["imageHeight"], shapes["imageWidth"]) == (70, 48)
    assert shapes["imagePath"] == "../turned.jpg"
    (image,) = json.loads((tmp_path / "m" / "coco.json").read_text())["images"]
    assert (image["file_name"], image["height"], image["width"]) == ("turned.jpg", 70, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--export", "cococo"),
            "unknown export format 'cococo'; choose of png, coco, coco-rle, labelme, cvat",
        ),
        (("--export-classes", "left"), "--export-classes is about exports; name a format too"),
        (("--tolerance", "1"), "--tolerance is about exports; name a format too"),
        (
            ("--export", "coco", "--export-classes", "none"),
            "--export-classes names 'none', which is no class",
        ),
    ],
)
def test_bad_options_are_one_sentence(
    index: Path, data: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    photo = data / "images" / "photo0.png"
    assert message in error_of(run("segment", index, photo, "--out", tmp_path / "m", *options))
    assert not (tmp_path / "m").exists()


def test_exports_are_overwritten_only_when_told(index: Path, data: Path, tmp_path: Path) -> None:
    photo = data / "images" / "photo0.png"
    for name, format in (("coco.json", "coco"), ("photo0.json", "labelme"), ("yolo/data.yaml", "yolo")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        command = ("segment", index, photo, "--out", tmp_path, "--export", format)
        assert f"{tmp_path / name} exists already" in error_of(run(*command))
        assert (tmp_path / name).read_text() == "mine"
        assert run(*command, "--overwrite").exit_code == 0
        assert (tmp_path / name).read_text() != "mine"
        (tmp_path / "photo0.png").unlink()


def test_a_photo_named_like_the_file_of_a_run_is_refused(index: Path, data: Path, tmp_path: Path) -> None:
    photo = shutil.copy(data / "images" / "photo0.png", tmp_path / "coco.png")
    error = error_of(run("segment", index, photo, "--out", tmp_path / "m", "--export", "coco,labelme"))
    assert "coco.png and --export would both be written to" in error


def test_a_stopped_run_is_taken_up(index: Path, data: Path, tmp_path: Path) -> None:
    photos = Path(shutil.copytree(data / "images", tmp_path / "photos"))
    good, bad = photos / "photo0.png", photos / "photo1.png"
    whole = bad.read_bytes()
    bad.write_bytes(b"no image")
    command = ("--out", tmp_path / "m", "--export", "coco", "runtime.batch_size=1")
    result = run("segment", index, good, bad, *command)
    assert "photo1.png" in error_of(result)
    assert f"{tmp_path / 'm' / 'coco.json.lines'} keeps what is done" in result.stderr
    bad.write_bytes(whole)
    assert run("segment", index, bad, *command).exit_code == 0
    images = json.loads((tmp_path / "m" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["photo0.png", "photo1.png"]
    assert not (tmp_path / "m" / "coco.json.lines").exists()


def test_a_run_that_goes_on_has_all_photos_in_its_file(index: Path, data: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "m"
    shutil.copytree(data / "images", photos)
    asked = ["segment", index, photos, "--out", out, "--export", "coco", "--resume"]

    def exported() -> list[str]:
        return sorted(image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"])

    first = run("segment", index, photos / "photo0.png", "--out", out)  # of which no record is left
    assert first.exit_code == 0, first.output
    for _ in range(2):  # the second time nothing is missing
        result = run(*asked)
        assert result.exit_code == 0, result.output
        assert exported() == ["photo0.png", "photo1.png", "photo2.png"]
    assert "kept the files of 3 images" in result.stderr and "segmented 0 images" in result.stderr
    shutil.copy(photos / "photo0.png", photos / "photo3.png")
    assert run(*asked).exit_code == 0
    assert exported() == ["photo0.png", "photo1.png", "photo2.png", "photo3.png"]
