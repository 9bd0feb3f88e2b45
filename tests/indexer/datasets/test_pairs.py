"""Masks that are named by a rule, and two folders that may be called anything."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from retrieval.errors import ConfigError, DatasetError, MaskError


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2)).save(path)
    return path


def mask(path: Path, values: object = ((0, 1, 2), (0, 1, 2))) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)
    return path


def fill(root: Path, images: Sequence[str], masks: Sequence[str], folders: str = "images masks") -> Path:
    """Photos and masks of these names (without ending) in two folders."""
    places = [root / folder for folder in folders.split()]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    for name in images:
        photo(places[0] / f"{name}.jpg")
    for name in masks:
        mask(places[1] / f"{name}.png")
    return root


def pairs(dataset: Dataset) -> dict[str, str]:
    """The names of masks by sample id; all can be read."""
    dataset.check_files()
    return {sample.id: Path(sample.labels.name).stem for sample in dataset.samples}


class TestRules:
    @pytest.mark.parametrize(
        ("image", "name"),
        [
            *(("{}", rule) for rule in ("{}_mask", "{}_seg", "{}_label", "{}-mask", "{}_gt", "{}_labelIds")),
            *(
                ("{}", rule)
                for rule in ("{}_L", "{}_P", "{}.mask", "{} mask", "{}_gtFine_labelIds", "{}Mask")
            ),
            *(("{}", rule) for rule in ("mask_{}", "gt_{}", "label-{}", "seg_{}")),
            ("{}_leftImg8bit", "{}_gtFine_labelIds"),
            ("{}_sat", "{}_mask"),
            ("{}_img", "{}_seg"),
            ("{}_0000", "{}"),
            ("image_{}", "mask_{}"),
            ("img{}", "mask{}"),
            ("img-{}", "{}_label"),
        ],
    )
    @pytest.mark.parametrize("folder", ["", "sub/"])
    def test_one_rule_for_all(
        self, tmp_path: Path, image: str, name: str, folder: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        numbers = ("007", "1", "12", "120")
        images = [folder + image.format(n) for n in numbers]
        fill(tmp_path, images, [folder + name.format(n) for n in numbers])
        with caplog.at_level(logging.INFO, "mycelia"):
            dataset = load_dataset(tmp_path)
        found = pairs(dataset)
        assert {Path(id).name: stem for id, stem in found.items()} == {
            image.format(n): name.format(n) for n in numbers
        }
        rule = f"{name.format('NAME')} for {image.format('NAME')}, 4 of 4 images"
        assert dataset.notes == (f"masks are named by the rule {rule}",)
        assert rule in caplog.text

    def test_the_longest_image_gets_the_mask(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "a_b"], ["a_mask", "a_b_mask"])
        assert pairs(load_dataset(tmp_path)) == {"a": "a_mask", "a_b": "a_b_mask"}

    def test_equal_names_come_first(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "a_mask"], ["a", "a_mask"])
        dataset = load_dataset(tmp_path)
        assert pairs(dataset) == {"a": "a", "a_mask": "a_mask"}
        assert dataset.notes == ()

    def test_copies_to_look_at_give_way(self, tmp_path: Path) -> None:
        rules = ("_gtFine_labelIds", "_gtFine_color", "_gtFine_instanceIds")
        fill(tmp_path, ["a", "b"], [name + rule for name in "ab" for rule in rules])
        assert pairs(load_dataset(tmp_path)) == {"a": "a_gtFine_labelIds", "b": "b_gtFine_labelIds"}

    @pytest.mark.parametrize("masks", [["a_mask", "b_seg"], ["a", "b_mask"], ["a_mask", "a_seg", "b_mask"]])
    def test_several_rules_are_refused(self, tmp_path: Path, masks: list[str]) -> None:
        fill(tmp_path, ["a", "b"], masks)
        with pytest.raises(
            DatasetError, match=r"named by several rules \(.*NAME_mask for NAME.*name all by one"
        ):
            load_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("images", "masks"), [(["a", "b"], ["x", "y"]), (["1", "2"], ["10", "20"]), (["a1"], ["a12"])]
    )
    def test_names_that_do_not_fit(self, tmp_path: Path, images: list[str], masks: list[str]) -> None:
        fill(tmp_path, images, masks)
        with pytest.raises(DatasetError, match="has a mask with the same name"):
            load_dataset(tmp_path)

    def test_file_names_with_a_second_ending(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "b"], ["a.jpg", "b.JPG"])
        (tmp_path / "images" / "b.jpg").rename(tmp_path / "images" / "b.JPG")
        dataset = load_dataset(tmp_path)
        assert pairs(dataset) == {"a": "a.jpg", "b": "b.JPG"}
        assert dataset.notes == ("masks are named by the image's file name",)

    def test_names_in_another_case(self, tmp_path: Path) -> None:
        fill(tmp_path, ["IMG_1", "IMG_2"], ["img_1", "img_2"])
        assert pairs(load_dataset(tmp_path)) == {"IMG_1": "img_1", "IMG_2": "img_2"}

    def test_what_has_no_partner(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "b", "lonely"], ["a_mask", "b_mask", "c_mask"])
        dataset = load_dataset(tmp_path)
        assert dataset.notes[-1] == "1 mask has no image: c_mask.png"
        with pytest.raises(MaskError, match=r"lonely\.jpg has no mask"):
            dataset.check_files()

    def test_in_pascal_voc(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "b"], ["a_mask", "b_mask"], "JPEGImages SegmentationClass")
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("b\na\n")
        assert pairs(load_dataset(tmp_path)) == {"b": "b_mask", "a": "a_mask"}

    def test_lists_that_name_both(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a", "b"], ["a_mask", "b_mask"], "images labels")
        (tmp_path / "train.txt").write_text("images/b.jpg labels/b_mask.png\n")
        assert pairs(load_dataset(tmp_path, split="train")) == {"b": "b_mask"}


class TestTwoFolders:
    @pytest.mark.parametrize(
        "folders",
        [
            *("img ann", "images labels", "imgs masks", "image mask", "rgb gt", "Images Masks", "images gt"),
            *("JPEGImages SegmentationClass", "JPEGImages SegmentationClassPNG", "images annotations"),
            *(
                "leftImg8bit gtFine",
                "CameraRGB CameraSeg",
                "photos groundtruth",
                "frames masks",
                "inputs targets",
            ),
            *(
                "original_images label_images_semantic",
                "png_images png_masks",
                "CXR_png masks",
                "color label",
            ),
            *("input ground_truth", "src seg"),
        ],
    )
    def test_taken_by_their_names(self, tmp_path: Path, folders: str) -> None:
        root = fill(tmp_path / "set", ["a", "b"], ["a", "b"], folders)
        dataset = load_dataset(root)
        assert (dataset.format, dataset.root, dataset.split) == ("folder", root, None)
        assert pairs(dataset) == {"a": "a", "b": "b"}
        image, labels = folders.split()
        assert dataset.notes == (f"images and masks, by the names of the folders: {image}/ with {labels}/",)
        assert load_dataset(root, format="folder").samples == dataset.samples
        assert pairs(load_dataset(tmp_path)) == {"a": "a", "b": "b"}

    @pytest.mark.parametrize("masks", ["SegmentationClassPNG", "SegmentationClass"])
    def test_labelme2voc(self, tmp_path: Path, masks: str) -> None:
        fill(tmp_path, ["a", "b"], ["a", "b"], f"JPEGImages {masks}")
        npy = "SegmentationClass" if masks != "SegmentationClass" else "SegmentationClassNpy"
        (tmp_path / npy).mkdir()
        np.save(tmp_path / npy / "a.npy", np.zeros((2, 3)))
        photo(tmp_path / "SegmentationClassVisualization" / "a.jpg")
        mask(tmp_path / "SegmentationObjectPNG" / "a.png")
        (tmp_path / "class_names.txt").write_text("_background_\ncat\ndog\n")
        assert pairs(load_dataset(tmp_path)) == {"a": "a", "b": "b"}

    def test_splits_around_the_folders(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", ["a"], ["a_mask"], "img masks")
        fill(tmp_path / "val", ["a"], ["a_mask"], "img masks")
        for split in ("train", "val"):
            assert pairs(load_dataset(tmp_path, split=split)) == {"a": "a_mask"}
        with pytest.raises(DatasetError, match=r"several splits \(train, val\)"):
            load_dataset(tmp_path)

    def test_several_data_sets_are_no_splits(self, tmp_path: Path) -> None:
        for name in ("cats", "dogs"):
            fill(tmp_path / name, [name], [name], "img masks")
        with pytest.raises(DatasetError, match=r"several data sets \(cats, dogs\); name one of them"):
            load_dataset(tmp_path)

    def test_splits_in_the_folders(self, tmp_path: Path) -> None:
        for split in ("training", "validation"):
            fill(tmp_path, ["a"], ["a"], f"images/{split} annotations/{split}")
        assert pairs(load_dataset(tmp_path, split="validation")) == {"a": "a"}

    @pytest.mark.parametrize("form", ["{}_images {}_masks", "{} {}_labels", "{}Images {}Masks", "{} {}annot"])
    def test_splits_in_the_names_of_folders(self, tmp_path: Path, form: str) -> None:
        for split in ("train", "val"):
            fill(tmp_path, [f"{split}1"], [f"{split}1"], form.format(split, split))
        assert pairs(load_dataset(tmp_path, split="val")) == {"val1": "val1"}

    def test_a_linked_split(self, tmp_path: Path) -> None:
        store = fill(tmp_path / "store", ["a"], ["a"])
        for folder in ("images", "masks"):
            (tmp_path / "data" / folder).mkdir(parents=True)
            (tmp_path / "data" / folder / "train").symlink_to(store / folder)
        assert pairs(load_dataset(tmp_path / "data", split="train")) == {"a": "a"}

    def test_defects_as_mvtec_has_them(self, tmp_path: Path) -> None:
        root = tmp_path / "bottle"
        for place in ("train/good/0", "test/good/0", "test/crack/0", "test/crack/1", "test/hole/0"):
            photo(root / f"{place}.png")
        for place in ("crack/0", "crack/1", "hole/0"):
            mask(root / "ground_truth" / f"{place}_mask.png")
        for path in (root, tmp_path):
            dataset = load_dataset(path, split="test")
            labels = {sample.id: Path(sample.labels.name).name for sample in dataset.samples}
            assert labels.pop("good/0") == "0.png"  # named as an image without labels
            assert labels == {"crack/0": "0_mask.png", "crack/1": "1_mask.png", "hole/0": "0_mask.png"}
            assert not any("no image" in note for note in dataset.notes)
        with pytest.raises(MaskError, match=r"good/0\.png has no mask"):
            dataset.check_files()

    def test_a_folder_linked_to_nothing(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], ["a"])
        (tmp_path / "masks").rename(tmp_path / "gone")
        (tmp_path / "masks").symlink_to("/nowhere")
        with pytest.raises(DatasetError, match=r"masks leads to /nowhere, where nothing is"):
            load_dataset(tmp_path)

    def test_two_that_fit_are_named_with_the_options(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], ["a"], "img masks")
        mask(tmp_path / "labels" / "a.png", [[0, 3, 4]] * 2)
        with pytest.raises(
            DatasetError, match=r"img with labels, img with masks; .*--images img --masks labels"
        ):
            load_dataset(tmp_path)
        given = load_dataset(tmp_path, images="img", masks="labels")
        assert given.classes.ids.tolist() == [0, 3, 4]
        assert pairs(load_dataset(tmp_path, masks="masks")) == {"a": "a"}

    def test_names_that_say_nothing(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], ["a"], "one two")
        with pytest.raises(
            DatasetError, match=r"folders with images: one/, two/; .*--images one --masks two"
        ):
            load_dataset(tmp_path)
        assert pairs(load_dataset(tmp_path, images=tmp_path / "one", masks="two")) == {"a": "a"}

    def test_labels_that_are_no_pictures(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], [], "images labels")
        (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
        with pytest.raises(DatasetError, match="no layout that is known here"):
            load_dataset(tmp_path)

    def test_options_that_name_nothing(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], ["a"], "img masks")
        with pytest.raises(
            DatasetError, match=r"--masks names .*lost, which does not exist; .* holds img, masks"
        ):
            load_dataset(tmp_path, masks="lost")
        with pytest.raises(DatasetError, match="cannot hold both the images and the masks"):
            load_dataset(tmp_path, images="img", masks="./img")
        with pytest.raises(ConfigError, match="drop --format voc"):
            load_dataset(tmp_path, masks="masks", format="voc")

    def test_images_and_masks_stay_first(self, tmp_path: Path) -> None:
        fill(tmp_path, ["a"], ["a"])
        fill(tmp_path, ["a"], ["a"], "img labels")
        assert load_dataset(tmp_path).samples[0].image == tmp_path / "images" / "a.jpg"


def test_what_is_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, ["a"], ["a"])
    for name in ("b.mov", "c.mov", "a.json"):
        (tmp_path / "images" / name).write_bytes(b"x")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    with caplog.at_level(logging.INFO, "mycelia"):
        dataset = load_dataset(tmp_path)
    assert dataset.left_out == ((".mov", 2), (".json", 1))
    assert f"left out of {tmp_path / 'images'}: 2 .mov, 1 .json" in caplog.text


def test_a_photo_beside_its_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexer.images import formats

    monkeypatch.setattr(formats, "_has_heif", lambda: True)
    fill(tmp_path, ["IMG_1"], ["IMG_1"])
    (tmp_path / "images" / "IMG_1.HEIC").write_bytes(b"x")
    dataset = load_dataset(tmp_path)
    assert [sample.image.name for sample in dataset.samples] == ["IMG_1.jpg"]
    assert "IMG_1.HEIC gives way to its copy" in dataset.notes[0]
