"""What holds for every data set: masks, sizes, ids, subsets, recognition; and Pascal VOC and CamVid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import FORMATS, Dataset, Sample, camvid, load_dataset, parse_ids, voc
from indexer.datasets.labels import MaskFile, NoLabels
from indexer.datasets.masks import color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError, ImageError, MaskError

REAL_DATA = Path(__file__).parents[3].parent / "shared" / "data"

Writer = Callable[..., Path]


@pytest.fixture
def write() -> Writer:
    """Writes values, (H, W) or (H, W, 3), as an image at a path; 2 x 3 black pixels by default."""

    def write_image(path: Path, values: object = None, *, palette: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((2, 3), dtype=np.uint8) if values is None else np.asarray(values, dtype=np.uint8)
        image = Image.fromarray(pixels)
        if palette:
            image.putpalette([channel for id in range(256) for channel in color_of_id(id)])
        image.save(path)
        return path

    return write_image


@pytest.fixture
def voc_root(tmp_path: Path, write: Writer) -> Path:
    """VOCdevkit/VOC2012 with a train list (a, b), a val list (c) and trainaug (b, c) with SBD's own masks."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for id, value in (("a", 1), ("b", 2), ("c", 3)):
        write(root / "JPEGImages" / f"{id}.jpg", np.zeros((2, 3, 3)))
        if id != "c":
            write(root / "SegmentationClass" / f"{id}.png", np.full((2, 3), value), palette=True)
        if id != "a":
            write(root / "SegmentationClassAug" / f"{id}.png", np.full((2, 3), value + 10))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\na\n")
    (lists / "val.txt").write_text("c\n")
    (lists / "trainaug.txt").write_text(
        "/JPEGImages/b.jpg /SegmentationClassAug/b.png\n\n"
        "/elsewhere/VOC/JPEGImages/a.jpg /x/SegmentationClassAug/a.png\n"
    )
    return root


@pytest.fixture
def camvid_root(tmp_path: Path, write: Writer) -> Path:
    """SegNet's layout; photos are JPEG on disk while the list says PNG, masks the other way round."""
    root = tmp_path / "CamVid"
    for split, id in (("train", "t2"), ("train", "t1"), ("val", "v1")):
        write(root / split / f"{id}.jpg", np.zeros((2, 3, 3)))
        write(root / f"{split}annot" / f"{id}.png", [[0, 1, 11], [3, 4, 10]])
    (root / "train.txt").write_text(
        "/SegNet/CamVid/train/t2.png /SegNet/CamVid/trainannot/t2.png\n"
        "/SegNet/CamVid/train/t1.png /SegNet/CamVid/trainannot/t1.jpg\n"
    )
    (root / "val.txt").write_text("val/v1.jpg valannot/v1.png\n")
    return root


def ids(dataset: Dataset) -> list[str]:
    """Sample ids in order."""
    return [sample.id for sample in dataset.samples]


