"""Label Studio's brush labels as PNGs, one a label."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.survey import survey_folder
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Check = Callable[[Path, str], None]


def write(root: Path, name: str, columns: slice, *, bits: int = 8) -> Path:
    """A black picture, 6 x 8, with white columns."""
    pixels = np.zeros((6, 8), np.uint8)
    pixels[:, columns] = 255
    (root / "masks").mkdir(exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert("1") if bits == 1 else image).save(root / "masks" / name)
    return root / "masks" / name


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "task-8.png")
    write(tmp_path, "task-7-annotation-1-by-1-tag-car-0.png", slice(0, 8))
    write(tmp_path, "task-7-annotation-3-by-1-tag-side-walk-1.png", slice(3, 6), bits=1)
    write(tmp_path, "task-7-annotation-3-by-1-tag-car-0.png", slice(0, 4))
    write(tmp_path, "task-8-annotation-4-by-1-tag-car-0.png", slice(6, 8))
    task = {"id": 7, "annotations": [], "data": {"image": "/data/upload/1/0a1b2c3d-a.png"}}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    return tmp_path


def test_is_recognised_and_drawn_in_order(root: Path) -> None:
    dataset = load_dataset(root, format="label-studio-png")
    assert dataset.classes.names == ("background", "car", "side-walk")
    assert [sample.id for sample in dataset.samples] == ["a", "task-8"]
    columns = dataset.read(dataset.samples[0])[1]
    assert (columns == [1, 1, 1, 2, 2, 2, 0, 0]).all()
    assert (dataset.read(dataset.samples[1])[1] == [0, 0, 0, 0, 0, 0, 1, 1]).all()


def test_is_recognised_beside_the_images(root: Path) -> None:
    for path in (root / "masks").iterdir():
        path.rename(root / path.name)
    (root / "masks").rmdir()
    assert load_dataset(root).format == "label-studio-png"


def test_a_picture_changes_one_key(root: Path) -> None:
    before = [sample.labels.key() for sample in load_dataset(root, format="label-studio-png").samples]
    write(root, "task-8-annotation-4-by-1-tag-car-0.png", slice(5, 8))
    after = [sample.labels.key() for sample in load_dataset(root, format="label-studio-png").samples]
    assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [True, False]


def test_inspect(root: Path) -> None:
    survey, _ = survey_folder(root, format="label-studio-png")
    assert (survey.masked, survey.masks_read, survey.oddities) == (2, 2, ())


def test_a_task_without_an_image(root: Path) -> None:
    (root / "export.json").unlink()
    with pytest.raises(
        DatasetError, match=r"is of task 7, whose image cannot be told; put the project's JSON"
    ):
        load_dataset(root, format="label-studio-png")


def test_another_size(root: Path, picture: MakeImage) -> None:
    picture(root / "images" / "a.png", 8, 6)
    with pytest.raises(MaskError, match=r"is 6 x 8, expected grey pixels, 8 high and 6 wide"):
        load_dataset(root, format="label-studio-png").samples[0].labels.read()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 90), name=st.sampled_from(["task-8-annotation-4-by-1-tag-car-0.png", "x.png"]))
def test_anything_else_is_refused(root: Path, reads_or_refuses: Check, cut: int, name: str) -> None:
    path = write(root, name, slice(0, 3))
    path.write_bytes(path.read_bytes()[:cut])
    reads_or_refuses(root, "label-studio-png")
