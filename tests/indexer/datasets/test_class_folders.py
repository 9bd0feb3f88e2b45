"""A folder per class: classes over all splits, ids, notes, and what is not taken for such data."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from indexer.datasets import ClassLabels, load_dataset
from retrieval.errors import DatasetError

FLOWERS = Path(__file__).parents[3].parent / "shared" / "data" / "flowers"


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(root / name)
    return root


def test_splits_share_their_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", "train/c10/a.jpg", "train/c2/b.jpg", "val/c2/a.jpg", "val/c3/x/y.png")
    train, val = (load_dataset(root, split=split) for split in ("train", "val"))
    assert (train.format, train.name, train.split, train.whole) == ("classes", "d", "train", True)
    assert train.classes == val.classes and train.classes.names == ("c2", "c3", "c10")
    assert [sample.id for sample in train.samples] == ["c2/b", "c10/a"]
    assert [sample.id for sample in val.samples] == ["c2/a", "c3/x/y"]
    assert val.samples[1].labels == ClassLabels((1,), str(root / "val" / "c3"), ("c3",))
    val.check_files()
    for dataset in (train, val):
        assert "split train has no folder of the class c3" in dataset.notes
        assert "split val has no folder of the class c10" in dataset.notes


def test_without_splits(tmp_path: Path) -> None:
    root = fill(tmp_path / "d", "cat/1.jpg", "dog/1.jpg")
    for path in (root, tmp_path):
        dataset = load_dataset(path)
        assert (dataset.split, dataset.root, dataset.classes.names) == (None, root, ("cat", "dog"))
    with pytest.raises(DatasetError, match="holds no split"):
        load_dataset(root, split="train")


def test_a_split_must_be_chosen_and_known(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "Validation/a/1.jpg")
    with pytest.raises(DatasetError, match=r"several splits \(Validation, train\)"):
        load_dataset(tmp_path)
    with pytest.raises(DatasetError, match="has no split 'test'"):
        load_dataset(tmp_path, split="test")


def test_stems_that_are_equal_keep_their_endings(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.jpg", "cat/1.png", "cat/2.jpg", "dog/1.jpg")
    ids = [sample.id for sample in load_dataset(tmp_path).samples]
    assert ids == ["cat/1.jpg", "cat/1.png", "cat/2", "dog/1"]


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / "dog" / "1.jpg").unlink()
    with pytest.raises(DatasetError, match=r"class 'dog' in .*dog, found none; add images or remove"):
        load_dataset(tmp_path)
    (tmp_path / "dog" / "a.mov").write_bytes(b"?")
    with pytest.raises(DatasetError, match=r"found 1 \.mov; add images or remove the folder"):
        load_dataset(tmp_path)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    fill(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "train/2.jpg", "test/3.jpg")
    (tmp_path / "train" / "cat" / "a.mov").write_bytes(b"?")
    dataset = load_dataset(tmp_path, split="train")
    assert dataset.left_out == ((".mov", 1),)
    notes = " ".join(dataset.notes)
    for text in ("left out of", "1 .mov", "1 images directly in", "left aside", "test/"):
        assert text in notes


@pytest.mark.parametrize(
    "names",
    [
        ("images/1.jpg", "cat/2.jpg"),
        ("images/train/1.jpg", "labels/train/2.jpg"),
        ("JPEGImages/1.jpg", "SegmentationClass/2.png"),
        ("train/images/1.jpg", "train/masks/2.png"),
        ("train/1.jpg", "val/1.jpg", "trainannot/2.png"),
        ("train2017/1.jpg", "val2017/2.jpg"),
        ("one/images/1.jpg", "two/images/1.jpg"),
        ("cat/1.jpg", "2.jpg"),
    ],
)
def test_folders_of_images_and_masks_are_not_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no layout that is known here"):
        load_dataset(fill(tmp_path, *names))


def test_pairs_stay_pairs(tmp_path: Path) -> None:
    fill(tmp_path, "images/1.png")
    (tmp_path / "masks").mkdir()
    Image.new("L", (3, 2)).save(tmp_path / "masks" / "1.png")
    assert load_dataset(tmp_path).format == "folder"


def test_classes_that_sound_like_masks(tmp_path: Path) -> None:
    fill(tmp_path / "a", "with_mask/1.jpg", "without_mask/2.jpg")
    assert load_dataset(tmp_path / "a").classes.names == ("with_mask", "without_mask")
    fill(tmp_path / "b", "mask/1.jpg", "hat/2.jpg")
    assert load_dataset(tmp_path / "b", format="classes").classes.names == ("hat", "mask")


def test_flowers() -> None:
    if not FLOWERS.is_dir():
        pytest.skip("the flowers are not on this machine")
    train, val = (load_dataset(FLOWERS, split=split) for split in ("train", "val"))
    assert len(train) == len(val) == 17 * 20
    assert train.classes == val.classes
    assert train.classes.names == tuple(f"c{number}" for number in range(1, 18))
    assert train.notes == ()
    train.check_files()