class TestVoc:
    @pytest.mark.parametrize("below", ["VOCdevkit/VOC2012", "VOCdevkit", "."])
    def test_found_from_three_places(self, tmp_path: Path, voc_root: Path, below: str) -> None:
        dataset = load_dataset(tmp_path / below, split="train")
        assert (dataset.format, dataset.name, dataset.split) == ("voc", "VOC2012", "train")
        assert dataset.root == voc_root
        assert ids(dataset) == ["b", "a"]

    def test_other_years(self, voc_root: Path) -> None:
        voc_root.rename(voc_root.with_name("VOC2007"))
        assert load_dataset(voc_root.parent, split="val").name == "VOC2007"

    def test_masks_by_split(self, voc_root: Path) -> None:
        def values(split: str) -> dict[str, int]:
            dataset = load_dataset(voc_root, split=split)
            return {sample.id: int(dataset.read(sample)[1][0, 0]) for sample in dataset.samples}

        assert values("train") == {"a": 1, "b": 2}
        assert values("val") == {"c": 13}  # only among the augmented masks
        assert values("trainaug") == {"b": 12, "a": 1}  # a: only among the original masks

    def test_trainaug_of_plain_ids(self, voc_root: Path) -> None:
        (voc_root / "ImageSets/Segmentation/trainaug.txt").write_text("b\n")
        dataset = load_dataset(voc_root, split="trainaug")
        assert dataset.samples[0].labels.path == voc_root / "SegmentationClassAug" / "b.png"

    def test_classes(self) -> None:
        assert len(voc.CLASSES) == 21
        assert voc.CLASSES.ignore == (255,)
        colors = {info.name: info.color for info in voc.CLASSES.classes}
        assert colors["background"] == (0, 0, 0)
        assert colors["aeroplane"] == (128, 0, 0)
        assert colors["person"] == (192, 128, 128)
        assert colors["tvmonitor"] == (0, 64, 128)
        assert color_of_id(255) == voc.BORDER

    def test_palette_and_border(self, voc_root: Path, write: Writer) -> None:
        write(voc_root / "SegmentationClass" / "a.png", [[0, 20, 255]] * 2, palette=True)
        dataset = load_dataset(voc_root, split="train")
        assert dataset.read_mask(dataset.samples[1])[0].tolist() == [0, 20, -1]

    def test_masks_as_colours(self, voc_root: Path, write: Writer) -> None:
        write(voc_root / "SegmentationClass" / "a.png", [[(0, 0, 0), (0, 64, 128), (224, 224, 192)]] * 2)
        dataset = load_dataset(voc_root, split="train")
        assert dataset.read_mask(dataset.samples[1])[0].tolist() == [0, 20, -1]

    def test_split_must_be_chosen(self, voc_root: Path) -> None:
        with pytest.raises(
            DatasetError, match=r"several splits \(train, trainaug, val\); choose one with --split"
        ):
            load_dataset(voc_root)

    def test_the_only_split_needs_no_choice(self, voc_root: Path) -> None:
        for split in ("train", "trainaug"):
            (voc_root / f"ImageSets/Segmentation/{split}.txt").unlink()
        assert load_dataset(voc_root).split == "val"

    def test_missing_split(self, voc_root: Path) -> None:
        with pytest.raises(DatasetError, match="no split 'test'; its splits are: train, trainaug, val"):
            load_dataset(voc_root, split="test")

    def test_no_split_at_all(self, voc_root: Path) -> None:
        for path in (voc_root / "ImageSets/Segmentation").iterdir():
            path.unlink()
        with pytest.raises(DatasetError, match="holds no split"):
            load_dataset(voc_root)

    @pytest.mark.parametrize("line", ["a b", "a/b c/d e/f"])
    def test_senseless_line(self, voc_root: Path, line: str) -> None:
        (voc_root / "ImageSets/Segmentation/val.txt").write_text(f"c\n{line}\n")
        with pytest.raises(DatasetError, match=r"val\.txt, line 2: expected "):
            load_dataset(voc_root, split="val")

    def test_repeated_id(self, voc_root: Path) -> None:
        (voc_root / "ImageSets/Segmentation/val.txt").write_text("c\na\nc\n")
        with pytest.raises(DatasetError, match="two images with the id 'c'"):
            load_dataset(voc_root, split="val")

    def test_empty_list(self, voc_root: Path) -> None:
        (voc_root / "ImageSets/Segmentation/val.txt").write_text("\n# nothing yet\n")
        with pytest.raises(DatasetError, match=r"val\.txt holds no samples"):
            load_dataset(voc_root, split="val")

    def test_list_that_is_no_text(self, voc_root: Path) -> None:
        (voc_root / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\x00\xd8")
        with pytest.raises(DatasetError, match="cannot be read as text"):
            load_dataset(voc_root, split="val")

    def test_lost_files_raise_when_looked_for(self, voc_root: Path) -> None:
        (voc_root / "JPEGImages" / "a.jpg").unlink()
        (voc_root / "SegmentationClass" / "b.png").unlink()
        (voc_root / "SegmentationClassAug" / "b.png").unlink()
        dataset = load_dataset(voc_root, split="train")
        with pytest.raises(MaskError, match=r"SegmentationClass/b\.png does not exist"):
            dataset.check_files()
        with pytest.raises(MaskError, match=r"SegmentationClass/b\.png does not exist"):
            dataset.read(dataset.samples[0])
        with pytest.raises(ImageError, match=r"JPEGImages/a\.jpg does not exist"):
            dataset.read(dataset.samples[1])

    def test_real(self) -> None:
        if not (REAL_DATA / "VOCdevkit").is_dir():
            pytest.skip("the piece of Pascal VOC is not on this machine")
        dataset = load_dataset(REAL_DATA, split="trainaug")
        dataset.check_files()
        assert len(dataset) == 86
        sample = dataset.select(["2007_000032"]).samples[0]
        image, columns = dataset.read(sample)
        assert image.shape == (281, 500, 3)
        assert set(np.unique(columns)) == {-1, 0, 1, 15}
        assert len(load_dataset(REAL_DATA / "VOCdevkit/VOC2012", split="val")) == 49


class TestCamvid:
    def test_foreign_prefix_and_suffix(self, tmp_path: Path, camvid_root: Path) -> None:
        for path in (camvid_root, tmp_path):
            dataset = load_dataset(path, split="train")
            assert (dataset.format, dataset.name, ids(dataset)) == ("camvid", "CamVid", ["t2", "t1"])
            dataset.check_files()
            assert dataset.samples[0].image == camvid_root / "train" / "t2.jpg"
            assert dataset.samples[1].labels.path == camvid_root / "trainannot" / "t1.png"
            assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 1, -1], [3, 4, 10]]

    def test_classes(self) -> None:
        assert camvid.CLASSES.names[:3] == ("sky", "building", "pole")
        assert len(camvid.CLASSES) == 11
        assert len({info.color for info in camvid.CLASSES.classes}) == 11
        assert camvid.CLASSES.ignore == (11,)

    def test_splits(self, camvid_root: Path) -> None:
        with pytest.raises(DatasetError, match=r"several splits \(train, val\)"):
            load_dataset(camvid_root)
        with pytest.raises(DatasetError, match="no split 'test'; its splits are: train, val"):
            load_dataset(camvid_root, split="test")

    def test_senseless_line(self, camvid_root: Path) -> None:
        (camvid_root / "val.txt").write_text("val/v1.png\n")
        with pytest.raises(DatasetError, match=r"val\.txt, line 1: expected the paths"):
            load_dataset(camvid_root, split="val")

    def test_unknown_class(self, camvid_root: Path, write: Writer) -> None:
        path = write(camvid_root / "valannot" / "v1.png", [[0, 12, 0]] * 2)
        dataset = load_dataset(camvid_root, split="val")
        with pytest.raises(MaskError, match=f"{path} holds class id 12"):
            dataset.read(dataset.samples[0])

    def test_colours_where_ids_belong(self, camvid_root: Path, write: Writer) -> None:
        write(camvid_root / "valannot" / "v1.png", np.zeros((2, 3, 3)))
        dataset = load_dataset(camvid_root, split="val")
        with pytest.raises(MaskError, match=r"v1\.png holds RGB colours"):
            dataset.read(dataset.samples[0])

    def test_real(self) -> None:
        if not (REAL_DATA / "camvid").is_dir():
            pytest.skip("CamVid is not on this machine")
        train, val = (load_dataset(REAL_DATA / "camvid", split=split) for split in ("train", "val"))
        assert (len(train), len(val)) == (367, 101)
        train.check_files()
        image, columns = val.read(val.samples[0])
        assert image.shape == (360, 480, 3)
        assert columns.min() == -1 and columns.max() == 10


