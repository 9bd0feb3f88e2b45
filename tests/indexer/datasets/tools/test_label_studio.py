"""Label Studio's JSON export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.datasets import NoLabels, load_dataset
from indexer.datasets.survey import survey_folder
from indexer.datasets.tools.brush import decode_brush
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Mutated = Callable[[Any], st.SearchStrategy[Any]]
Check = Callable[[Path, str], None]


def brush(alpha: np.ndarray, *, repeat: bool = True) -> list[int]:
    """The bytes of a stroke, as the format describes them: runs of equal values, or values one by one."""
    values = np.repeat(alpha.astype(np.uint8), 4).tolist()
    bits = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{wide - 1:04b}" for wide in (3, 4, 8, 16))
    while values:
        count = 1
        while repeat and count < min(len(values), 16) and values[count] == values[0]:
            count += 1
        count = count if repeat else min(len(values), 200)
        kind, wide = (1, 4) if repeat else (2, 8)
        bits += f"{repeat:b}{kind:02b}{count - 1:0{wide}b}"
        bits += f"{values[0]:08b}" if repeat else "".join(f"{value:08b}" for value in values[:count])
        values = values[count:]
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def result(kind: str, value: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "type": kind,
        "value": {**value, kind: [label]},
        "original_width": 8,
        "original_height": 6,
        "image_rotation": 0,
        "from_name": "tag",
        "to_name": "image",
    }


def stroke() -> np.ndarray:
    alpha = np.zeros((6, 8), np.uint8)
    alpha[4:, :3], alpha[5, 3] = 255, 90
    return alpha


def valid() -> list[dict[str, Any]]:
    """Two tasks: one with a shape of each kind, one that nobody has labelled."""
    results = [
        result("polygonlabels", {"points": [[0, 0], [50, 0], [50, 50], [0, 50]]}, "car"),
        result("rectanglelabels", {"x": 25, "y": 0, "width": 50, "height": 100, "rotation": 0}, "road"),
        result("ellipselabels", {"x": 87.5, "y": 50, "radiusX": 12.5, "radiusY": 100 / 6}, "car"),
        result("brushlabels", {"format": "rle", "rle": brush(stroke())}, "car"),
        {"type": "choices", "value": {"choices": ["good"]}},
    ]
    return [
        {
            "id": 7,
            "annotations": [{"result": [], "was_cancelled": True}, {"result": results}],
            "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
        },
        {"id": 8, "annotations": [], "data": {"image": "/data/local-files/?d=photos/b%20c.png"}},
    ]


def write(root: Path, data: object) -> None:
    (root / "export.json").write_text(data if isinstance(data, str) else json.dumps(data))


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    for name in ("a", "b c"):
        picture(tmp_path / "images" / f"{name}.png")
    write(tmp_path, valid())
    return tmp_path


def test_is_recognised_and_drawn_in_order(root: Path) -> None:
    dataset = load_dataset(root)
    assert (dataset.format, dataset.classes.names) == ("label-studio", ("background", "car", "road"))
    assert [sample.id for sample in dataset.samples] == ["a", "b c"]
    expected = np.zeros((6, 8), int)
    expected[:3, :4] = 1
    expected[:, 2:6] = 2
    expected[2:4, 6:8] = 1
    expected[4:, :3] = 1  # the stroke's soft edge is not
    assert (dataset.read(dataset.samples[0])[1] == expected).all()
    assert isinstance(dataset.samples[1].labels, NoLabels)
    assert dataset.samples[1].image == root / "images" / "b c.png"


def test_the_ground_truth_of_several_annotations(root: Path) -> None:
    data = valid()
    data[0]["annotations"] = [{"result": [], "ground_truth": True}, data[0]["annotations"][1]]
    write(root, data)
    dataset = load_dataset(root)
    assert (dataset.read_mask(dataset.samples[0]) == 0).all()
    assert "1 tasks" in dataset.notes[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans())
def test_brushes(height: int, width: int, seed: int, repeat: bool) -> None:
    alpha = np.random.default_rng(seed).choice(np.array([0, 127, 128, 255], np.uint8), (height, width))
    assert (decode_brush(brush(alpha, repeat=repeat), (height, width)) == (alpha >= 128)).all()


def test_a_box_turns_around_its_corner(root: Path) -> None:
    data = valid()
    box = {"x": 50, "y": 0, "width": 50, "height": 50, "rotation": 90}
    data[0]["annotations"] = [{"result": [result("rectanglelabels", box, "car")]}]
    write(root, data)
    dataset = load_dataset(root)
    expected = np.zeros((6, 8), int)
    expected[:4, 1:4] = 1  # 4 wide and 3 high, now 3 wide and 4 high, to the left of (4, 0)
    assert (dataset.read_mask(dataset.samples[0]) == expected).all()


def test_a_result_changes_one_key(root: Path) -> None:
    data = valid()
    data[1]["annotations"] = data[0]["annotations"]
    write(root, data)
    before = [sample.labels.key() for sample in load_dataset(root).samples]
    data = json.loads(json.dumps(data))
    data[0]["annotations"][1]["result"][0]["value"]["points"][0] = [1, 0]
    write(root, data)
    after = [sample.labels.key() for sample in load_dataset(root).samples]
    assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [False, True]


def test_inspect(root: Path) -> None:
    survey, _ = survey_folder(root)
    assert (survey.format, survey.masked) == ("label-studio", 1)
    assert [oddity.kind for oddity in survey.oddities] == ["no mask"]


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, {"points": [[0, 0, 0]]}, r"result 1 cannot be understood: too many values"),
        (0, {"polygonlabels": ["car", "road"]}, r"result 1 has 2 labels"),
        (3, {"rle": [1, 2]}, r"result 4 cannot be understood: its rle is cut off"),
        (3, {"rle": [300]}, r"must be a list of bytes"),
        (
            3,
            {"rle": brush(np.zeros((2, 2)))},
            r"its rle holds 16 values, expected 4 for each of 6 x 8 pixels",
        ),
        (3, {"format": "png"}, r"brushes of the format 'png' are not known"),
    ],
)
def test_what_cannot_be_drawn(root: Path, number: int, change: dict[str, Any], message: str) -> None:
    data = valid()
    data[0]["annotations"][1]["result"][number]["value"].update(change)
    write(root, data)
    with pytest.raises(MaskError, match=r"export\.json, task 7, .*" + message):
        load_dataset(root).samples[0].labels.read()


def test_another_size(root: Path, picture: MakeImage) -> None:
    picture(root / "images" / "a.png", 8, 6)
    with pytest.raises(MaskError, match=r"drawn on an image 6 high and 8 wide, but it is 8 high and 6 wide"):
        load_dataset(root).samples[0].labels.read()


def test_what_cannot_be_loaded(root: Path) -> None:
    write(root, json.dumps(valid())[:-3])
    with pytest.raises(DatasetError, match=r"export\.json cannot be read as JSON"):
        load_dataset(root)
    write(root, [{"annotations": [], "data": {}}])
    with pytest.raises(
        DatasetError, match=r"task number 1 cannot be understood: expected a name, found None"
    ):
        load_dataset(root)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_anything_else_is_refused(
    root: Path, mutated: Mutated, reads_or_refuses: Check, data: st.DataObject
) -> None:
    write(root, data.draw(mutated(valid())))
    reads_or_refuses(root, "label-studio")
