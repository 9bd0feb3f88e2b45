"""The mask reader against a slow reference, over modes, palettes, bit depths and values."""

from __future__ import annotations

import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from indexer.datasets.labels import MaskFile
from indexer.datasets.masks import ColorCode
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import MaskError

Color = tuple[int, int, int]
MODES = ("1", "L2", "L4", "L", "LA", "P", "P4", "I;16", "RGB", "RGBA")
#: The largest value that a mode can hold.
LARGEST = {"1": 1, "L2": 3, "L4": 15, "P4": 15, "I;16": 65535}


@dataclass(frozen=True)
class Case:
    """A mask: its mode, its values (or colours), and the palette where it has one."""

    mode: str
    values: list[list[int]]
    palette: list[Color] | None
    colors: dict[int, Color]  #: what the values of an RGB mask stand for, by value
    classes: ClassMap
    given: bool  #: whether the classes have colours


@st.composite
def cases(draw: st.DrawFn) -> Case:
    mode = draw(st.sampled_from(MODES))
    largest = LARGEST.get(mode, 255)
    width, height = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    count = draw(st.integers(1, min(5, largest + 1)))
    ids = draw(st.lists(st.integers(0, min(largest, 300)), min_size=count, max_size=count, unique=True))
    pool = st.sampled_from([*ids, *([min(255, largest)] if draw(st.booleans()) else [])])
    values = draw(st.lists(st.lists(pool, min_size=width, max_size=width), min_size=height, max_size=height))
    color = st.tuples(*[st.integers(0, 255)] * 3)
    colors = draw(st.lists(color, min_size=count, max_size=count, unique=True))
    kind = draw(st.sampled_from(["own", "shuffled", "identity", "foreign", "short"]))
    classes = ClassMap(
        tuple(ClassInfo(id, f"c{id}", colors[place]) for place, id in enumerate(ids)),
        ignore=() if 255 in ids else (255,),
    )
    size = 16 if mode == "P4" else 256
    palette: list[Color] | None = None
    if mode in ("P", "P4"):
        palette = [(0, 0, 0)] * size
        order = draw(st.permutations(colors)) if kind == "shuffled" else colors
        for id, shade in zip(ids, order, strict=True):
            palette[id] = shade
        if kind == "identity":
            palette = [(i, i, i) for i in range(size)]
        elif kind == "foreign":
            shades = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (size, 3))
            palette = [(red, green, blue) for red, green, blue in shades.tolist()]
        elif kind == "short":
            palette = palette[: max(2, min(ids))]
    table = {255: (255, 255, 255), 15: (255, 255, 255), 3: (255, 255, 255), 1: (255, 255, 255)}
    table |= dict(zip(ids, colors, strict=True))
    return Case(mode, values, palette, table, classes, draw(st.booleans()))


def write(case: Case, path: Path) -> None:
    """The mask as a PNG, the rare bit depths byte by byte."""
    array = np.array(case.values)
    if case.mode in ("L2", "L4", "P4"):
        return write_few_bits(case, path, int(case.mode[1]))
    if case.mode == "1":
        image = Image.fromarray(array.astype(bool))
    elif case.mode == "I;16":
        image = Image.fromarray(array.astype(np.uint16))
    elif case.mode in ("RGB", "RGBA"):
        pixels = [[case.colors[value] for value in row] for row in case.values]
        image = Image.fromarray(np.array(pixels, np.uint8)).convert(case.mode)
    else:
        image = Image.fromarray(array.astype(np.uint8))
        image = image.convert("LA") if case.mode == "LA" else image
    if case.palette is not None:
        image.putpalette([channel for color in case.palette for channel in color])
    image.save(path)


def write_few_bits(case: Case, path: Path, bits: int) -> None:
    height, width = len(case.values), len(case.values[0])
    lines = b""
    for row in case.values:
        flat = "".join(f"{value:0{bits}b}" for value in row)
        flat += "0" * (-len(flat) % 8)
        lines += b"\0" + bytes(int(flat[start : start + 8], 2) for start in range(0, len(flat), 8))
    kind = 3 if case.palette is not None else 0
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, kind, 0, 0, 0])
        PngImagePlugin.putchunk(file, b"IHDR", header)
        if case.palette is not None:
            PngImagePlugin.putchunk(file, b"PLTE", bytes(c for color in case.palette for c in color))
        PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(lines))
        PngImagePlugin.putchunk(file, b"IEND", b"")


def expected(case: Case) -> list[list[int]] | None:
    """The columns, pixel by pixel; None where the mask must be refused."""
    column_of_id = {info.id: column for column, info in enumerate(case.classes.classes)}
    column_of_color = {info.color: column for column, info in enumerate(case.classes.classes)}
    own = {**dict.fromkeys(case.classes.ignore, -1), **column_of_id}
    used = {value for row in case.values for value in row}
    if case.mode in ("RGB", "RGBA"):
        if not case.given or any(case.colors[value] not in column_of_color for value in used):
            return None
        return [[column_of_color[case.colors[value]] for value in row] for row in case.values]
    meaning = {}
    if case.palette is not None and case.given:
        grey = all(color == (i, i, i) for i, color in enumerate(case.palette))
        for value in used:
            if not grey and value < len(case.palette) and case.palette[value] in column_of_color:
                meaning[value] = column_of_color[case.palette[value]]
    padding = {
        value
        for value in meaning
        if case.palette is not None and own.get(value) == -1 and case.palette[value] == (0, 0, 0)
    }
    if all(own.get(value) == column or value in padding for value, column in meaning.items()):
        table = own  # nothing contradicts the index
    elif any(own.get(value) == -1 and value in meaning for value in used):
        return None  # an ignored index in the colour of a class
    else:
        table = {value: meaning.get(value, -1 if own.get(value) == -1 else -2) for value in used}
    if any(table.get(value, -2) == -2 for value in used):
        return None
    return [[table[value] for value in row] for row in case.values]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_reader_against_the_reference(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        write(case, path)
        colors = ColorCode.of_classes(case.classes) if case.given else None
        source = MaskFile(path, case.classes, colors)
        wanted = expected(case)
        if wanted is None:
            with pytest.raises(MaskError, match=r"mask\.png"):
                source.read()
        else:
            assert source.read().tolist() == wanted


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_mask_is_turned_by_its_own_tag(tmp_path: Path, orientation: int, mode: str) -> None:
    values = np.array([[0, 1, 2], [2, 2, 1]], dtype=np.uint8)
    image = Image.fromarray(values)
    if mode != "L":
        image.putpalette([0, 0, 0, 9, 0, 0, 0, 9, 0])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.convert(mode).save(tmp_path / "m.png", exif=exif)
    colors = ((0, 0, 0), (9, 0, 0), (0, 9, 0))
    classes = ClassMap(tuple(ClassInfo(id, f"c{id}", color) for id, color in enumerate(colors)))
    turned = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.T,
        6: values[::-1].T,
        7: values[::-1, ::-1].T,
        8: values[:, ::-1].T,
    }[orientation]
    found = MaskFile(tmp_path / "m.png", classes, ColorCode.of_classes(classes)).read()
    assert found.tolist() == turned.tolist()