class TestSizes:
    def dataset(self, root: Path, image: Path, mask: Path | None) -> Dataset:
        classes = ClassMap((ClassInfo(0, "ground", (0, 0, 0)),))
        labels = NoLabels(image) if mask is None else MaskFile(mask, classes)
        return Dataset("tiny", "folder", root, None, (Sample("x", image, labels),), classes)

    def test_mask_of_another_size(self, tmp_path: Path, write: Writer) -> None:
        image = write(tmp_path / "i.png", np.zeros((4, 5, 3)))
        mask = write(tmp_path / "m.png", np.zeros((4, 6)))
        dataset = self.dataset(tmp_path, image, mask)
        with pytest.raises(
            MaskError, match=r"m\.png is 4 high and 6 wide, but its image .*i\.png is 4 high and 5"
        ):
            dataset.read(dataset.samples[0])

    def test_mask_drawn_on_the_stored_orientation(self, tmp_path: Path, write: Writer) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (5, 4)).save(tmp_path / "i.jpg", exif=exif)
        mask = write(tmp_path / "m.png", np.zeros((4, 5)))
        dataset = self.dataset(tmp_path, tmp_path / "i.jpg", mask)
        with pytest.raises(MaskError, match="sides are swapped"):
            dataset.read(dataset.samples[0])
        write(mask, np.zeros((5, 4)))
        assert dataset.read(dataset.samples[0])[0].shape == (5, 4, 3)

    def test_no_mask(self, tmp_path: Path, write: Writer) -> None:
        dataset = self.dataset(tmp_path, write(tmp_path / "i.png"), None)
        for look in (dataset.check_files, lambda: dataset.read(dataset.samples[0])):
            with pytest.raises(MaskError, match=r"i\.png has no mask"):
                look()

    def test_missing_image(self, tmp_path: Path, write: Writer) -> None:
        dataset = self.dataset(tmp_path, tmp_path / "gone.png", write(tmp_path / "m.png"))
        with pytest.raises(ImageError, match=r"gone\.png does not exist"):
            dataset.check_files()


