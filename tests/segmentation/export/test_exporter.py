"""Formats and classes by name, and what a run that is stopped leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, MissingExtraError
from segmentation.export import FORMATS, Exporter, Format, choose_classes, choose_formats
from segmentation.export.palette import FORMAT as PNG

from .scenes import CLASSES, EMPTY, SCENE, format_named, photo, settings


def names(formats: Sequence[Format]) -> list[str]:
    return [format.name for format in formats]


def test_formats_are_named_one_by_one_or_with_commas() -> None:
    assert names(choose_formats(["coco, labelme", "yolo", "coco"])) == ["coco", "labelme", "yolo"]
    assert choose_formats([]) == choose_formats([","]) == ()


def test_an_unknown_format_is_one_sentence_with_the_known_ones() -> None:
    known = ", ".join(names(FORMATS))
    with pytest.raises(ConfigError) as error:
        choose_formats(["coco,cocoa"])
    assert str(error.value) == f"unknown export format 'cocoa'; choose of {known}"


def test_coco_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segmentation.export.coco.find_spec", lambda name: None)
    assert names(choose_formats(["cvat"])) == ["cvat"]
    with pytest.raises(MissingExtraError, match=r"pip install 'mycelia\[coco\]'"):
        choose_formats(["coco-rle"])


def test_an_installed_package_may_bring_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "toy-0.dist-info"
    info.mkdir()
    (tmp_path / "toy_export.py").write_text(
        "from segmentation.export import Format, PhotoFile\n"
        "def write(path, photo):\n    path.write_text(photo.name)\n"
        "PLUGIN = Format('toy', 'names', photo_file=PhotoFile(lambda stem: f'{stem}.toy', write))\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[mycelia.exports]\ntoy = toy_export:PLUGIN\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = settings()
    with Exporter(tmp_path / "out", choose_formats(["toy"]), made, names=["a.jpg"]) as exporter:
        exporter.add(photo("a.jpg", SCENE, made))
    assert (tmp_path / "out" / "a.toy").read_text() == "a.jpg"


def test_classes_are_all_but_the_background_unless_named() -> None:
    broad = CLASSES.names[2]
    assert choose_classes(CLASSES) == (1, 2)
    assert choose_classes(CLASSES, ["all"]) == (0, 1, 2)
    assert choose_classes(CLASSES, [broad, "background,"]) == (0, 2)  # the comma in its name is its own
    assert choose_classes(CLASSES, ["Gemüse,background"]) == (0, 1)  # in the order of the columns
    other = ClassMap((ClassInfo(1, "Void", (0, 0, 0)), ClassInfo(0, "sky", (1, 1, 1))))
    assert choose_classes(other) == (1,)
    with pytest.raises(
        ConfigError, match=r"'Gemuse', which is no class of this index; did you mean 'Gemüse'\?"
    ):
        choose_classes(CLASSES, ["Gemuse"])


def stopped_run(out: Path, name: str, photos: Sequence[str], *, expected: Sequence[str]) -> None:
    made = settings()
    with (
        pytest.raises(KeyboardInterrupt),
        Exporter(out, [format_named(name), PNG], made, names=expected) as exporter,
    ):
        for each in photos:
            exporter.add(photo(each, SCENE, made))
        raise KeyboardInterrupt


RUN_FORMATS = [format.name for format in FORMATS if format.run_file is not None]


@pytest.mark.parametrize("name", RUN_FORMATS)
def test_the_next_run_takes_up_what_a_stopped_one_left(name: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made = settings()
    every = {"a.jpg": SCENE, "b.jpg": EMPTY, "c.jpg": SCENE}
    with Exporter(whole, [format_named(name)], made, names=list(every)) as exporter:
        for each, mask in every.items():
            exporter.add(photo(each, mask, made))
    run_file = format_named(name).run_file
    assert run_file is not None
    stopped_run(parts, name, ["a.jpg", "b.jpg"], expected=list(every))
    lines = parts / f"{run_file.name}.lines"
    assert not (parts / run_file.name).exists() and (parts / "a.png").exists()
    lines.write_bytes(lines.read_bytes() + b'{"name":"c.jpg","rec')  # killed while it wrote
    with Exporter(parts, [format_named(name)], made, names=["b.jpg", "c.jpg"]) as exporter:
        exporter.add(photo("b.jpg", EMPTY, made))  # once more, and not what was left of it
        exporter.add(photo("c.jpg", SCENE, made))
    assert (parts / run_file.name).read_bytes() == (whole / run_file.name).read_bytes()
    assert not lines.exists()


def test_what_was_left_by_other_settings_is_refused(tmp_path: Path) -> None:
    stopped_run(tmp_path, "coco", ["a.jpg"], expected=["a.jpg"])
    before = (tmp_path / "coco.json.lines").read_bytes()
    with pytest.raises(ConfigError, match=r"coco\.json\.lines is what a stopped run left, of other classes"):
        Exporter(tmp_path, [format_named("coco")], settings(2.0), names=["a.jpg"]).__enter__()
    assert (tmp_path / "coco.json.lines").read_bytes() == before


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    stopped_run(tmp_path, "cvat", [], expected=["a.jpg"])
    assert list(tmp_path.iterdir()) == []
    made = settings()
    with Exporter(tmp_path, [format_named("coco")], made, names=[]):
        pass
    assert json.loads((tmp_path / "coco.json").read_text())["images"] == []


def test_a_stopped_run_leaves_the_file_of_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text("mine")
    stopped_run(tmp_path, "coco", ["a.jpg"], expected=["a.jpg", "b.jpg"])
    assert (tmp_path / "coco.json").read_text() == "mine"
