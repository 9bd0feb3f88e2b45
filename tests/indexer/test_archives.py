"""Archives of data sets: what they become, and what is refused."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from indexer import archives
from indexer.archives import is_archive, unpacked
from retrieval.errors import DatasetError

FILES = {"set/images/a.png": b"a" * 40, "set/masks/a.png": b"b" * 30}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), content, zipfile.ZIP_DEFLATED)
    return path


def write_tar(path: Path, files: dict[str, bytes], *links: tuple[str, str, bytes]) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_600_000_000
            file.addfile(info, io.BytesIO(content))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            file.addfile(info)
    return path


def write(path: Path, files: dict[str, bytes]) -> Path:
    return write_zip(path, files) if path.suffix == ".zip" else write_tar(path, files)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.TGZ", "a.tar.bz2", "a.tar.xz"])
def test_an_archive_is_a_folder_while_it_is_used(name: str, tmp_path: Path, temporary: Path) -> None:
    path = write(tmp_path / name, FILES)
    assert is_archive(path)
    with unpacked(path) as folder:
        assert folder.name == "set" and temporary in folder.parents
        assert contents(folder) == {"images/a.png": b"a" * 40, "masks/a.png": b"b" * 30}
        assert stat.S_IMODE(next(temporary.iterdir()).stat().st_mode) == 0o700
    assert list(temporary.iterdir()) == []
    with unpacked(
        write(tmp_path / f"flat.{name.partition('.')[2]}", {"a.png": b"1", "b/c.png": b"2"})
    ) as folder:
        assert folder.name == "flat" and set(contents(folder)) == {"a.png", "b/c.png"}


def test_the_same_archive_gets_the_same_folder_and_times(tmp_path: Path, temporary: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    with unpacked(path) as first:
        time = (first / "images" / "a.png").stat().st_mtime
        with unpacked(path) as other:  # in use
            assert other != first and contents(other) == contents(first)
        assert first.is_dir()
    with unpacked(path) as again:
        assert again == first and (again / "images" / "a.png").stat().st_mtime == time
    (temporary / again.parts[len(temporary.parts)] / "files" / "rest").mkdir(parents=True)  # killed
    (temporary / again.parts[len(temporary.parts)]).chmod(0o700)
    with unpacked(path) as anew:
        assert anew == first and set(contents(anew)) == {"images/a.png", "masks/a.png"}
    assert list(temporary.iterdir()) == []


def test_folders_and_other_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    for path in (tmp_path / "folder.zip", tmp_path / "none.tar", tmp_path):
        with unpacked(path) as same:
            assert same == path


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/tmp/x.png", "..\\x.png", "C:\\x.png", "C:x.png"]
)
@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_names_that_lead_outside_are_refused(name: str, ending: str, tmp_path: Path, temporary: Path) -> None:
    path = write(tmp_path / f"a.{ending}", {"good.png": b"1", name: b"2"})
    with pytest.raises(DatasetError, match="leads outside its folder"), unpacked(path):
        pass
    assert list(temporary.iterdir()) == []
    assert not list(tmp_path.glob("x.png"))


def test_links_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "secret").write_text("mine")
    links = [
        ("link.png", str(tmp_path / "secret"), tarfile.SYMTYPE),
        ("dir", "/", tarfile.SYMTYPE),
        ("loop", "loop", tarfile.SYMTYPE),
        ("fifo", "", tarfile.FIFOTYPE),
        ("same.png", "a.png", tarfile.LNKTYPE),
    ]
    with (
        caplog.at_level("INFO", "mycelia"),
        unpacked(write_tar(tmp_path / "a.tar", {"a.png": b"1"}, *links)) as to,
    ):
        assert contents(to) == {"a.png": b"1", "same.png": b"1"}
    assert "4 links or special files" in caplog.text
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, str(tmp_path / "secret"))
        file.writestr("a.png", b"1")
    with unpacked(tmp_path / "a.zip") as to:
        assert contents(to) == {"a.png": b"1"}


def test_a_link_before_a_file_through_it_leads_nowhere(tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        file.addfile(link)
        info = tarfile.TarInfo("out/x.png")
        info.size = 1
        file.addfile(info, io.BytesIO(b"2"))
    with unpacked(path) as to:
        assert contents(to.parent if to.name == "out" else to)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_bombs_are_refused(
    ending: str, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"a.{ending}", {"a.png": bytes(3_000_000)})
    with unpacked(path):
        pass  # small ones may shrink as they like
    monkeypatch.setattr(archives, "FREE_BYTES", 1_000_000)
    with pytest.raises(DatasetError, match="decompression bombs"), unpacked(path):
        pass
    monkeypatch.setattr(archives, "MOST_FILES", 1)
    with pytest.raises(DatasetError, match="more than 1 files"), unpacked(write(path, FILES)):
        pass
    assert list(temporary.iterdir()) == []


def test_damaged_and_encrypted_archives_are_named(tmp_path: Path, temporary: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz"):
        path = tmp_path / name
        path.write_bytes(b"no archive, but some text that goes on for a while" * 20)
        with pytest.raises(DatasetError, match=f"{name} is damaged or no archive"), unpacked(path):
            pass
        data = write(path, {f"{n}.png": bytes(range(256)) * 50 for n in range(20)}).read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DatasetError, match=f"{name} is damaged or no archive"), unpacked(path):
            pass
    data = bytearray(write_zip(tmp_path / "locked.zip", FILES).read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(DatasetError, match="is encrypted"), unpacked(tmp_path / "locked.zip"):
        pass
    path = write_zip(tmp_path / "both.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(DatasetError, match="of one name"), unpacked(path):
        pass
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.xz", "a.tar.bz2"])
def test_bytes_that_are_damaged_are_noticed(name: str, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(300_000)  # as good as a photo: it does not shrink
    path = write(tmp_path / name, {"a.png": content})
    damaged = bytearray(path.read_bytes())
    damaged[150_000:150_050] = bytes(50)
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match="damaged or no archive"), unpacked(path):
        pass


def test_a_damaged_member_of_any_compression_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a.png", np.random.default_rng(0).bytes(300_000))
    damaged = bytearray(path.read_bytes())
    damaged[150_000:150_050] = bytes(50)
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match="damaged or no archive"), unpacked(path):
        pass


def test_links_to_nothing_and_in_circles_are_left_out(tmp_path: Path) -> None:
    links = [
        ("circle", "circle", tarfile.SYMTYPE),
        ("a.png", "circle", tarfile.LNKTYPE),
        ("b", "gone", tarfile.LNKTYPE),
    ]
    path = write_tar(tmp_path / "a.tar", FILES, *links)
    with unpacked(path) as folder:
        assert set(contents(folder)) == {"images/a.png", "masks/a.png"}


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {**FILES, "__MACOSX/set/images/._a.png": b"no image"})
    with unpacked(path) as folder:
        assert folder.name == "set" and set(contents(folder)) == {"images/a.png", "masks/a.png"}


def test_a_moment_that_does_not_exist_is_none(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", FILES)
    stated = (3 << 11 | 4 << 5 | 3).to_bytes(2, "little")  # 03:04:06
    path.write_bytes(path.read_bytes().replace(stated, (3 << 11 | 4 << 5 | 30).to_bytes(2, "little")))
    with unpacked(path) as folder:
        assert (folder / "images" / "a.png").stat().st_mtime == 0


def test_the_files_go_before_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    gone: list[Path] = []

    def remove(path: Path, **options: bool) -> None:
        assert path.name == "files" or not (path / "files").exists()
        gone.append(path)
        real(path, **options)

    real = shutil.rmtree
    with unpacked(write_zip(tmp_path / "a.zip", FILES)) as folder:
        monkeypatch.setattr(shutil, "rmtree", remove)
    assert gone[0].name == "files" and not folder.exists()
