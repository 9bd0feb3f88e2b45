"""Class names of any script in pictures: with a font that has them, or one word that there is none."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from PIL import Image, ImageFont

from retrieval.classes import ClassInfo, ClassMap
from segmentation.drawing import fonts
from segmentation.drawing.overlays import overlay
from segmentation.drawing.pictures import write_figure


def make_font(path: Path, characters: str) -> Path:
    """A font of filled boxes for these characters, and an empty picture for those that it lacks."""
    names = {ord(c): f"glyph{ord(c):x}" for c in characters}
    order = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    box = pen.glyph()
    builder.setupGlyf({name: TTGlyphPen(None).glyph() if name == ".notdef" else box for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (900, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts of the machine, none at first: paths to be added before the first text."""
    paths: list[str] = []
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda *a, **k: list(paths))
    fonts._font_files.cache_clear()
    fonts._SAID.clear()
    yield paths
    fonts._font_files.cache_clear()
    fonts._SAID.clear()


CLASSES = ClassMap((ClassInfo(0, "道路", (200, 30, 30)), ClassInfo(1, "طريق", (30, 30, 200))))


def test_ascii_is_written_as_before(installed: list[str]) -> None:
    assert fonts.pillow_font("road 12 %", size=20).getname() == ImageFont.load_default(size=20).getname()
    assert fonts.families(["road", "ÄÖ é Ж α"]) == ["DejaVu Sans"]


def test_a_font_with_the_characters_is_found(installed: list[str], tmp_path: Path) -> None:
    installed += [
        str(make_font(tmp_path / "Aaa.ttf", "abc")),
        str(make_font(tmp_path / "NotoColorEmoji.ttf", "道路 12%")),
        str(make_font(tmp_path / "Zzz.ttf", "道路 12%")),
    ]
    assert fonts.pillow_font("道路 12 %", size=20).path.endswith("Zzz.ttf")
    assert fonts.families(["道路"]) == ["DejaVu Sans", "Zzz"]
    assert fonts.pillow_font("Straße 3 %", size=20).path.endswith("DejaVuSans.ttf")


def test_known_fonts_come_first_and_bold_ones_last(installed: list[str], tmp_path: Path) -> None:
    for name in ("Aaa", "NotoSansCJK-Bold", "NotoSansCJK-Regular"):
        installed.append(str(make_font(tmp_path / f"{name}.ttf", "道")))
    assert fonts.pillow_font("道", size=20).path.endswith("NotoSansCJK-Regular.ttf")


def test_two_scripts_need_two_fonts(
    installed: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed += [str(make_font(tmp_path / "One.ttf", "道")), str(make_font(tmp_path / "Two.ttf", "한"))]
    assert fonts.families(["道", "한"]) == ["DejaVu Sans", "One", "Two"]
    assert caplog.text == ""


def test_a_broken_font_file_is_passed_over(installed: list[str], tmp_path: Path) -> None:
    (tmp_path / "NotoSansCJK.ttf").write_bytes(b"no font")
    installed += [str(tmp_path / "NotoSansCJK.ttf"), str(make_font(tmp_path / "Zzz.ttf", "道"))]
    assert fonts.pillow_font("道", size=20).path.endswith("Zzz.ttf")


def test_what_no_font_has_is_said_once(
    installed: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mycelia")
    photo, mask = np.zeros((80, 120, 3), np.uint8), np.zeros((80, 120), np.uint8)
    for _ in range(3):
        overlay(photo, mask, CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = Figure()
        axes = figure.add_subplot()
        axes.set_title("道路", fontfamily=fonts.families(["道路"]))
        axes.set_xticks([0], ["道"], fontfamily=fonts.families(["道"]))
        write_figure(tmp_path / "f.png", figure)
    (record,) = caplog.records
    assert "no installed font has 道路" in record.getMessage()


def test_a_legend_is_written_with_the_font(installed: list[str], tmp_path: Path) -> None:
    photo, mask = np.zeros((40, 240, 3), np.uint8), np.zeros((40, 240), np.uint8)
    without = overlay(photo, mask, CLASSES)
    fonts._font_files.cache_clear()
    installed.append(str(make_font(tmp_path / "Zzz.ttf", "道路 10%")))
    assert not np.array_equal(overlay(photo, mask, CLASSES), without)


def test_a_figure_is_written_with_the_font(installed: list[str], tmp_path: Path) -> None:
    installed.append(str(make_font(tmp_path / "Boxes.ttf", "道")))
    pictures = []
    for family in (["DejaVu Sans"], fonts.families(["道"])):
        figure = Figure()
        figure.text(0.5, 0.5, "道", fontsize=40, fontfamily=family)
        write_figure(tmp_path / "f.png", figure)
        pictures.append(np.array(Image.open(tmp_path / "f.png").convert("L")))
    assert (pictures[1] < 128).sum() > (pictures[0] < 128).sum()  # a filled box, and not an outline
