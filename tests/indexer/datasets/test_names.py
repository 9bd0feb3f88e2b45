"""Names as people and systems write them, in every layout alike."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from indexer.datasets import Dataset, load_dataset
from indexer.datasets.names import bare, composed, halves
from retrieval.errors import DatasetError

LAYOUTS = ("folder", "voc", "camvid")

NAME = "Zürich é"
DECOMPOSED = unicodedata.normalize("NFD", NAME)


def picture(path: Path) -> Path:
    """A black photo, or a black mask of class 0 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if path.suffix.lower() == ".png" else "RGB"
    Image.new(mode, (3, 2), 1 if mode == "L" else 0).save(path, format="PNG" if mode == "L" else "JPEG")
    return path


def make(
    root: Path, layout: str, image: str, mask: str | None = None, *, line: str | bytes | None = None
) -> None:
    """A data set of one image, ``image`` and ``mask`` without folder, ``line`` the list's."""
    mask = f"{Path(image).stem}.png" if mask is None else mask
    places = {"folder": ("images", "masks"), "voc": ("JPEGImages", "SegmentationClass")}
    folders = places.get(layout, ("train", "trainannot"))
    picture(root / folders[0] / image)
    picture(root / folders[1] / mask)
    list_file = root / ("ImageSets/Segmentation/train.txt" if layout == "voc" else "train.txt")
    list_file.parent.mkdir(parents=True, exist_ok=True)
    if line is None:
        line = f"train/{image} trainannot/{mask}" if layout == "camvid" else Path(image).stem
    list_file.write_bytes(line if isinstance(line, bytes) else line.encode())


def only(root: Path, layout: str) -> str:
    """The id of the only sample, which can be read."""
    dataset: Dataset = load_dataset(root, split="train", format=layout)
    dataset.check_files()
    (sample,) = dataset.samples
    assert dataset.read(sample)[1].tolist() == [[1, 1, 1]] * 2 or layout == "folder"
    assert "\\" not in sample.id
    return sample.id


@pytest.mark.parametrize("layout", LAYOUTS)
class TestEveryLayout:
    @pytest.mark.parametrize("image", [NAME, DECOMPOSED])
    @pytest.mark.parametrize("mask", [NAME, DECOMPOSED])
    @pytest.mark.parametrize("listed", [NAME, DECOMPOSED])
    def test_accents_composed_or_not(
        self, tmp_path: Path, layout: str, image: str, mask: str, listed: str
    ) -> None:
        line = f"train/{listed}.jpg trainannot/{listed}.png" if layout == "camvid" else listed
        make(tmp_path, layout, f"{image}.jpg", f"{mask}.png", line=line)
        assert only(tmp_path, layout) == NAME

    def test_folders_decomposed(self, tmp_path: Path, layout: str) -> None:
        root = tmp_path / unicodedata.normalize("NFD", "Daten für é")
        make(root, layout, "a.jpg")
        assert only(root, layout) == "a"

    @pytest.mark.parametrize("image", ["a.JPG", "a.jpeg", "a.JPEG", "a.Jpg"])
    @pytest.mark.parametrize("mask", ["a.png", "a.PNG"])
    def test_endings_in_any_case(self, tmp_path: Path, layout: str, image: str, mask: str) -> None:
        line = "train/a.jpg trainannot/a.png" if layout == "camvid" else "a"
        make(tmp_path, layout, image, mask, line=line)
        assert only(tmp_path, layout) == "a"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", ""])
    def test_lists_of_windows(self, tmp_path: Path, layout: str, encoding: str, end: str) -> None:
        marks = {
            "utf-16-le": codecs.BOM_UTF16_LE,
            "utf-16-be": codecs.BOM_UTF16_BE,
            "utf-32-le": codecs.BOM_UTF32_LE,
        }
        line = f"train\\{NAME}.jpg trainannot\\{NAME}.png" if layout == "camvid" else NAME
        content = marks.get(encoding, b"") + (line + end).encode(encoding)
        make(tmp_path, layout, f"{NAME}.jpg", line=content)
        assert only(tmp_path, layout) == NAME

    def test_a_list_in_an_old_encoding_names_the_cure(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, f"{NAME}.jpg", line=NAME.encode("latin-1"))
        with pytest.raises(DatasetError, match=r"train\.txt cannot be read as text .*save it as UTF-8"):
            load_dataset(tmp_path, split="train", format=layout)

    def test_paths_with_blanks(self, tmp_path: Path, layout: str) -> None:
        folders = {"folder": ("images", "masks"), "voc": ("JPEGImages", "SegmentationClass")}
        image, mask = folders.get(layout, ("train", "trainannot"))
        for line in (
            f"{image}/my dog 1.jpg {mask}/my dog 1.png",
            f"C:\\Eigene Dateien\\set\\{image}\\my dog 1.jpg\tC:\\Eigene Dateien\\set\\{mask}\\my dog 1.png",
            f'"{image}/my dog 1.jpg" "{mask}/my dog 1.png"',
            f"./{image}/my dog 1.jpg,{mask}/my dog 1.png",
        ):
            make(tmp_path, layout, "my dog 1.jpg", line=line)
            assert only(tmp_path, layout) == "my dog 1"

    def test_subsets(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, f"{NAME}.jpg")
        for entry in (DECOMPOSED, f"{NAME}.jpg", f"{DECOMPOSED}.JPG"):
            (tmp_path / "ids").write_text(f"{entry}\n", encoding="utf-16")
            assert len(load_dataset(tmp_path, split="train", format=layout, subset=tmp_path / "ids")) == 1


