"""Cityscapes and ADE20K."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.survey import survey_folder
from indexer.datasets.tools import ade20k, cityscapes
from retrieval.errors import DatasetError, MaskError

MakeImage = Callable[..., Path]
Check = Callable[[Path, str], None]


def write_mask(path: Path, values: list[list[int]], dtype: type = np.uint8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=dtype)).save(path)
    return path


def city_mask(root: Path, split: str = "train", name: str = "aachen_000000_000019") -> Path:
    return root / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_labelIds.png"


@pytest.fixture
def city(tmp_path: Path, picture: MakeImage) -> Path:
    for split, name in (("train", "aachen_000000_000019"), ("val", "ulm_000001_000019")):
        picture(tmp_path / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png", 1, 6)
        mask = write_mask(city_mask(tmp_path, split, name), [[0, 7, 8, 33, 9, 255]])
        for kind in ("instanceIds", "color"):
            write_mask(mask.with_name(f"{name}_gtFine_{kind}.png"), [[0, 7, 8, 33, 9, 255]])
        mask.with_name(f"{name}_gtFine_polygons.json").write_text("{}")
    return tmp_path


class TestCityscapes:
    def test_reads(self, city: Path) -> None:
        dataset = load_dataset(city, split="val")
        assert (dataset.format, len(dataset.classes)) == ("cityscapes", 19)
        assert [sample.id for sample in dataset.samples] == ["ulm_000001_000019"]
        assert dataset.read(dataset.samples[0])[1].tolist() == [[-1, 0, 1, 18, -1, -1]]

    def test_every_trained_id_has_its_class(self, city: Path) -> None:
        trained = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
        write_mask(city_mask(city), [list(range(34))])
        columns = load_dataset(city, split="train").samples[0].labels.read()[0]
        assert [id for id in range(34) if columns[id] >= 0] == trained
        assert columns[trained].tolist() == list(range(19))
        assert cityscapes.CLASSES.names[13] == "car"

    def test_inspect(self, city: Path) -> None:
        survey, _ = survey_folder(city)
        assert (survey.format, survey.splits) == ("cityscapes", (("train", 1), ("val", 1)))
        assert (survey.masked, survey.oddities) == (2, ())

    def test_a_missing_mask(self, city: Path) -> None:
        city_mask(city).unlink()
        with pytest.raises(
            MaskError, match=r"labelIds\.png does not exist; unpack gtFine beside leftImg8bit"
        ):
            load_dataset(city, split="train").check_files()

    def test_key_is_the_file(self, city: Path) -> None:
        before = load_dataset(city, split="train").samples[0].labels.key()
        write_mask(city_mask(city), [[1] * 6])
        assert not load_dataset(city, split="train").samples[0].labels.key().equals(before)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(values=st.lists(st.integers(0, 65535), min_size=6, max_size=6), cut=st.integers(0, 400))
    def test_anything_else_is_refused(self, city: Path, values: list[int], cut: int) -> None:
        path = write_mask(city_mask(city), [values], np.uint16)
        path.write_bytes(path.read_bytes()[: cut or None])
        sample = load_dataset(city, split="train").samples[0]
        if 0 < cut < 60 or any(33 < value != 255 for value in values):
            with pytest.raises(MaskError, match="labelIds"):
                sample.labels.read()
        else:
            assert sample.labels.read().shape == (1, 6)


@pytest.fixture
def ade(tmp_path: Path, picture: MakeImage) -> Path:
    root = tmp_path / "ADEChallengeData2016"
    for split, short in (("training", "train"), ("validation", "val")):
        for number in (1, 2):
            name = f"ADE_{short}_0000000{number}"
            picture(root / "images" / split / f"{name}.jpg", 1, 3)
            write_mask(root / "annotations" / split / f"{name}.png", [[0, number, 150]])
    (root / "objectInfo150.txt").write_text("Idx\tRatio\n")
    return tmp_path


class TestAde20k:
    def test_reads(self, ade: Path) -> None:
        dataset = load_dataset(ade, split="validation")
        assert (dataset.format, dataset.samples[1].id) == ("ade20k", "ADE_val_00000002")
        assert dataset.read(dataset.samples[1])[1].tolist() == [[-1, 1, 149]]

    def test_classes(self) -> None:
        names = ade20k.CLASSES.names
        assert len(names) == len(set(names)) == 150
        assert (names[0], names[12], names[19], names[149]) == ("wall", "person", "chair", "flag")
        assert ade20k.CLASSES.ids.tolist() == list(range(1, 151))

    def test_split_must_be_chosen(self, ade: Path) -> None:
        with pytest.raises(DatasetError, match=r"several splits \(training, validation\)"):
            load_dataset(ade)

    def test_inspect(self, ade: Path) -> None:
        survey, _ = survey_folder(ade)
        assert (survey.format, survey.masked, survey.images) == ("ade20k", 4, 4)
        assert survey.oddities == ()

    def test_an_unknown_id(self, ade: Path) -> None:
        path = ade / "ADEChallengeData2016/annotations/training/ADE_train_00000001.png"
        write_mask(path, [[0, 151, 1]])
        with pytest.raises(MaskError, match=r"holds class id 151, but the class map has ids 1\.\.150"):
            load_dataset(ade, split="training").samples[0].labels.read()

    def test_other_names_are_a_plain_folder(self, tmp_path: Path, picture: MakeImage) -> None:
        for split in ("training", "validation"):
            picture(tmp_path / "images" / split / "1.jpg", 1, 2)
            write_mask(tmp_path / "annotations" / split / "1.png", [[0, 1]])
        assert load_dataset(tmp_path, split="training").format == "folder"
