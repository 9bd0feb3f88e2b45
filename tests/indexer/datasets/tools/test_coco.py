"""COCO: objects, stuff and panoptic labels."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.survey import survey_folder
from indexer.datasets.tools.coco_shapes import parse_counts
from retrieval.errors import DatasetError, MaskError, MissingExtraError

coco_mask = pytest.importorskip("pycocotools.mask")

MakeImage = Callable[..., Path]
Mutated = Callable[[Any], st.SearchStrategy[Any]]
Check = Callable[[Path, str], None]
BOX = [1, 1, 4, 1, 4, 4, 1, 4]


def valid() -> dict[str, Any]:
    """Two images: a box under a square, a crowd and run lengths in both forms; and one of nothing."""
    runs = np.zeros((6, 8), np.uint8)
    runs[5, 6:] = 1
    text = coco_mask.encode(np.asfortranarray(runs))["counts"].decode()
    shapes: list[dict[str, Any]] = [
        {"category_id": 3, "segmentation": [BOX]},
        {"category_id": 7, "segmentation": [[3, 3, 6, 3, 6, 6, 3, 6]], "iscrowd": 0},
        {"category_id": 3, "segmentation": {"size": [6, 8], "counts": [0, 3, 45]}, "iscrowd": 1},
        {"category_id": 7, "segmentation": {"size": [6, 8], "counts": text}},
    ]
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "height": 6, "width": 8},
            {"id": 2, "file_name": "b.png", "height": 6, "width": 8},
        ],
        "annotations": [{"id": n, "image_id": 1, **shape} for n, shape in enumerate(shapes, start=1)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }


def write(root: Path, data: object, name: str = "annotations/instances_train2017.json") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.fixture
def root(tmp_path: Path, picture: MakeImage) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / "train2017" / f"{name}.png")
    write(tmp_path, valid())
    return tmp_path


class TestObjects:
    def test_is_recognised(self, root: Path) -> None:
        dataset = load_dataset(root)
        assert (dataset.format, dataset.split) == ("coco", "train2017")
        assert [sample.id for sample in dataset.samples] == ["a", "b"]
        assert [(info.id, info.name) for info in dataset.classes.classes] == [
            (0, "background"),
            (3, "cat"),
            (7, "dog"),
        ]

    def test_draws_later_over_earlier_and_crowds_below(self, root: Path) -> None:
        dataset = load_dataset(root)
        expected = np.zeros((6, 8), int)
        expected[:3, 0] = -1
        expected[1:4, 1:4] = 1
        expected[3:6, 3:6] = 2
        expected[5, 6:] = 2
        assert (dataset.read(dataset.samples[0])[1] == expected).all()
        assert (dataset.read(dataset.samples[1])[1] == 0).all()

    @pytest.mark.parametrize("seed", range(3))
    def test_polygons_are_those_of_pycocotools(self, root: Path, seed: int) -> None:
        data = valid()
        rings = (np.random.default_rng(seed).random((2, 10)) * 8).tolist()
        data["annotations"] = [{"image_id": 1, "category_id": 7, "segmentation": rings}]
        write(root, data)
        dataset = load_dataset(root)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own
            expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(rings, 6, 8))) * 2
        assert expected.any()
        assert (dataset.read_mask(dataset.samples[0]) == expected).all()

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
    def test_run_lengths_are_those_of_pycocotools(self, seed: int, height: int, width: int) -> None:
        rng = np.random.default_rng(seed)
        mask = np.asfortranarray(np.sort(rng.random((height, width)), axis=seed % 2) > rng.random(), np.uint8)
        counts = parse_counts(coco_mask.encode(mask)["counts"].decode())
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        assert (flat == mask.ravel(order="F")).all()

    def test_one_annotation_changes_one_key(self, root: Path) -> None:
        before = [sample.labels.key() for sample in load_dataset(root).samples]
        data = valid()
        data["annotations"].append({"image_id": 2, "category_id": 3, "segmentation": [BOX]})
        write(root, data)
        after = [sample.labels.key() for sample in load_dataset(root).samples]
        assert [one.equals(other) for one, other in zip(before, after, strict=True)] == [True, False]

    def test_category_zero_moves_all_by_one(self, root: Path) -> None:
        data = valid()
        data["categories"] = [{"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}]
        data["annotations"] = [{"image_id": 1, "category_id": 0, "segmentation": [BOX]}]
        write(root, data)
        dataset = load_dataset(root)
        assert [info.id for info in dataset.classes.classes] == [0, 1, 2]
        assert dataset.read_mask(dataset.samples[0])[1, 1] == 1

    def test_a_class_file_without_background_leaves_the_rest_unlabelled(self, root: Path) -> None:
        (root / "classes.json").write_text('["dog", "cat"]')
        dataset = load_dataset(root)
        (root / "classes.json").write_text('{"names": ["dog", "cat"]}')
        dataset = load_dataset(root)
        assert dataset.read_mask(dataset.samples[0])[1, 1:3].tolist() == [1, 1]
        assert (dataset.read_mask(dataset.samples[1]) == -1).all()

    def test_splits_of_roboflow(self, tmp_path: Path, picture: MakeImage) -> None:
        for split in ("train", "valid"):
            for name in ("a", "b"):
                picture(tmp_path / split / f"{name}.png")
            write(tmp_path, valid(), f"{split}/_annotations.coco.json")
        dataset = load_dataset(tmp_path, split="valid")
        assert dataset.samples[0].image == tmp_path / "valid" / "a.png"
        with pytest.raises(DatasetError, match=r"several splits \(train, valid\)"):
            load_dataset(tmp_path)

    def test_one_file_needs_no_split(self, tmp_path: Path, picture: MakeImage) -> None:
        picture(tmp_path / "images" / "a.png")
        picture(tmp_path / "images" / "b.png")
        write(tmp_path, valid(), "result.json")
        dataset = load_dataset(tmp_path)
        assert dataset.split is None
        assert dataset.read(dataset.samples[0])[1][1, 1] == 1

    def test_inspect(self, root: Path) -> None:
        survey, _ = survey_folder(root)
        assert survey.format == "coco"
        assert [found.images for found in survey.classes] == [2, 1, 1]
        assert survey.oddities == ()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"segmentation": []}, r"annotation 1 has no segmentation, only a box"),
            ({"category_id": 4}, r"annotation 1 has the label 4, which is no class"),
            ({"segmentation": [[0, 0, 9000, 0, 4, 4]]}, r"annotation 1 has corners far outside"),
            ({"segmentation": {"size": [6, 8], "counts": [5]}}, r"add up to 6 x 8 pixels"),
            (
                {"segmentation": {"size": [8, 6], "counts": [48]}},
                r"its size \[8, 6\] is not that of the image",
            ),
            ({"segmentation": {"size": [6, 8], "counts": "~"}}, r"hold the character '~'"),
            ({"segmentation": {"size": [6, 8], "counts": "P"}}, r"are cut off"),
        ],
    )
    def test_what_cannot_be_drawn(self, root: Path, change: dict[str, Any], message: str) -> None:
        data = valid()
        data["annotations"] = [{**data["annotations"][0], **change}]
        write(root, data)
        sample = load_dataset(root).samples[0]
        with pytest.raises(MaskError, match=r"instances_train2017\.json, image 'a\.png', .*" + message):
            sample.labels.read()

    def test_other_size(self, root: Path, picture: MakeImage) -> None:
        picture(root / "train2017" / "a.png", 8, 6)
        with pytest.raises(
            MaskError, match=r"height of 6 and a width of 8, but its image .* 8 high and 6 wide"
        ):
            load_dataset(root).samples[0].labels.read()

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("images", [{"id": 1}], r"image number 1 cannot be understood: it has no 'file_name'"),
            ("categories", {}, r"expected a list, found \{\}"),
            (
                "categories",
                [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
                r"two classes with the name 'a'",
            ),
            ("annotations", [3], r"annotation number 1 cannot be understood"),
        ],
    )
    def test_what_cannot_be_loaded(self, root: Path, key: str, value: object, message: str) -> None:
        write(root, {**valid(), key: value})
        with pytest.raises(DatasetError, match=message):
            load_dataset(root)

    def test_polygons_need_the_extra_and_run_lengths_do_not(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pycocotools", None)
        dataset = load_dataset(root)
        with pytest.raises(MissingExtraError, match=r"pip install 'mycelia\[coco\]'"):
            dataset.read_mask(dataset.samples[0])
        data = valid()
        data["annotations"] = data["annotations"][2:]
        write(root, data)
        dataset = load_dataset(root)
        assert dataset.read_mask(dataset.samples[0])[5].tolist() == [0, 0, 0, 0, 0, 0, 2, 2]

    def test_orphans_are_told(self, root: Path) -> None:
        data = valid()
        data["annotations"][0]["image_id"] = 99
        write(root, data)
        assert any("1 annotations of" in note for note in load_dataset(root).notes)

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_anything_else_is_refused(
        self, root: Path, mutated: Mutated, reads_or_refuses: Check, data: st.DataObject
    ) -> None:
        write(root, data.draw(mutated(valid())))
        reads_or_refuses(root, "coco")

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(0, len(json.dumps(valid())) - 1))
    def test_truncated(self, root: Path, cut: int) -> None:
        write(root, json.dumps(valid())[:cut])
        with pytest.raises(DatasetError, match=r"cannot be read as JSON|no layout that is known"):
            load_dataset(root, format="coco")


def test_stuff_has_no_background(root: Path) -> None:
    data = valid()
    data["annotations"] = data["annotations"][:1]
    (root / "annotations/instances_train2017.json").unlink()
    write(root, data, "annotations/stuff_train2017.json")
    dataset = load_dataset(root)
    assert (dataset.format, dataset.classes.names) == ("coco-stuff", ("cat", "dog"))
    assert dataset.read_mask(dataset.samples[0])[1].tolist() == [-1, 0, 0, 0, -1, -1, -1, -1]


class TestPanoptic:
    @staticmethod
    def valid() -> dict[str, Any]:
        segments = [
            {"id": 70000, "category_id": 3},
            {"id": 5, "category_id": 7},
            {"id": 300, "category_id": 7, "iscrowd": 1},
        ]
        return {
            "images": [{"id": 1, "file_name": "a.jpg"}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
            "categories": [{"id": 3, "name": "cat", "color": [1, 2, 3]}, {"id": 7, "name": "grass"}],
        }

    @pytest.fixture
    def root(self, tmp_path: Path, picture: MakeImage) -> Path:
        picture(tmp_path / "val2017" / "a.jpg", 1, 4)
        ids = np.array([[70000, 5, 300, 0]])
        colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=2).astype(np.uint8)
        (tmp_path / "annotations" / "panoptic_val2017").mkdir(parents=True)
        Image.fromarray(colors).save(tmp_path / "annotations" / "panoptic_val2017" / "a.png")
        write(tmp_path, self.valid(), "annotations/panoptic_val2017.json")
        return tmp_path

    def test_reads(self, root: Path) -> None:
        dataset = load_dataset(root)
        assert (dataset.format, dataset.split) == ("coco-panoptic", "val2017")
        assert dataset.classes.classes[0].color == (1, 2, 3)
        assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 1, -1, -1]]

    def test_key_is_of_segments_and_picture(self, root: Path) -> None:
        before = load_dataset(root).samples[0].labels.key()
        data = self.valid()
        data["annotations"][0]["segments_info"][1]["category_id"] = 3
        write(root, data, "annotations/panoptic_val2017.json")
        assert not load_dataset(root).samples[0].labels.key().equals(before)

    def test_unlisted_segment(self, root: Path) -> None:
        data = self.valid()
        del data["annotations"][0]["segments_info"][1]
        write(root, data, "annotations/panoptic_val2017.json")
        with pytest.raises(MaskError, match=r"holds the segment 5, which .* does not list"):
            load_dataset(root).samples[0].labels.read()

    def test_inspect(self, root: Path) -> None:
        survey, _ = survey_folder(root)
        assert (survey.format, survey.unlabelled) == ("coco-panoptic", 0.5)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_anything_else_is_refused(
        self, root: Path, mutated: Mutated, reads_or_refuses: Check, data: st.DataObject
    ) -> None:
        write(root, data.draw(mutated(self.valid())), "annotations/panoptic_val2017.json")
        reads_or_refuses(root, "coco-panoptic")
