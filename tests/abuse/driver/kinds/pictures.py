"""Images and masks of every mode, damaged, mislabelled, or claiming to be huge."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from indexer.images import read_image
from retrieval.errors import ImageError

from .. import wild
from ..case import Case, FaultError
from .memory import verified

_PHOTOS = ("photo.png", "photo.jpg", "photo.webp", "photo.bmp", "photo.tif", "photo.gif")
_SUFFIXES = (
    ".png",
    ".jpg",
    ".webp",
    ".bmp",
    ".tif",
    ".gif",
    ".ppm",
    ".jp2",
    ".tiff",
    ".jpeg",
    ".PNG",
    ".heic",
    ".avif",
    ".mpo",
    "",
)


def encoded(case: Case, *, mask: bool = False) -> tuple[bytes, str]:
    """The bytes of an image and a name's ending, rarely the one it should have."""
    random, what = case.random, case.random.randrange(12)
    if what < 4:
        name = "mask.png" if mask else random.choice(_PHOTOS)
        content, suffix = wild.changed_bytes(random, case.path(name).read_bytes()), Path(name).suffix
    elif what == 4:
        content, suffix = _huge(case)
    elif what == 5:
        content, suffix = (
            random.choice([b"", b"\0", b"x" * 100, b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"]),
            ".png",
        )
    elif what == 6:
        content, suffix = _odd_png(case), ".png"
    elif what == 7:
        content, suffix = _pages(case)
    else:
        content, suffix = _in_mode(case)
        if random.random() < 0.3:
            content = wild.changed_bytes(random, content)
    return content, random.choice(_SUFFIXES) if random.random() < 0.15 else suffix


def _size(case: Case) -> tuple[int, int]:
    """(width, height)."""
    sizes = [
        (70, 48),
        (70, 48),
        (70, 48),
        (1, 1),
        (1, 500),
        (500, 1),
        (48, 70),
        (3, 2),
        (2000, 3),
        (300, 200),
        (70, 47),
    ]
    return case.random.choice(sizes)


def _array(case: Case, size: tuple[int, int], top: int) -> Any:
    return np.random.default_rng(case.number).integers(0, top + 1, (size[1], size[0]))


def _in_mode(case: Case) -> tuple[bytes, str]:
    """An image in one of Pillow's modes and formats, with metadata that may be odd."""
    random, size = case.random, _size(case)
    mode = random.choice(
        [
            "1",
            "L",
            "LA",
            "P",
            "PA",
            "RGB",
            "RGBA",
            "CMYK",
            "YCbCr",
            "LAB",
            "HSV",
            "I",
            "F",
            "I;16",
            "I;16B",
            "RGBX",
        ]
    )
    if mode in ("I", "F"):
        top = random.choice([1, 255, 65535, 2**31 - 2])
        image = Image.fromarray(_array(case, size, top).astype(np.int32 if mode == "I" else np.float32))
    elif mode.startswith("I;16"):
        image = Image.fromarray(_array(case, size, random.choice([1, 255, 4095, 65535])).astype(np.uint16))
    else:
        image = Image.fromarray(_array(case, size, random.choice([1, 255])).astype(np.uint8))
        if mode != "L":
            image = (
                image.convert("RGB").convert(mode)
                if mode not in ("LA", "PA", "P", "1")
                else image.convert(mode)
            )
    if image.mode == "F" and random.random() < 0.5:
        image = Image.fromarray(
            np.full((size[1], size[0]), random.choice([np.nan, np.inf, -1e30]), np.float32)
        )
    format, suffix = random.choice(
        [
            ("PNG", ".png"),
            ("JPEG", ".jpg"),
            ("TIFF", ".tif"),
            ("WEBP", ".webp"),
            ("BMP", ".bmp"),
            ("GIF", ".gif"),
            ("PPM", ".ppm"),
            ("JPEG2000", ".jp2"),
            ("ICO", ".ico"),
            ("TGA", ".tga"),
            ("PDF", ".pdf"),
            ("EPS", ".eps"),
        ]
    )
    options: dict[str, Any] = {}
    if format in ("JPEG", "PNG", "WEBP", "TIFF") and random.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535])
        options["exif"] = exif.tobytes() if random.random() < 0.7 else b"Exif\0\0" + random.randbytes(20)
    if format == "PNG" and image.mode in ("L", "P", "RGB") and random.random() < 0.2:
        options["transparency"] = (1, 2, 3) if image.mode == "RGB" else random.choice([0, 255])
    if format == "TIFF" and random.random() < 0.5:
        options["compression"] = random.choice(["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
    return _saved(image, format, options), suffix


def _saved(image: Image.Image, format: str, options: dict[str, Any]) -> bytes:
    for tried in (image, image.convert("RGB")):
        file = io.BytesIO()
        try:
            tried.save(file, format, **options)
            return file.getvalue()
        except Exception:  # a mode that the format has not, or metadata it does not take
            options = {}
    return file.getvalue()


def _pages(case: Case) -> tuple[bytes, str]:
    """Several frames or pages, of several sizes where the format can."""
    random = case.random
    format, suffix = random.choice([("GIF", ".gif"), ("TIFF", ".tif"), ("WEBP", ".webp"), ("PNG", ".png")])
    frames = [
        Image.fromarray(_array(case, _size(case) if format == "TIFF" else (70, 48), 255).astype(np.uint8))
        for _ in range(4)
    ]
    file = io.BytesIO()
    frames[0].save(file, format, save_all=True, append_images=frames[1:])
    return file.getvalue(), suffix


def _huge(case: Case) -> tuple[bytes, str]:
    """A header that claims more pixels than there are; a decompression bomb where they are there."""
    random = case.random
    width, height = random.choice(
        [
            (2**31 - 1, 2**31 - 1),
            (65535, 65535),
            (10_000, 8_000),
            (30_000, 30_000),
            (2**16, 1),
            (1, 2**20),
            (0, 5),
            (2**32 - 1, 1),
        ]
    )
    what = random.randrange(4)
    if what == 0:
        return b"BM" + struct.pack(
            "<IHHIIiiHHIIiiII",
            54,
            0,
            0,
            54,
            40,
            min(width, 2**31 - 1),
            min(height, 2**31 - 1),
            1,
            24,
            0,
            0,
            0,
            0,
            0,
            0,
        ), ".bmp"
    if what == 1:
        return f"P6 {width} {height} 255\n".encode() + b"\0" * 100, ".ppm"
    if what == 2:
        return b"GIF89a" + struct.pack(
            "<HHBBB", width & 65535, height & 65535, 0, 0, 0
        ) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;", ".gif"
    rows = zlib.compress(b"\0" * min(5_000_000, 1 + width * height // 8))
    return _png(
        struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, random.choice([1, 8]), 0, 0, 0, 0),
        rows,
    ), ".png"


def _odd_png(case: Case) -> bytes:
    """A PNG whose header does not go with its pixels."""
    random = case.random
    depth, color = random.choice([1, 2, 4, 8, 16, 3, 64]), random.choice([0, 2, 3, 4, 6, 5])
    rows = zlib.compress(random.randbytes(random.choice([0, 10, 48 * 71, 48 * 300])))
    more = (
        b""
        if random.random() < 0.6
        else _chunk(
            random.choice([b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"zTXt", b"acTL"]),
            random.randbytes(random.choice([0, 3, 6, 768, 5000])),
        )
    )
    return _png(
        struct.pack(">IIBBBBB", 70, 48, depth, color, random.choice([0, 1]), 0, random.choice([0, 1, 2])),
        rows,
        more,
    )


def _png(header: bytes, rows: bytes, more: bytes = b"") -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + more + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def as_photo(case: Case) -> None:
    """An odd image to segment, or to ask about; a mask has the photo's size."""
    random = case.random
    content, suffix = encoded(case)
    photo = case.inside / f"photo{suffix}"
    photo.write_bytes(content)
    # at a scale, many pixels are many tiles: minutes of honest work
    index = case.path(
        random.choice(["i.index", "i.index", "scaled.index"]) if _is_small(photo) else "i.index"
    )
    what = random.randrange(8)
    if what == 0:
        case.run("search", index, photo, "--at", "0,0", "--picture", case.out / "why.png")
    elif what == 1:
        case.run("classify", case.path("whole.index"), photo)
    elif what == 2:
        case.run("similar", case.path("whole.index"), photo, "--picture", case.out / "sheet.png")
    else:
        more = random.sample(["--overlay", "--confidence", "--skip-bad", "--json"], random.randrange(3))
        case.run("segment", index, photo, "--out", case.out, *more)
        mask = next(iter(sorted(case.out.glob("photo.[pt][ni][gf]"))), None)
        if mask is None:
            if "--skip-bad" not in more:
                raise FaultError("no mask was written")
            return
        if mask.suffix == ".tif":  # read as a raster, which knows more of TIFF
            return
        try:
            shape = read_image(photo).shape[:2]
        except ImageError as error:
            raise FaultError("a mask was written of what cannot be read") from error
        with Image.open(mask) as written:
            if written.size != shape[::-1]:
                raise FaultError(f"a mask of {written.size} was written for a photo of {shape}")


def _is_small(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.width * image.height < 1_000_000
    except Exception:
        return True


def as_memory(case: Case) -> None:
    """An odd image, with a mask of the usual size or one of its own, in a build or an addition."""
    _built(
        case,
        *encoded(case),
        *(
            (case.path("mask.png").read_bytes(), ".png")
            if case.random.random() < 0.6
            else encoded(case, mask=True)
        ),
    )


def as_mask(case: Case) -> None:
    """An odd mask of a usual photo."""
    _built(case, case.path("photo.png").read_bytes(), ".png", *encoded(case, mask=True))


def _built(case: Case, photo: bytes, photo_suffix: str, mask: bytes, mask_suffix: str) -> None:
    random = case.random
    data = Path(shutil.copytree(case.path("data"), case.inside / "data"))
    (data / "images" / "photo0.png").unlink()
    (data / "masks" / "photo0.png").unlink()
    (data / "images" / f"photo0{photo_suffix}").write_bytes(photo)
    (data / "masks" / f"photo0{mask_suffix}").write_bytes(mask)
    if random.random() < 0.3:
        (data / "classes.json").unlink()
    what = random.randrange(5)
    more = random.sample(["--skip-bad", "--unmasked=skip", "--format=folder"], random.randrange(3))
    if what == 0:
        case.run("inspect", data)
    elif what == 1:
        case.run("classes", data)
    elif what == 2:
        case.run("evaluate", case.path("i.index"), data, *[word for word in more if word != "--skip-bad"])
    elif what == 3:
        index = Path(shutil.copytree(case.path("five.index"), case.inside / "five.index"))
        case.free.append(index)
        try:
            case.run("index", "replace", index, data, *more)
        finally:
            verified(index)
    else:
        case.run(
            "index", "build", data, "--config", case.path("tiny.yaml"), "--out", case.out / "b.index", *more
        )
        verified(case.out / "b.index")