class TestSubset:
    def test_keeps_the_order_of_the_data_set(self, tmp_path: Path, voc_root: Path) -> None:
        subset = tmp_path / "ids.txt"
        subset.write_text("\ufeff# two of them\n\n  a  \nb\na\n", encoding="utf-8")
        assert parse_ids(subset) == ("a", "b", "a")
        assert ids(load_dataset(voc_root, split="train", subset=subset)) == ["b", "a"]
        subset.write_text("a\n")
        assert ids(load_dataset(voc_root, split="train", subset=subset)) == ["a"]

    def test_unknown_id_names_the_nearest(self, tmp_path: Path, camvid_root: Path) -> None:
        subset = tmp_path / "ids.txt"
        subset.write_text("t1\nt22\n")
        with pytest.raises(DatasetError, match=r"'t22', but CamVid \(split train\).*did you mean 't2'\?"):
            load_dataset(camvid_root, split="train", subset=subset)

    def test_unknown_id_far_from_all(self, camvid_root: Path) -> None:
        with pytest.raises(DatasetError, match=r"has no such image$"):
            load_dataset(camvid_root, split="train").select(["something else"])

    def test_empty(self, tmp_path: Path, camvid_root: Path) -> None:
        subset = tmp_path / "ids.txt"
        subset.write_text("# none\n")
        with pytest.raises(DatasetError, match=r"ids\.txt names no image"):
            load_dataset(camvid_root, split="train", subset=subset)
        with pytest.raises(DatasetError, match="names no image"):
            load_dataset(camvid_root, split="train").select([])

    def test_missing_file(self, tmp_path: Path, camvid_root: Path) -> None:
        with pytest.raises(DatasetError, match=r"ids\.txt does not exist"):
            load_dataset(camvid_root, split="train", subset=tmp_path / "ids.txt")


class TestRecognition:
    def test_unknown_layout_describes_all(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError) as caught:
            load_dataset(tmp_path)
        for word in (str(tmp_path), "JPEGImages", "images/ and masks/", "trainannot"):
            assert word in str(caught.value)

    def test_forced_format_that_does_not_fit(self, camvid_root: Path) -> None:
        with pytest.raises(DatasetError, match="JPEGImages") as caught:
            load_dataset(camvid_root, format="voc")
        assert "trainannot" not in str(caught.value)

    def test_forced_format_chooses_among_two(self, camvid_root: Path, write: Writer) -> None:
        write(camvid_root / "images" / "v1.png")
        write(camvid_root / "masks" / "v1.png", np.ones((2, 3)))
        assert load_dataset(camvid_root, split="val", format="camvid").format == "camvid"
        for path in camvid_root.glob("*.txt"):
            path.unlink()
        assert load_dataset(camvid_root, format="folder").format == "folder"

    def test_unknown_format(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=", ".join(FORMATS)):
            load_dataset(tmp_path, format="dicom")

    def test_path_that_is_no_folder(self, tmp_path: Path, write: Writer) -> None:
        with pytest.raises(DatasetError, match="found nothing"):
            load_dataset(tmp_path / "gone")
        with pytest.raises(DatasetError, match="found a file"):
            load_dataset(write(tmp_path / "a.png"))


def test_every_format_is_known_by_its_name(tmp_path: Path) -> None:
    for name in FORMATS:
        with pytest.raises(DatasetError):  # of what is missing, and not ConfigError
            load_dataset(tmp_path, format=name)


def test_a_layout_of_whole_images_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer import datasets

    mine = datasets.Layout("mine", "files of mine", lambda path: path, lambda root, split: made)
    made = Dataset("mine", "mine", tmp_path, None, ClassMap((ClassInfo(0, "a", (0, 0, 0)),)), ())
    monkeypatch.setattr(datasets, "_WHOLE", (mine, *datasets._WHOLE))
    assert load_dataset(tmp_path, format="mine") is made
