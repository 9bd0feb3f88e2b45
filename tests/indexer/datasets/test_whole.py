"""Labels of images as a whole: their columns, keys and names in natural order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import ClassLabels, NoLabels, whole_columns
from indexer.datasets.labels import MaskFile
from indexer.datasets.whole import classes_of_names, is_split_name, natural_key
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError, MaskError

CLASSES = ClassMap(tuple(ClassInfo(id, f"k{id}", (id, id, id)) for id in range(4)), ignore=(255,))


def mask_file(path: Path, values: object) -> MaskFile:
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return MaskFile(path, CLASSES)


def test_there_is_no_mask() -> None:
    labels = ClassLabels((1,), "train.csv, line 3", ("cat",))
    assert labels.name == "train.csv, line 3"
    labels.check()
    with pytest.raises(
        MaskError, match=r"train\.csv, line 3 labels the image as a whole.*features\.level=im"
    ):
        labels.read()


def test_key_is_of_the_names() -> None:
    cat, dog = (ClassLabels((1,), "here", (name,)) for name in ("cat", "dog"))
    assert not cat.key().equals(dog.key())
    assert cat.key().equals(ClassLabels((7,), "here", ("cat",)).key(dog.key()))
    assert ClassLabels((0, 1), "here", ("a", "b")).key().equals(ClassLabels((1, 0), "here", ("b", "a")).key())
    assert not ClassLabels((1,), "here").key().equals(ClassLabels((2,), "here").key())


def test_columns_of_whole_images_and_of_masks(tmp_path: Path) -> None:
    assert whole_columns(ClassLabels((3, 1, 3), "here")) == (1, 3)
    assert whole_columns(mask_file(tmp_path / "m.png", [[3, 255, 0], [0, 3, 3]])) == (0, 3)


def test_an_unlabelled_image_is_refused(tmp_path: Path) -> None:
    for labels in (ClassLabels((), "here"), mask_file(tmp_path / "m.png", [[255, 255]])):
        with pytest.raises(MaskError, match="expected at least one class of the image"):
            whole_columns(labels)
    with pytest.raises(MaskError, match="has no mask"):
        whole_columns(NoLabels(tmp_path / "i.png"))


def test_natural_order() -> None:
    assert classes_of_names(["c10", "c2", "C1", "c2"], where="here").names == ("C1", "c2", "c10")
    assert classes_of_names(["10", "9", "a"], where="here").names == ("9", "10", "a")


@given(st.lists(st.text(), unique=True))
def test_order_is_the_same_however_names_come(names: list[str]) -> None:
    once = classes_of_names(names, where="here")
    assert once == classes_of_names(reversed(names), where="here")
    assert sorted(once.names) == sorted(names)
    assert once.ids.tolist() == list(range(len(names)))


@given(st.integers(0, 10**17), st.integers(0, 10**17))
def test_numbers_are_compared_as_numbers(a: int, b: int) -> None:
    assert (natural_key(f"c{a}") < natural_key(f"c{b}")) == (a < b)


def test_more_classes_than_ids() -> None:
    with pytest.raises(DatasetError, match="65,537 classes, expected at most 65,536"):
        classes_of_names(map(str, range(65537)), where="here")


def test_names_of_splits() -> None:
    assert all(map(is_split_name, ("train", "Val", "validation", "valid", "test", "train2017", "fold_1")))
    assert not any(map(is_split_name, ("trainer", "valley", "testa", "fold", "cat", "development")))
