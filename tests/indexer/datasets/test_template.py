"""Classes are listed from masks that nobody has named, and the template is a ``classes.json`` that loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.template import make_template
from retrieval.errors import ConfigError, DatasetError, MaskError

ROAD, CAR, BLACK = (250, 50, 83), (61, 61, 245), (0, 0, 0)


def write(root: Path, masks: dict[str, np.ndarray]) -> Path:
    """A plain folder with the given masks, and grey images."""
    for name, mask in masks.items():
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        Image.fromarray(np.full(mask.shape[:2], 90, dtype=np.uint8)).save(root / "images" / f"{name}.png")
    return root


def colors(*rows: tuple[tuple[int, int, int], int], height: int = 50, width: int = 50) -> np.ndarray:
    """A mask whose first pixels have the given colours, so many of each; the rest is black."""
    flat = np.zeros((height * width, 3), dtype=np.uint8)
    start = 0
    for color, count in rows:
        flat[start : start + count] = color
        start += count
    return flat.reshape(height, width, 3)


def test_colours_become_classes(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": colors((ROAD, 1500), (CAR, 200)), "b": colors((ROAD, 2500))})
    with pytest.raises(DatasetError, match="RGB colours"):
        load_dataset(root)
    template = make_template(root)
    assert [(name, value.color) for name, value in template.classes] == [
        ("class_0", BLACK),
        ("class_1", ROAD),
        ("class_2", CAR),
    ]
    assert [value.images for _, value in template.classes] == [1, 2, 1]
    assert [value.share for _, value in template.classes] == pytest.approx([0.16, 0.80, 0.04])
    assert template.refusal and not template.noise
    assert template.write() == root / "classes.json"
    dataset = load_dataset(root)
    assert dataset.classes.names == ("class_0", "class_1", "class_2")
    columns = dataset.read_mask(dataset.samples[0])
    assert np.bincount(columns.ravel()).tolist() == [800, 1500, 200]


def test_rare_colours_are_noise(tmp_path: Path) -> None:
    soft = [((k, k // 2, 9), 1) for k in range(1, 100)]
    template = make_template(write(tmp_path / "d", {"a": colors((ROAD, 9000), *soft, width=400)}))
    assert [value.color for _, value in template.classes] == [BLACK, ROAD]
    assert len(template.noise) == 99
    assert all(value.share < 0.0005 for value in template.noise)


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": colors((ROAD, 100))})
    (root / "classes.json").write_text('{"names": ["mine"]}')
    with pytest.raises(ConfigError, match="is there already and is not replaced"):
        make_template(root).write()
    assert json.loads((root / "classes.json").read_text()) == {"names": ["mine"]}


@pytest.mark.parametrize(
    ("values", "classes", "ignored"),
    [
        ([0, 1, 2, 255], [0, 1, 2], (255,)),
        ([0, 255], [0, 255], ()),
        ([0, 128, 255], [0, 128, 255], ()),
        ([3, 7], [3, 7], (255,)),
        ([0], [0], (255,)),
    ],
)
def test_255_is_a_class_among_greys(
    tmp_path: Path, values: list[int], classes: list[int], ignored: tuple[int, ...]
) -> None:
    mask = np.repeat(np.array(values, dtype=np.uint8), 40).reshape(len(values), 40)
    template = make_template(write(tmp_path / "d", {"a": mask}))
    assert [value.id for _, value in template.classes] == classes
    assert [name for name, _ in template.classes] == [f"class_{id}" for id in classes]
    assert template.ignored == ignored
    template.write()
    dataset = load_dataset(tmp_path / "d")
    assert dataset.classes.ids.tolist() == classes
    assert dataset.read_mask(dataset.samples[0]).shape == mask.shape


def test_named_classes_keep_their_names(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": np.array([[0, 1], [1, 1]], dtype=np.uint8)})
    (root / "classes.json").write_text('{"names": ["sky", "road"]}')
    assert [name for name, _ in make_template(root).classes] == ["sky", "road"]


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": np.array([[0, 1]], dtype=np.uint8)})
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([*BLACK, *ROAD])
    image.save(root / "masks" / "a.png")
    assert [value.color for _, value in make_template(root).classes] == [BLACK, ROAD]


def test_16_bit_ids(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": np.array([[0, 300], [1000, 1000]], dtype=np.uint16)})
    template = make_template(root)
    assert [value.id for _, value in template.classes] == [0, 300, 1000]
    template.write()
    assert load_dataset(root).classes.ids.tolist() == [0, 300, 1000]


def test_a_voc_folder_of_unknown_colours(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": colors((ROAD, 100)), "b": colors((CAR, 300))})
    (root / "images").rename(root / "JPEGImages")
    (root / "masks").rename(root / "SegmentationClass")
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("a\nb\n")
    template = make_template(root)
    assert [value.color for _, value in template.classes] == [BLACK, CAR, ROAD]


def test_unreadable_masks(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": colors((ROAD, 100)), "b": colors((CAR, 300))})
    (root / "masks" / "b.png").write_bytes(b"no image")
    template = make_template(root)
    assert [path.name for path, _ in template.values.bad] == ["b.png"]
    (root / "masks" / "a.png").write_bytes(b"no image")
    with pytest.raises(MaskError, match=r"a\.png is not an image"):
        make_template(root)


def test_too_many_values_are_no_classes(tmp_path: Path) -> None:
    many = np.arange(400, dtype=np.uint16).reshape(20, 20)
    template = make_template(write(tmp_path / "d", {"a": many}))
    with pytest.raises(ConfigError, match="400 different values, which are no classes"):
        template.write()


def test_ids_that_a_build_refuses_are_not_written(tmp_path: Path) -> None:
    noise = np.arange(40, dtype=np.uint8).reshape(5, 8)
    template = replace(make_template(write(tmp_path / "d", {"a": noise})), refusal="smoothed edges")
    with pytest.raises(ConfigError, match="smoothed edges"):
        template.write()
    few = np.array([[0, 255]], dtype=np.uint8)
    template = make_template(write(tmp_path / "e", {"a": few}))
    assert template.refusal and template.write().is_file()


def test_no_masks(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"a": colors((ROAD, 100))})
    (root / "masks" / "a.png").rename(root / "masks" / "z.png")
    with pytest.raises(DatasetError, match="has no mask files"):
        make_template(root)
    with pytest.raises(DatasetError, match="no split 'val'; its splits: there are none"):
        make_template(root, split="val")
