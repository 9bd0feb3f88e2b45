"""YOLO segmentation: texts of outlines in shares of the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.datasets import load_dataset
from indexer.datasets.survey import survey_folder
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Check = Callable[[Path, str], None]

LINES = "0 0 0 0.5 0 0.5 0.5 0 0.5\n\n1 0.25 0 0.75 0 0.75 1 0.25 1\n"
SETTINGS = "path: /home/me/data\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    for split in ("train", "val"):
        for name in ("a", "b"):
            picture(tmp_path / "images" / split / f"{name}.png")
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text(LINES)
    (tmp_path / "data.yaml").write_text(SETTINGS)
    return tmp_path


def test_is_recognised_and_drawn_in_order(root: Path) -> None:
    dataset = load_dataset(root, split="train")
    assert (dataset.format, dataset.classes.names) == ("yolo", ("background", "cat", "dog"))
    expected = np.zeros((6, 8), int)
    expected[:3, :4] = 1
    expected[:, 2:6] = 2
    assert (dataset.read(dataset.samples[0])[1] == expected).all()
    assert (dataset.read(dataset.samples[1])[1] == 0).all()
    assert dataset.notes == (
        f"1 of 2 images have no text in {root}/labels/train: they show none of the objects",
    )


def test_folders_alone_give_numbers(root: Path) -> None:
    (root / "data.yaml").unlink()
    dataset = load_dataset(root, split="val")
    assert (dataset.format, dataset.classes.names) == ("yolo", ("background", "class_0", "class_1"))
    assert dataset.samples[0].image == root / "images" / "val" / "a.png"


def test_splits_around_the_folders(tmp_path: Path, picture: MakeImage) -> None:
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.png")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text(LINES)
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, dog]\n"
    )
    dataset = load_dataset(tmp_path, split="val")
    assert dataset.samples[0].image == tmp_path / "valid" / "images" / "a.png"
    assert dataset.read_mask(dataset.samples[0])[0, 0] == 1
    (tmp_path / "data.yaml").unlink()
    assert load_dataset(tmp_path, split="valid").format == "yolo"


def test_no_splits(tmp_path: Path, picture: MakeImage) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(LINES)
    assert load_dataset(tmp_path).split is None


def test_a_line_changes_one_key(root: Path) -> None:
    (root / "labels/train/b.txt").write_text(LINES)
    before = [sample.labels.key() for sample in load_dataset(root, split="train").samples]
    (root / "labels/train/b.txt").write_text(LINES.replace("0.75", "0.5"))
    after = [sample.labels.key() for sample in load_dataset(root, split="train").samples]
    assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [True, False]


def test_inspect(root: Path) -> None:
    survey, _ = survey_folder(root)
    assert (survey.format, survey.masked, survey.oddities) == ("yolo", 4, ())
    assert survey.splits == (("train", 2), ("val", 2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"line 1 has 5 numbers, .*; boxes have no outline"),
        ("0 0 0 1 0 1", r"line 1 has 6 numbers, expected a class and at least three corners"),
        ("0 0 0 1 0 1 x", r"line 1 cannot be understood"),
        ("5 0 0 1 0 1 1", r"line 1 has the label 5, which is no class"),
        ("0 0 0 640 0 640 480", r"line 1 has corners far outside the image"),
        ("0 0 0 nan 0 1 1", r"line 1 cannot be understood: expected a number, found nan"),
    ],
)
def test_what_cannot_be_drawn(root: Path, line: str, message: str) -> None:
    (root / "labels/train/a.txt").write_text(line)
    with pytest.raises(MaskError, match=r"a\.txt, " + message):
        load_dataset(root, split="train").samples[0].labels.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: 3", r"expected names as a list or as numbers with names, found 3"),
        ("names: {a: b}", r"expected numbers from 0 on with names, found 'a'"),
        ("names: [a, a]", r"two classes with the name 'a'"),
        ("names: [a", r"cannot be read as YAML"),
    ],
)
def test_names_that_make_no_sense(root: Path, text: str, message: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_dataset(root, split="train")


WORDS = st.sampled_from(
    ["0", "1", "7", "0.5", "-1", "1e999", "nan", "x", "", "-", "9" * 5000, "²", "1_0", "\0"]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(WORDS, max_size=10).map(" ".join) | st.binary(max_size=20))
def test_anything_else_is_refused(
    tmp_path: Path, picture: MakeImage, reads_or_refuses: Check, text: str | bytes
) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "a.txt").write_text(LINES)
    (tmp_path / "labels" / "b.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    reads_or_refuses(tmp_path, "yolo")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, len(SETTINGS)),
    put=st.sampled_from(["", "[", "names", ": 3", "\t", "- x", "&a *a", "!!python/x", "names: {[1]: 2}"]),
)
def test_settings_that_are_broken(root: Path, reads_or_refuses: Check, cut: int, put: str) -> None:
    for part in ("images", "labels"):
        if (root / part / "val").exists():
            (root / part / "val").rename(root / part / "extra")
    (root / "data.yaml").write_text(SETTINGS[:cut] + put + SETTINGS[cut:])
    reads_or_refuses(root, "yolo")
