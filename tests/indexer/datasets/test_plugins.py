"""Layouts that other installed packages bring, with labels that are no mask files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import build_index
from indexer.datasets import load_dataset
from indexer.recipe import Recipe
from retrieval import open_index, read_images
from retrieval.errors import ConfigError, DatasetError, MaskError

Install = Callable[[str, str, str], None]

#: Images named in toy.json, each with its class or with a polygon of corners (row, col) and a class.
TOY = """
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from indexer.datasets import Dataset, Layout, Sample, SourceKey
from indexer.images import read_image
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import MaskError

CLASSES = ClassMap((ClassInfo(0, "cat", (255, 0, 0)), ClassInfo(1, "dog", (0, 255, 0))))


@dataclass(frozen=True)
class Entry:
    image: Path
    entry: str

    @property
    def name(self):
        return f"toy.json ({self.image.name})"

    def check(self):
        if not json.loads(self.entry):
            raise MaskError(f"toy.json says nothing of {self.image.name}; add its class")

    def read(self):
        self.check()
        entry = json.loads(self.entry)
        height, width = read_image(self.image).shape[:2]
        if "polygon" not in entry:
            return np.full((height, width), entry["class"], np.int32)
        drawn = Image.new("I", (width, height), -1)
        ImageDraw.Draw(drawn).polygon([(col, row) for row, col in entry["polygon"]], fill=entry["class"])
        return np.array(drawn, np.int32)

    def key(self, known=None):
        return SourceKey.of_bytes(self.name, self.entry.encode())


def load(root, split):
    entries = json.loads((root / "toy.json").read_text())
    samples = tuple(
        Sample(name, root / name, Entry(root / name, json.dumps(entry))) for name, entry in entries.items()
    )
    return Dataset(root.name, "toy", root, split, samples, CLASSES)


def find(path):
    return path if (path / "toy.json").is_file() else None


PLUGIN = Layout("toy", "toy.json beside images", find, load)
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    root = tmp_path / "toy"
    root.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 255, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(root / f"{number}.png")
    write_toy(root, {"polygon": [[0, 0], [0, 31], [47, 31], [47, 0]], "class": 1})
    return root


def write_toy(root: Path, third: dict[str, object]) -> None:
    entries = {"0.png": {"class": 0}, "1.png": {"class": 1}, "2.png": third}
    (root / "toy.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("format", ["toy", "auto"])
def test_a_layout_of_another_package_builds_an_index(
    format: str, install: Install, toy: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    install("toy", "mycelia.datasets", TOY)
    dataset = load_dataset(toy, format=format)
    assert dataset.format == "toy"
    dataset.check_files()
    build_index(dataset, tmp_path / "x", recipe=tiny_recipe("bank.max_patches=null", "index.engine=exact"))
    with open_index(tmp_path / "x") as index:
        assert [info.name for info in index.classes.classes] == ["cat", "dog"]
    labels, patches = np.load(tmp_path / "x" / "labels.npy"), np.load(tmp_path / "x" / "patches.npy")
    assert (labels[patches[:, 0] == 0] == [255, 0]).all(), "a class of the whole image"
    assert (labels[patches[:, 0] == 1] == [0, 255]).all()
    third = patches[:, 0] == 2
    assert (labels[third] == [0, 255]).all(), "a polygon"
    assert set(patches[third, 2]) == {0, 1}, "of the left half"
    assert [record.patches for record in read_images(tmp_path / "x")] == [12, 12, 6]


def test_its_labels_are_checked_compared_and_measured_as_any(
    install: Install, toy: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    install("toy", "mycelia.datasets", TOY)
    before = load_dataset(toy, format="toy").samples[2].keys()
    write_toy(toy, {"class": 0})
    after = load_dataset(toy, format="toy").samples[2].keys(before)
    assert after.image == before.image and not after.labels.equals(before.labels)
    write_toy(toy, {})
    dataset = load_dataset(toy, format="toy")
    for look in (dataset.check_files, lambda: dataset.read(dataset.samples[2])):
        with pytest.raises(MaskError, match=r"toy\.json says nothing of 2\.png"):
            look()


def test_without_the_package_the_format_is_unknown(toy: Path) -> None:
    with pytest.raises(ConfigError, match="unknown data set format 'toy'; choose one of auto, voc, folder"):
        load_dataset(toy, format="toy")
    with pytest.raises(DatasetError, match="no layout that is known here"):
        load_dataset(toy)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_of_this_name", r"adds 'broken_a' to mycelia\.datasets cannot be loaded \(No module"),
        ("PLUGIN = 3", r"'broken_b' of mycelia\.datasets should be a Layout, not int"),
    ],
)
def test_a_broken_package_is_named_and_ours_still_work(
    source: str, message: str, install: Install, labelled_folder: Callable[..., object], tmp_path: Path
) -> None:
    labelled_folder(1)
    install("broken_a" if "import" in source else "broken_b", "mycelia.datasets", source)
    (tmp_path / "strange").mkdir()
    with pytest.raises(ConfigError, match=message):
        load_dataset(tmp_path / "strange")  # none of ours: the others are asked
    assert len(load_dataset(tmp_path / "data")) == len(load_dataset(tmp_path / "data", format="folder")) == 1
