"""Archives that bomb or lead outside, videos, volumes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import wild
from ..case import Case

_NAMES = (
    *(
        "../x.png",
        "/abs.png",
        "a/../../x.png",
        "C:\\x.png",
        "..\\x.png",
        "a\0b.png",
        "",
        ".",
        "..",
        "./images/p.png",
    ),
    *(
        "images/" + "x" * 300 + ".png",
        "images/é\udcff.png",
        "x/" * 400 + "y.png",
        "__MACOSX/x.png",
        "images/p.png ",
        "\\\\h\\s\\x",
    ),
    *("images/photo0.png", "images", "masks/photo0.png/x", "con", "images/\n.png", "~/x.png", "classes.json"),
)


def archive(case: Case) -> None:
    """An archive of a small data set with members that do not belong, damaged, or larger than it says."""
    random = case.random
    ending = random.choice([".zip", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
    path = case.inside / f"data{ending}"
    files = {f"images/photo{n}.png": case.path(f"data/images/photo{n}.png").read_bytes() for n in range(2)}
    files |= {f"masks/photo{n}.png": case.path(f"data/masks/photo{n}.png").read_bytes() for n in range(2)}
    files["classes.json"] = case.path("data/classes.json").read_bytes()
    for _ in range(random.choice([0, 1, 1, 2])):
        size = random.choice([0, 10, 10, 10_000_000])
        files[random.choice(_NAMES)] = b"\0" * size
    content = _zip(case, files) if ending == ".zip" else _tar(case, files, ending)
    if random.random() < 0.4:
        content = wild.changed_bytes(random, content)
    path.write_bytes(content)
    if random.random() < 0.1:
        renamed = path.with_name(random.choice(["data.zip", "data.tar.gz", "data.tar", "..zip", ".zip"]))
        path = path.rename(renamed)
    if random.random() < 0.6:
        case.run("inspect", path)
    elif random.random() < 0.5:
        case.run("segment", case.path("i.index"), path, "--out", case.out, "--skip-bad")
    else:
        case.run("index", "build", path, "--config", case.path("tiny.yaml"), "--out", case.out)


def _zip(case: Case, files: dict[str, bytes]) -> bytes:
    random, file = case.random, io.BytesIO()
    with zipfile.ZipFile(
        file, "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    ) as made:
        for name, content in files.items():
            info = zipfile.ZipInfo(name.encode(errors="replace").decode() or "x")
            info.compress_type = made.compression
            made.writestr(info, content)
        if random.random() < 0.3:
            link = zipfile.ZipInfo(random.choice(["images/link.png", "images", "masks/link.png"]))
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            made.writestr(link, random.choice(["/etc/passwd", "..", "../../..", "link.png"]))
    content = bytearray(file.getvalue())
    if random.random() < 0.2:  # sizes of the directory that are not those of the members
        at = content.rfind(b"PK\1\2")
        content[at + 20 : at + 28] = random.choice([b"\xff" * 8, b"\0" * 8, random.randbytes(8)])
    if random.random() < 0.1:
        content[content.rfind(b"PK\1\2") + 8] |= 1  # encrypted, it says
    return bytes(content)


def _tar(case: Case, files: dict[str, bytes], ending: str) -> bytes:
    random, file = case.random, io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name or "x")
            info.size, info.mtime = len(content), random.choice([0, 0, -1, 2**40, 1.5])
            made.addfile(info, io.BytesIO(content))
        for _ in range(random.choice([0, 1, 2])):
            kinds = [
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.CHRTYPE,
                tarfile.FIFOTYPE,
                tarfile.DIRTYPE,
                b"Z",
            ]
            info = tarfile.TarInfo(random.choice(["images/l.png", "images", "l", "../l", "masks/photo0.png"]))
            info.type, info.linkname = (
                random.choice(kinds),
                random.choice(["/etc/passwd", "../..", "images/l.png", "images/photo0.png"]),
            )
            made.addfile(info)
    content = file.getvalue()
    if ending.endswith("gz"):
        return gzip.compress(content, 1)
    if ending.endswith("bz2"):
        return bz2.compress(content, 1)
    return lzma.compress(content, preset=0) if ending.endswith("xz") else content


def media(case: Case) -> None:
    """A video or a volume, damaged, renamed, or of odd values."""
    if case.random.random() < 0.5:
        _video(case)
    else:
        _volume(case)


def _video(case: Case) -> None:
    random = case.random
    content = case.path("clip.mp4").read_bytes()
    if random.random() < 0.8:
        content = wild.changed_bytes(random, content)
    clip = case.inside / f"clip{random.choice(['.mp4', '.mp4', '.avi', '.mov', '.mkv', '.webm', '.gif'])}"
    clip.write_bytes(content)
    wilder = [
        ["--every", random.choice(["2", "99", "0"])],
        ["--smooth", "0.6"],
        ["--overlay"],
        ["--confidence"],
        ["--resume"],
        ["--skip-bad"],
        ["--json"],
        ["--export", "coco"],
    ]
    more = [word for words in random.sample(wilder, random.randrange(3)) for word in words]
    case.run("segment", case.path("i.index"), clip, "--out", case.out, *more)


def _volume(case: Case) -> None:
    random = case.random
    suffix = random.choice([".tif", ".tif", ".nii", ".nii.gz", ".tiff"])
    folder = case.inside / "volumes"
    folder.mkdir()
    volume = folder / f"volume{suffix}"
    if suffix.startswith(".nii"):
        content = _nifti(case)
        volume.write_bytes(gzip.compress(content, 1) if suffix.endswith("gz") else content)
    elif random.random() < 0.5:
        volume.write_bytes(wild.changed_bytes(random, case.path("volume.tif").read_bytes()))
    else:
        dtype = random.choice([np.uint8, np.uint16, np.int32, np.float32])
        pages = [
            Image.fromarray(np.full((random.choice([4, 4, 5]), 5), value, dtype))
            for value in _values(case, dtype)
        ]
        pages[0].save(volume, "TIFF", save_all=True, append_images=pages[1:])
    more: list[Any] = []
    if random.random() < 0.4:
        labels = case.inside / "labels"
        labels.mkdir()
        shutil.copy(case.path("volume.tif") if random.random() < 0.5 else volume, labels / Path(volume).name)
        more += ["--labels", labels]
    if random.random() < 0.3:
        windows = ["0,1", "5,5", "nan,1", "-inf,inf", "1", "1e308,2e308", "-1e308,1e308", "9,1"]
        more.append(f"--window={random.choice(windows)}")
    if random.random() < 0.3:
        more += random.choice([["--axis", "0"], ["--axis", "3"], ["--every", "3"], ["--every", "0"]])
    case.run("slices", folder, "--out", case.out, *more)


def _values(case: Case, dtype: Any) -> list[Any]:
    if dtype is np.float32:
        return [case.random.choice([0.0, np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40]) for _ in range(3)]
    top = int(np.iinfo(dtype).max)
    return [case.random.choice([0, 1, top, top // 2]) for _ in range(3)]


def _nifti(case: Case) -> bytes:
    """A NIfTI-1 file of 3 x 4 x 5 numbers, its header changed."""
    import struct

    random = case.random
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    shape = random.choice(
        [
            (3, 3, 4, 5),
            (3, 3, 4, 5),
            (4, 3, 4, 5, 2),
            (2, 3, 4),
            (3, 30_000, 30_000, 30_000),
            (3, -1, 4, 5),
            (3, 0, 4, 5),
        ]
    )
    struct.pack_into(f"<{len(shape)}h", header, 40, *shape)
    code, bits = random.choice(
        [(4, 16), (4, 16), (16, 32), (64, 64), (2, 8), (128, 24), (32, 64), (9999, 16)]
    )
    struct.pack_into("<hh", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into(
        "<fff",
        header,
        108,
        352,
        random.choice([0, 1, float("nan"), 1e38]),
        random.choice([0, float("inf"), 1e38]),
    )
    header[344:348] = b"n+1\0"
    content = bytes(header) + random.randbytes(3 * 4 * 5 * 8)
    return wild.changed_bytes(random, content) if random.random() < 0.3 else content
