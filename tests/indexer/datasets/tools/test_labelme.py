"""LabelMe: a JSON of shapes beside each image."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import NoLabels, load_dataset
from indexer.datasets.survey import survey_folder
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Mutated = Callable[[Any], st.SearchStrategy[Any]]
Check = Callable[[Path, str], None]


def png(values: list[list[int]]) -> str:
    """A black and white picture in base64."""
    file = io.BytesIO()
    Image.fromarray(np.array(values, dtype=bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def valid() -> dict[str, Any]:
    """A shape of every kind."""
    return {
        "version": "5.4",
        "shapes": [
            {"label": "c2", "points": [[0, 0], [4, 0], [4, 2], [0, 2]]},
            {"label": "c10", "points": [[6, 4], [2, 1]], "shape_type": "rectangle"},
            {"label": "__ignore__", "points": [[7, 5], [7, 5.6]], "shape_type": "circle"},
            {"label": "c2", "points": [[0, 4], [1, 5]], "shape_type": "mask", "mask": png([[1, 0], [1, 1]])},
            {"label": "note", "points": [[3, 3]], "shape_type": "point"},
        ],
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 6,
        "imageWidth": 8,
    }


def write(path: Path, data: object) -> None:
    path.write_text(data if isinstance(data, str) else json.dumps(data))


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    folder = tmp_path / "photos"
    for name in ("a", "b"):
        write(picture(folder / f"{name}.png").with_suffix(".json"), valid())
    return folder


def test_is_recognised_and_drawn_in_order(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.split) == ("labelme", None)
    assert dataset.classes.names == ("background", "c2", "c10")
    expected = np.zeros((6, 8), int)
    expected[:2, :4] = 1
    expected[1:4, 2:6] = 2
    expected[4:6, 6:8] = 0  # the circle's radius holds no centre: the nearest is 0.71 away
    expected[[4, 5, 5], [0, 0, 1]] = 1
    assert (dataset.read(dataset.samples[0])[1] == expected).all()


def test_ignored_areas_are_unlabelled(root: Path) -> None:
    data = valid()
    data["shapes"] = [{"label": "__ignore__", "points": [[4, 3], [4, 5]], "shape_type": "circle"}]
    write(root / "a.json", data)
    dataset = load_dataset(root)
    columns = dataset.read_mask(dataset.samples[0])
    assert (columns[2:4, 3:5] == -1).all()
    assert (columns == -1).sum() == 12  # the pixels whose centres are within 2 of (4, 3)


def test_splits_are_folders_with_classes_of_all(tmp_path: Path, picture: MakeImage) -> None:
    for split, label in (("train", "x"), ("val", "y")):
        data = valid()
        data["shapes"] = [{"label": label, "points": [[0, 0], [8, 0], [8, 6], [0, 6]]}]
        write(picture(tmp_path / split / "a.png").with_suffix(".json"), data)
    dataset = load_dataset(tmp_path, split="val")
    assert dataset.classes.names == ("background", "x", "y")
    assert (dataset.read_mask(dataset.samples[0]) == 2).all()
    with pytest.raises(DatasetError, match=r"several splits \(train, val\)"):
        load_dataset(tmp_path)


def test_an_image_without_a_json_is_unmasked(root: Path, picture: MakeImage) -> None:
    picture(root / "c.png")
    dataset = load_dataset(root)
    assert isinstance(dataset.samples[2].labels, NoLabels)
    assert len(load_dataset(root, unmasked="skip")) == 2
    assert (load_dataset(root, unmasked="background").samples[2].labels.read() == 0).all()


def test_a_class_file_says_ids(root: Path) -> None:
    (root / "classes.json").write_text('{"names": ["c10", "background", "c2"]}')
    dataset = load_dataset(root)
    assert dataset.read_mask(dataset.samples[0])[0].tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    (root / "classes.json").write_text('{"names": ["c10", "c3"]}')
    with pytest.raises(DatasetError, match=r"the label 'c2' is no class of .*classes\.json; add it there"):
        load_dataset(root)


def test_a_shape_changes_one_key_and_the_copy_of_the_image_none(root: Path) -> None:
    before = [sample.labels.key() for sample in load_dataset(root).samples]
    data = valid()
    data["shapes"][0]["points"][0] = [1, 0]
    write(root / "a.json", data)
    write(root / "b.json", {**valid(), "imageData": "AAAA"})
    after = [sample.labels.key() for sample in load_dataset(root).samples]
    assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [False, True]


def test_inspect(root: Path) -> None:
    survey, _ = survey_folder(root)
    assert (survey.format, survey.masked, survey.oddities) == ("labelme", 2, ())
    assert survey.left_out == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, r"has the label 3, which is no class"),
        ({"points": [[0, "x"]]}, r"expected a number, found 'x'"),
        ({"shape_type": "star"}, r"shapes of the type 'star' are not known"),
        ({"shape_type": "mask", "mask": "&"}, r"shape 1 cannot be understood"),
        (
            {"shape_type": "mask", "mask": png([[1]])},
            r"its mask is \(1, 1\) \(height, width\), but its corners",
        ),
        ({"points": [[0, 0], [99, 0], [3, 3]]}, r"corners far outside the image, which is 6 high and 8 wide"),
    ],
)
def test_what_cannot_be_drawn(root: Path, change: dict[str, Any], message: str) -> None:
    data = valid()
    data["shapes"][0].update(change)
    write(root / "a.json", data)
    with pytest.raises(MaskError, match=r"a\.json, shape 1 .*" + message.removeprefix("shape 1 ")):
        load_dataset(root).samples[0].labels.read()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_else_is_refused(
    root: Path, mutated: Mutated, reads_or_refuses: Check, data: st.DataObject
) -> None:
    write(root / "a.json", data.draw(mutated(valid())))
    reads_or_refuses(root, "labelme")


@pytest.mark.parametrize("cut", [0, 1, 40, 200, 300])
def test_truncated(root: Path, cut: int) -> None:
    write(root / "a.json", json.dumps(valid())[:cut])
    with pytest.raises(DatasetError, match=r"a\.json cannot be read as JSON"):
        load_dataset(root)
