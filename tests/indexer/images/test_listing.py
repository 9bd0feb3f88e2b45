"""What a folder holds: links, loops, files that are left out, and formats that need more than Pillow."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from indexer.images import formats, list_folder, list_images, read_image
from retrieval.errors import ImageError

# A phone's photo of 2 x 2 pixels begins so.
HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def add(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


class TestLinks:
    def test_linked_folders_are_followed(self, tmp_path: Path) -> None:
        add(tmp_path / "elsewhere" / "deep" / "a.png")
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "one").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "photos" / "two").symlink_to(Path("..", "elsewhere"))
        assert names(tmp_path / "photos") == ["one/deep/a.png", "two/deep/a.png"]
        (tmp_path / "all").symlink_to(tmp_path / "photos")
        assert names(tmp_path / "all") == ["one/deep/a.png", "two/deep/a.png"]

    @pytest.mark.parametrize("target", [".", "..", "../.."])
    def test_a_link_back_is_named(self, tmp_path: Path, target: str) -> None:
        folder = tmp_path / "data" / "images"
        add(folder / "a.png")
        add(tmp_path / "data" / "masks" / "m.png")
        (folder / "loop").symlink_to(target)
        listing = list_folder(folder)
        assert [path.name for path in listing.images] == ["a.png"]
        assert listing.broken == (folder / "loop",)
        assert f"into a loop or may not be read: {folder / 'loop'} -> {target}" in listing.notes()[0]

    def test_two_folders_that_link_each_other(self, tmp_path: Path) -> None:
        for name, other in (("a", "b"), ("b", "a")):
            add(tmp_path / name / f"{name}.png")
            (tmp_path / name / "link").symlink_to(Path("..", other))
        assert names(tmp_path) == ["a/a.png", "a/link/b.png", "b/b.png", "b/link/a.png"]

    def test_a_broken_link_is_named(self, tmp_path: Path) -> None:
        add(tmp_path / "a.png")
        (tmp_path / "b.png").symlink_to("/nowhere/b.png")
        (tmp_path / "self.png").symlink_to("self.png")
        (note,) = list_folder(tmp_path).notes()
        assert f"{tmp_path / 'b.png'} -> /nowhere/b.png" in note

    def test_linked_files(self, tmp_path: Path) -> None:
        (tmp_path / "b.png").symlink_to(add(tmp_path / "store" / "blob"))
        assert "b.png" in names(tmp_path)


class TestLeftOut:
    def test_counted_by_ending(self, tmp_path: Path) -> None:
        for name in ("1.mov", "2.MOV", "sub/3.mov", "a.json", "raw.CR2", "LICENSE", "a.JPG"):
            add(tmp_path / name)
        listing = list_folder(tmp_path)
        assert listing.endings() == ((".mov", 3), (".cr2", 1), (".json", 1), ("LICENSE", 1))
        assert listing.notes() == (f"left out of {tmp_path}: 3 .mov, 1 .cr2, 1 .json, 1 LICENSE",)

    def test_what_systems_leave_is_not_worth_a_word(self, tmp_path: Path) -> None:
        add(tmp_path / "a.png")
        for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/x.png", ".git/config"):
            add(tmp_path / name)
        add(tmp_path / "empty.mov", b"")
        assert list_folder(tmp_path).notes() == ()
        assert names(tmp_path) == ["a.png"]

    def test_many_kinds_are_cut_short(self, tmp_path: Path) -> None:
        for number in range(12):
            add(tmp_path / f"a.x{number:02}")
        assert list_folder(tmp_path).notes()[0].endswith(", 1 .x07, 4 others")

    @pytest.mark.parametrize("name", ["1.heic", "1.HEIF", "1.hif"])
    def test_photos_of_phones_without_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(formats, "_has_heif", lambda: False)
        path = add(tmp_path / name, HEIC_START)
        ending = path.suffix.lower()
        assert list_folder(tmp_path).notes() == (
            f"left out of {tmp_path}: 1 {ending} (install mycelia[heif])",
        )
        with pytest.raises(ImageError, match=r"pip install 'mycelia\[heif\]'") as caught:
            read_image(path)
        assert str(path) in str(caught.value)

    def test_heic_that_calls_itself_jpeg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "_has_heif", lambda: False)
        with pytest.raises(ImageError, match=r"IMG\.jpg is HEIC"):
            read_image(add(tmp_path / "IMG.jpg", HEIC_START))

    def test_avif_where_pillow_cannot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "_has_avif", lambda: False)
        add(tmp_path / "1.avif")
        assert "1 .avif (this Pillow cannot read it" in list_folder(tmp_path).notes()[0]
        with pytest.raises(ImageError):
            read_image(tmp_path / "1.avif")


class TestFormats:
    def picture(self) -> Image.Image:
        pixels = np.zeros((32, 64, 3), dtype=np.uint8)
        pixels[:, :32] = (200, 30, 40)
        return Image.fromarray(pixels)

    def test_heic(self, tmp_path: Path) -> None:
        if importlib.util.find_spec("pillow_heif") is None:
            pytest.skip("the extra heif (pillow-heif) is not installed")
        formats.register_heif("the test")
        path = tmp_path / "IMG_1.HEIC"
        self.picture().save(path, format="HEIF", quality=95)
        assert names(tmp_path) == ["IMG_1.HEIC"]
        image = read_image(path)
        assert image.shape == (32, 64, 3)
        assert np.abs(image[16, 10].astype(int) - (200, 30, 40)).max() < 12
        path.replace(tmp_path / "named.jpg")
        assert read_image(tmp_path / "named.jpg").shape == (32, 64, 3)

    def test_avif(self, tmp_path: Path) -> None:
        if not ("avif" in features.modules and features.check("avif")):
            pytest.skip("this Pillow was built without AVIF")
        self.picture().save(tmp_path / "a.avif")
        assert names(tmp_path) == ["a.avif"]
        assert not formats.is_heif(tmp_path / "a.avif")
        assert read_image(tmp_path / "a.avif").shape == (32, 64, 3)
