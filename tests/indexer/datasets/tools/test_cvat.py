"""CVAT for images 1.1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.datasets import load_dataset
from indexer.datasets.survey import survey_folder
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Check = Callable[[Path, str], None]

POLYGON = '<polygon label="road" points="0,0;8,0;8,2;0,2" z_order="1"/>'
VALID = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>car</name><color>#ff0000</color></label>
    <label><name>road</name><color>#00ff00</color></label>
    <label><name>wheel</name><parent>car</parent></label>
  </labels></task></meta>
  <image id="0" name="a.png" width="8" height="6">
    {POLYGON}
    <box label="car" xtl="1.0" ytl="1.0" xbr="3.0" ybr="4.0" z_order="0"/>
    <mask label="car" rle="1, 1, 2" left="6" top="4" width="2" height="2" z_order="0"/>
    <ellipse label="road" cx="4" cy="4" rx="1" ry="1" z_order="0"/>
    <points label="car" points="1,1" z_order="0"/>
    <tag label="road"/>
  </image>
  <image id="1" name="b.png" width="8" height="6"/>
</annotations>
"""


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "annotations.xml").write_text(VALID)
    return tmp_path


def change(root: Path, *pairs: tuple[str, str]) -> None:
    text = VALID
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (root / "annotations.xml").write_text(text)


def test_is_recognised_and_drawn_by_z_order(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.split) == ("cvat", None)
    assert dataset.classes.names == ("background", "car", "road")
    assert dataset.classes.classes[1].color == (255, 0, 0)
    expected = np.zeros((6, 8), int)
    expected[1:4, 1:3] = 1
    expected[:2] = 2  # on top, though it stands first
    expected[3:5, 3:5] = 2
    expected[4, 7] = 1
    assert (dataset.read(dataset.samples[0])[1] == expected).all()
    assert (dataset.read(dataset.samples[1])[1] == 0).all()


def test_a_turned_box(root: Path) -> None:
    change(root, ('ybr="4.0"', 'ybr="3.0" rotation="45"'), (POLYGON, ""))
    dataset = load_dataset(root)
    car = dataset.read_mask(dataset.samples[0])[:4, :4] == 1
    assert car.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]


def test_subsets_are_splits(root: Path, picture: MakeImage) -> None:
    change(root, ('name="a.png"', 'name="a.png" subset="Train"'), ('"b.png"', '"b.png" subset="Validation"'))
    picture(root / "images" / "Train" / "a.png")
    dataset = load_dataset(root, split="Train")
    assert dataset.samples[0].image == root / "images" / "Train" / "a.png"
    with pytest.raises(DatasetError, match=r"several splits \(Train, Validation\)"):
        load_dataset(root)


def test_images_of_no_subset_are_the_default_one(root: Path) -> None:
    change(root, ('name="a.png"', 'name="a.png" subset="Train"'))
    dataset = load_dataset(root, split="default")
    assert [sample.id for sample in dataset.samples] == ["b"]


def test_a_shape_changes_one_key(root: Path) -> None:
    before = [sample.labels.key() for sample in load_dataset(root).samples]
    change(root, ('xtl="1.0"', 'xtl="2.0"'))
    after = [sample.labels.key() for sample in load_dataset(root).samples]
    assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [False, True]


def test_inspect(root: Path) -> None:
    survey, _ = survey_folder(root)
    assert (survey.format, survey.masked, survey.oddities) == ("cvat", 2, ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('points="0,0;8,0', 'points="0,0;x,0', r"polygon \(shape 1\) cannot be understood"),
        (
            '<polygon label="road"',
            '<polygon label="raod"',
            r"'raod', which is no class .*; did you mean 'road'",
        ),
        ('rle="1, 1, 2"', 'rle="1, 1"', r"mask \(shape 3\) .* add up to 2 x 2 pixels"),
        ('left="6"', 'left="7"', r"its window of 2 x 2 pixels at row 4, col 7 is not in the image"),
        ('xtl="1.0" ', "", r"box \(shape 2\) cannot be understood: it has no 'xtl'"),
        ('z_order="1"', 'z_order="up"', r"image 'a\.png' cannot be understood"),
        ('height="6">', 'height="7">', r"height of 7 and a width of 8, but its image"),
    ],
)
def test_what_cannot_be_drawn(root: Path, old: str, new: str, message: str) -> None:
    change(root, (old, new))
    with pytest.raises(MaskError, match=r"annotations\.xml, image 'a\.png'.*"):
        load_dataset(root).samples[0].labels.read()
    with pytest.raises(MaskError, match=message):
        load_dataset(root).samples[0].labels.read()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotations>", "", r"cannot be read as CVAT's XML"),
        ("<name>car</name>", "", r"a label without a name"),
        (' name="a.png"', "", r"image 0 cannot be understood: expected a name, found None"),
        ("<label>", "<thing>", r"cannot be read"),
    ],
)
def test_what_cannot_be_loaded(root: Path, old: str, new: str, message: str) -> None:
    change(root, (old, new))
    with pytest.raises(DatasetError, match=message):
        load_dataset(root)


@st.composite
def mutated_xml(draw: Any) -> str:
    """The valid file with one attribute or element lost or changed."""
    tree = ElementTree.fromstring(VALID)
    parents = [(parent, child) for parent in tree.iter() for child in parent]
    parent, child = draw(st.sampled_from(parents))
    if child.attrib and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(child.attrib)))
        child.set(
            key, draw(st.sampled_from(["", "x", "-1", "nan", "1e999", "9" * 5000, "0,0;1", "1,2,3", "../y"]))
        )
    elif child.attrib and draw(st.booleans()):
        del child.attrib[draw(st.sampled_from(sorted(child.attrib)))]
    else:
        parent.remove(child)
    text = ElementTree.tostring(tree, encoding="unicode")
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutated_xml())
def test_anything_else_is_refused(root: Path, reads_or_refuses: Check, text: str) -> None:
    (root / "annotations.xml").write_text(text)
    reads_or_refuses(root, "cvat")
