"""The plain folder: pairs, splits, every kind of mask, and classes.json with its mistakes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from indexer.datasets import Dataset, load_dataset
from indexer.datasets.masks import color_of_id
from retrieval.errors import DatasetError, MaskError

COLORED = {
    "classes": [
        {"id": 3, "name": "sky", "color": [10, 20, 30]},
        {"id": 7, "name": "road", "color": [40, 50, 60]},
    ],
    "ignore": [255, [255, 255, 255]],
}


def add(root: Path, id: str, mask: Any = None, *, mode: str | None = None) -> Path:
    """Put an image and its mask (a Pillow image or values) into a folder data set."""
    image = mask if isinstance(mask, Image.Image) else None
    if image is None:
        values = np.asarray([[0, 1, 2]] * 2 if mask is None else mask)
        image = Image.fromarray(values if values.dtype == np.uint16 else values.astype(np.uint8))
    if mode is not None:
        image = image.convert(mode)
    paths = (root / "images" / f"{id}.png", root / "masks" / f"{id}.png")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", image.size).save(paths[0])
    image.save(paths[1])
    return paths[1]


def write_classes(root: Path, data: object) -> None:
    """Write classes.json, from data or from text."""
    (root / "classes.json").write_text(data if isinstance(data, str) else json.dumps(data))


def ids(dataset: Dataset) -> list[str]:
    """Sample ids in order."""
    return [sample.id for sample in dataset.samples]


def first_mask(root: Path) -> list[int]:
    """The class columns in the first row of the first mask."""
    dataset = load_dataset(root)
    row: list[int] = dataset.read(dataset.samples[0])[1][0].tolist()
    return row


class TestPairs:
    def test_sorted_and_named(self, tmp_path: Path) -> None:
        for id in ("b", "a.v2", "sub/c"):
            add(tmp_path, id)
        dataset = load_dataset(tmp_path)
        assert ids(dataset) == ["a.v2", "b", "sub/c"]
        assert (dataset.format, dataset.name, dataset.split) == ("folder", tmp_path.name, None)
        dataset.check_files()

    def test_suffixes_may_differ(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        Image.new("RGB", (3, 2)).save(tmp_path / "images" / "a.JPG")
        (tmp_path / "images" / "a.png").unlink()
        assert first_mask(tmp_path) == [0, 1, 2]

    def test_image_without_mask_is_named(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        add(tmp_path, "lonely").unlink()
        dataset = load_dataset(tmp_path)
        for look in (dataset.check_files, lambda: dataset.read(dataset.samples[1])):
            with pytest.raises(MaskError, match=r"lonely\.png has no mask"):
                look()

    def test_no_mask_fits(self, tmp_path: Path) -> None:
        mask = add(tmp_path, "a")
        mask.rename(mask.with_name("b.png"))
        with pytest.raises(DatasetError, match=r"no image of .* has a mask .*needs for example a\.png"):
            load_dataset(tmp_path)

    def test_two_images_with_one_id(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        Image.new("RGB", (3, 2)).save(tmp_path / "images" / "a.jpg")
        with pytest.raises(DatasetError, match=r"two files with the id 'a': a\.jpg and a\.png"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize("folder", ["images", "masks"])
    def test_empty(self, tmp_path: Path, folder: str) -> None:
        add(tmp_path, "a")
        (tmp_path / folder / "a.png").unlink()
        with pytest.raises(DatasetError, match=f"{folder} holds no images"):
            load_dataset(tmp_path)


class TestSplits:
    def test_subfolders(self, tmp_path: Path) -> None:
        for id in ("train/a", "train/city/b", "val/a"):
            add(tmp_path, id)
        assert ids(load_dataset(tmp_path, split="train")) == ["a", "city/b"]
        assert ids(load_dataset(tmp_path, split="val")) == ["a"]
        with pytest.raises(DatasetError, match=r"several splits \(train, val\)"):
            load_dataset(tmp_path)
        with pytest.raises(DatasetError, match="no split 'test'; its splits are: train, val"):
            load_dataset(tmp_path, split="test")

    @pytest.mark.parametrize("place", ["train.txt", "splits/train.txt"])
    def test_lists(self, tmp_path: Path, place: str) -> None:
        for id in ("a", "b", "c"):
            add(tmp_path, id)
        (tmp_path / "README.txt").write_text("A small data set.\n")
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("# order kept\nc\na.png\n")
        assert ids(load_dataset(tmp_path)) == ["c", "a"]  # the only split
        assert ids(load_dataset(tmp_path, split="train")) == ["c", "a"]

    def test_list_of_any_name(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        add(tmp_path, "b")
        (tmp_path / "fold1.txt").write_text("images/b.png\n")
        assert ids(load_dataset(tmp_path, split="fold1")) == ["b"]

    def test_list_over_subfolders(self, tmp_path: Path) -> None:
        for id in ("train/a", "train/b", "val/c"):
            add(tmp_path, id)
        (tmp_path / "train.txt").write_text("b\n")
        assert ids(load_dataset(tmp_path, split="train")) == ["train/b"]
        assert ids(load_dataset(tmp_path, split="val")) == ["c"]

    def test_list_with_an_unknown_id(self, tmp_path: Path) -> None:
        add(tmp_path, "street_01")
        (tmp_path / "train.txt").write_text("street_01\nstreet_02\n")
        with pytest.raises(DatasetError, match=r"line 2: .*'street_02'.*did you mean 'street_01'"):
            load_dataset(tmp_path)

    def test_repeated_id(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        (tmp_path / "train.txt").write_text("a\na.png\n")
        with pytest.raises(DatasetError, match=r"train\.txt has two images with the id 'a'"):
            load_dataset(tmp_path)

    def test_empty_list(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        (tmp_path / "val.txt").write_text("\n")
        with pytest.raises(DatasetError, match=r"val\.txt holds no samples"):
            load_dataset(tmp_path)

    def test_split_where_there_are_none(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        with pytest.raises(DatasetError, match=r"has no splits .*leave --split out"):
            load_dataset(tmp_path, split="val")


class TestFoundClasses:
    def test_ids_of_all_splits(self, tmp_path: Path) -> None:
        add(tmp_path, "train/a", [[0, 5, 255]])
        add(tmp_path, "val/b", [[9, 9, 0]])
        for split in ("train", "val"):
            classes = load_dataset(tmp_path, split=split).classes
            assert classes.ids.tolist() == [0, 5, 9]
            assert classes.names == ("class_0", "class_5", "class_9")
            assert classes.ignore == (255,)
            assert [info.color for info in classes.classes] == [color_of_id(id) for id in (0, 5, 9)]

    def test_colours_of_the_palette(self, tmp_path: Path) -> None:
        image = Image.fromarray(np.array([[0, 1, 1]], dtype=np.uint8), "P")
        image.putpalette([9, 8, 7, 1, 2, 3])
        add(tmp_path, "a", image)
        assert [info.color for info in load_dataset(tmp_path).classes.classes] == [(9, 8, 7), (1, 2, 3)]
        assert first_mask(tmp_path) == [0, 1, 1]

    def test_an_unreadable_mask_waits_for_its_turn(self, tmp_path: Path) -> None:
        add(tmp_path, "a").write_bytes(b"broken")
        with pytest.raises(MaskError, match=r"a\.png is not an image"):
            load_dataset(tmp_path)
        add(tmp_path, "b")
        dataset = load_dataset(tmp_path)
        assert len(dataset.classes) == 3
        with pytest.raises(MaskError, match=r"a\.png is not an image"):
            dataset.read(dataset.samples[0])

    def test_colours_need_a_class_file(self, tmp_path: Path) -> None:
        add(tmp_path, "a", np.zeros((2, 2, 3)))
        with pytest.raises(DatasetError, match=r"a\.png holds RGB colours; say in .*classes\.json"):
            load_dataset(tmp_path)

    @pytest.mark.parametrize("values", [[[0, 255]], [[255, 255]]])
    def test_black_and_white_needs_a_class_file(self, tmp_path: Path, values: list[list[int]]) -> None:
        add(tmp_path, "a", values)
        with pytest.raises(DatasetError, match="255 means unlabelled"):
            load_dataset(tmp_path)
        write_classes(tmp_path, {"classes": [{"id": 0, "name": "no"}, {"id": 255, "name": "yes"}]})
        assert first_mask(tmp_path) == [value // 255 for value in values[0]]

    def test_ids_that_cannot_be(self, tmp_path: Path) -> None:
        mask = add(tmp_path, "a")
        mask.unlink()
        Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)).save(mask.with_suffix(".tif"))
        with pytest.raises(DatasetError, match=r"outside 0\.\.65535"):
            load_dataset(tmp_path)


class TestMasks:
    def test_sixteen_bits(self, tmp_path: Path) -> None:
        add(tmp_path, "a", np.array([[0, 300, 65535]], dtype=np.uint16))
        write_classes(
            tmp_path, {"classes": [{"id": 300, "name": "x"}, {"id": 0, "name": "y"}], "ignore": 65535}
        )
        assert first_mask(tmp_path) == [1, 0, -1]

    @pytest.mark.parametrize("bits", [2, 4])
    def test_few_bits_are_not_stretched(self, tmp_path: Path, bits: int) -> None:
        add(tmp_path, "a")
        row = np.packbits(np.unpackbits(np.array([[0], [1], [3]], dtype=np.uint8), axis=1)[:, -bits:].ravel())
        with (tmp_path / "masks" / "a.png").open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            PngImagePlugin.putchunk(file, b"IHDR", bytes([0, 0, 0, 3, 0, 0, 0, 2, bits, 0, 0, 0, 0]))
            PngImagePlugin.putchunk(file, b"IDAT", zlib.compress((b"\0" + row.tobytes()) * 2))
            PngImagePlugin.putchunk(file, b"IEND", b"")
        write_classes(tmp_path, {"names": ["a", "b", "c", "d"]})
        assert first_mask(tmp_path) == [0, 1, 3]

    def test_one_bit(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[0, 255, 0]], mode="1")
        assert first_mask(tmp_path) == [0, 1, 0]

    def test_colours_exactly(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[(40, 50, 60), (10, 20, 30), (255, 255, 255)]])
        write_classes(tmp_path, COLORED)
        assert first_mask(tmp_path) == [1, 0, -1]

    def test_colours_with_opaque_alpha(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[(40, 50, 60), (10, 20, 30)]], mode="RGBA")
        write_classes(tmp_path, COLORED)
        assert first_mask(tmp_path) == [1, 0]

    def test_grey_with_opaque_alpha(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[3, 7]], mode="LA")
        write_classes(tmp_path, COLORED)
        assert first_mask(tmp_path) == [0, 1]

    def test_unknown_colour_is_named_with_its_place(self, tmp_path: Path) -> None:
        pixels = np.full((4, 5, 3), (10, 20, 30))
        pixels[2, 3] = (10, 20, 31)
        pixels[3, 0] = (1, 1, 1)
        add(tmp_path, "a", pixels)
        write_classes(tmp_path, COLORED)
        with pytest.raises(MaskError, match=r"a\.png has the colour \(10, 20, 31\) at row 2, col 3"):
            first_mask(tmp_path)

    def test_one_colour_for_two_classes(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[(1, 2, 3)]])
        write_classes(tmp_path, {"names": ["x", "y"], "colors": [[1, 2, 3], [1, 2, 3]]})
        with pytest.raises(MaskError, match=r"two classes share the colour \(1, 2, 3\)"):
            first_mask(tmp_path)
        add(tmp_path, "a", [[0, 1]])  # class ids do not mind
        assert first_mask(tmp_path) == [0, 1]

    def test_colours_without_colours_in_the_class_file(self, tmp_path: Path) -> None:
        add(tmp_path, "a", np.zeros((1, 1, 3)))
        write_classes(tmp_path, {"names": ["x", "y"]})
        with pytest.raises(MaskError, match=r"give the colours in classes\.json"):
            first_mask(tmp_path)

    def test_unknown_id(self, tmp_path: Path) -> None:
        add(tmp_path, "a", [[3, 8]])
        write_classes(tmp_path, COLORED)
        with pytest.raises(MaskError, match=r"a\.png holds class id 8"):
            first_mask(tmp_path)

    def test_transparent(self, tmp_path: Path) -> None:
        add(tmp_path, "a", Image.new("RGBA", (2, 2), (10, 20, 30, 128)))
        write_classes(tmp_path, COLORED)
        with pytest.raises(MaskError, match="transparent"):
            first_mask(tmp_path)

    def test_jpeg(self, tmp_path: Path) -> None:
        mask = add(tmp_path, "a")
        Image.open(mask).save(mask.with_suffix(".jpg"))
        mask.unlink()
        with pytest.raises(MaskError, match=r"a\.jpg is a JPEG, whose compression changes class ids"):
            load_dataset(tmp_path)

    def test_other_colour_modes(self, tmp_path: Path) -> None:
        mask = add(tmp_path, "a")
        mask.unlink()
        Image.new("CMYK", (3, 2)).save(mask.with_suffix(".tif"))
        with pytest.raises(MaskError, match="colour mode CMYK"):
            load_dataset(tmp_path)

    def test_truncated(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 9, (90, 90))
        mask = add(tmp_path, "a", noise)
        mask.write_bytes(mask.read_bytes()[:1000])
        with pytest.raises(MaskError, match=r"a\.png is truncated or damaged"):
            load_dataset(tmp_path)


class TestClassFile:
    def load(self, root: Path, data: object) -> Dataset:
        add(root, "a", [[0, 0, 0]])
        write_classes(root, data)
        return load_dataset(root)

    def test_long_form(self, tmp_path: Path) -> None:
        classes = self.load(tmp_path, COLORED).classes
        assert classes.ids.tolist() == [3, 7]
        assert classes.names == ("sky", "road")
        assert classes.classes[1].color == (40, 50, 60)
        assert classes.ignore == (255,)

    def test_round_trip_of_our_own_form(self, tmp_path: Path) -> None:
        data = self.load(tmp_path, COLORED).classes.to_json()
        assert self.load(tmp_path, data).classes.to_json() == data

    def test_short_form(self, tmp_path: Path) -> None:
        classes = self.load(
            tmp_path, {"names": ["x", "y"], "colors": [[1, 2, 3], [4, 5, 6]], "ignore": 9}
        ).classes
        assert classes.ids.tolist() == [0, 1]
        assert [info.color for info in classes.classes] == [(1, 2, 3), (4, 5, 6)]
        assert classes.ignore == (9,)

    def test_colours_left_out(self, tmp_path: Path) -> None:
        short = self.load(tmp_path, {"names": ["x", "y"]}).classes
        long = self.load(tmp_path, {"classes": [{"id": 0, "name": "x"}, {"id": 1, "name": "y"}]}).classes
        assert short == long
        assert [info.color for info in long.classes] == [color_of_id(0), color_of_id(1)]

    @pytest.mark.parametrize(
        ("given", "expected"), [({}, (255,)), ({"ignore": []}, ()), ({"ignore": [4, 4]}, (4,))]
    )
    def test_ignore(self, tmp_path: Path, given: dict[str, Any], expected: tuple[int, ...]) -> None:
        assert self.load(tmp_path, {"names": ["x"], **given}).classes.ignore == expected

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            ("{", "is not JSON"),
            ([], "expected an object"),
            ({}, 'either "classes" or "names"'),
            ({"classes": [], "names": []}, 'either "classes" or "names"'),
            ({"classes": []}, "at least one entry"),
            ({"names": "sky"}, '"names" must be a list'),
            ({"names": ["x"], "ignored": 3}, "unknown key 'ignored'; did you mean 'ignore'"),
            ({"names": ["x"], "zzz": 3}, "unknown key 'zzz'; known are colors, ignore, names"),
            ({"classes": ["sky"]}, "class number 0 must be an object"),
            ({"classes": [{"id": 0}]}, "class number 0 must be an object"),
            ({"classes": [{"id": 0, "name": "x", "colour": [0, 0, 0]}]}, "did you mean 'color'"),
            ({"classes": [{"id": "0", "name": "x"}]}, "has the id '0'"),
            ({"classes": [{"id": True, "name": "x"}]}, "has the id True"),
            ({"classes": [{"id": -1, "name": "x"}]}, "has the id -1"),
            ({"classes": [{"id": 65536, "name": "x"}]}, "has the id 65536"),
            ({"classes": [{"id": 0, "name": " "}]}, "has the name ' '"),
            ({"names": ["x", 3]}, "name number 1 has the name 3"),
            ({"names": ["x", "x"]}, "two classes have the name 'x'"),
            ({"classes": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]}, "'x' and 'y' share the id 1"),
            ({"names": ["x"], "colors": [[0, 0, 0], [1, 1, 1]]}, "1 names but 2 colors"),
            ({"names": ["x"], "colors": [[0, 0]]}, r"has the color \[0, 0\]"),
            ({"names": ["x"], "colors": [[0, 0, 256]]}, r"has the color \[0, 0, 256\]"),
            ({"names": ["x"], "colors": ["red"]}, "has the color 'red'"),
            ({"names": ["x"], "ignore": "void"}, "has the id 'void'"),
            ({"names": ["x", "y"], "ignore": [1]}, "id 1 is a class and also under ignore"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, data: object, problem: str) -> None:
        with pytest.raises(DatasetError, match=problem) as caught:
            self.load(tmp_path, data)
        assert str(tmp_path / "classes.json") in str(caught.value)

    def test_not_a_text_file(self, tmp_path: Path) -> None:
        add(tmp_path, "a")
        (tmp_path / "classes.json").mkdir()
        with pytest.raises(DatasetError, match=r"classes\.json cannot be read"):
            load_dataset(tmp_path)