@pytest.mark.parametrize("layout", ["folder", "voc"])
class TestIds:
    @pytest.mark.parametrize(
        "line",
        [
            "IMG 1",
            "IMG 1.jpg",
            "IMG 1.JPG",
            "IMG 1.png",
            '"IMG 1"',
            "IMG 1.xml",
            "IMG 1 1",
            "IMG 1 -1",
            "IMG 1  0",
        ],
    )
    def test_as_lists_have_them(self, tmp_path: Path, layout: str, line: str) -> None:
        make(tmp_path, layout, "IMG 1.jpg", line=line)
        assert only(tmp_path, layout) == "IMG 1"

    def test_a_number_may_belong_to_the_name(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, "IMG.jpg")
        make(tmp_path, layout, "IMG 1.jpg", line="IMG 1")
        assert only(tmp_path, layout) == "IMG 1"

    def test_a_dot_may_belong_to_the_name(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, "a.jpg")
        make(tmp_path, layout, "a.v2.jpg", line="a.v2")
        assert only(tmp_path, layout) == "a.v2"
        make(tmp_path, layout, "b.jpg", line="a.v3")  # is not there, and must not become a
        with pytest.raises(Exception, match=r"a\.v3"):
            only(tmp_path, layout)

    def test_a_name_with_a_title(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, "J.jpg")
        make(tmp_path, layout, "J.Doe.jpg", line="J.Doe")
        assert only(tmp_path, layout) == "J.Doe"

    def test_hidden_lists(self, tmp_path: Path, layout: str) -> None:
        make(tmp_path, layout, "a.jpg")
        for path in list(tmp_path.rglob("train.txt")):
            (path.parent / "._train.txt").write_bytes(b"\0\5\x16\7")
        assert load_dataset(tmp_path, format=layout).split == "train"

    def test_subfolders(self, tmp_path: Path, layout: str) -> None:
        for folder in ("x", "y"):
            make(tmp_path, layout, f"{folder}/1.jpg", f"{folder}/1.png", line="x/1\ny\\1.jpg\n")
        dataset = load_dataset(tmp_path, split="train", format=layout)
        dataset.check_files()
        assert [sample.id for sample in dataset.samples] == ["x/1", "y/1"]


def test_images_of_one_name_in_two_folders_of_a_list(tmp_path: Path) -> None:
    lines = [f"train/{seq}/1.png trainannot/{seq}/1.png" for seq in ("s1", "s2")]
    for seq in ("s1", "s2"):
        make(tmp_path, "camvid", f"{seq}/1.jpg", f"{seq}/1.png", line="\n".join(lines))
    dataset = load_dataset(tmp_path, split="train", format="camvid")
    dataset.check_files()
    assert [sample.id for sample in dataset.samples] == ["train/s1/1", "train/s2/1"]


def test_a_line_that_can_be_cut_in_two_ways(tmp_path: Path) -> None:
    for name in ("a", "a b", "b c", "c"):
        make(tmp_path, "camvid", f"{name}.jpg")
    for name in ("a.jpg x", "x b.jpg"):
        picture(tmp_path / "train" / f"{name}.jpg")
    (tmp_path / "train.txt").write_text("train/a trainannot/b c\n")
    dataset = load_dataset(tmp_path, split="train", format="camvid")
    assert (dataset.samples[0].id, dataset.samples[0].labels.name) == (
        "a",
        str(tmp_path / "trainannot/b c.png"),
    )


def test_parts() -> None:
    assert composed(DECOMPOSED + "\\a") == NAME + "/a"
    assert [bare(name) for name in ("a.JPG", "a", "a.v2", ".png", "x/.png", "a.b.tif")] == [
        *("a", "a", "a.v2", ".png", "x/.png", "a.b")
    ]
    assert list(halves('"a b"  c,d')) == [('"a', 'b"  c,d'), ("a b", "c,d"), ('"a b"  c', "d")]
