"""What comes in with a request: read up to a limit, and looked at before it is decoded."""

from __future__ import annotations

import base64
import binascii
import io
import re
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from indexer.images import read_image
from retrieval.errors import DataError
from segmentation.service.errors import ServiceError, bad_request, too_large
from segmentation.service.settings import MIB

#: Formats of Pillow's that an upload may have: no interpreters (PostScript), no players, no documents.
FORMATS = (
    "PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF",
)  # fmt: skip
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm"}

#: What a form holds besides its files.
FORM_OVERHEAD = MIB


@dataclass(frozen=True)
class Upload:
    """One file of a request."""

    content: bytes
    name: str
    """Its name as the client gave it, made harmless: for answers and ids, never for a path to open."""


def safe_name(name: str | None, default: str = "photo") -> str:
    """A name without folders, control characters and what a shell takes for more than a name."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    text = "".join(c for c in unicodedata.normalize("NFC", last) if unicodedata.category(c)[0] != "C")
    text = re.sub(r"[^\w.\-]", "_", text).strip("._-")[-100:]
    return text or default


async def read_body(request: Request, most: int) -> bytes:
    """A raw body of at most ``most`` bytes; raises ServiceError 413 as soon as there are more."""
    check_length(request, most)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_many_bytes(most)
        parts.append(part)
    return b"".join(parts)


def check_length(request: Request, most: int) -> None:
    """Refuse by the stated length, before anything is read."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdigit():
        raise bad_request("Content-Length is no number")
    if int(stated) > most:
        raise _too_many_bytes(most)


def _too_many_bytes(most: int) -> ServiceError:
    return too_large(f"the upload has more than {most:,} bytes, the limit; send a smaller file")


@contextmanager
def _counted(request: Request, most: int) -> Iterator[None]:
    """Count what a form's parser reads."""
    check_length(request, most)
    receive, size = request._receive, 0

    async def counted() -> Any:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise _too_many_bytes(most)
        return message

    request._receive = counted
    try:
        yield
    finally:
        request._receive = receive


async def read_form(request: Request, *, most: int, files: int) -> FormData:
    """A multipart form of at most ``files`` files and ``most`` bytes; raises ServiceError 400, 413, 415."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise ServiceError(415, "unsupported", "send a multipart/form-data body")
    with _counted(request, most + FORM_OVERHEAD):
        try:
            return await request.form(max_files=files, max_fields=16, max_part_size=64 * 1024)
        except HTTPException as problem:
            raise bad_request(f"the form cannot be read: {problem.detail}") from None


async def file_of(form: FormData, field: str, most: int) -> Upload:
    """The file of a form's field; raises ServiceError 400, 413."""
    value = form.get(field)
    if not isinstance(value, UploadFile):
        raise bad_request(f"the form has no file in its field {field!r}")
    return await read_file(value, most)


async def read_file(file: UploadFile, most: int) -> Upload:
    """One file of a form; raises ServiceError 413."""
    content = await file.read(most + 1)
    if len(content) > most:
        raise _too_many_bytes(most)
    return Upload(content, safe_name(file.filename))


async def read_upload(request: Request, most: int) -> Upload:
    """The photo of a request: field ``image`` of a form, or a raw body of an image type."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("multipart/form-data"):
        async with _closing(await read_form(request, most=most, files=1)) as form:
            return await file_of(form, "image", most)
    if kind.startswith("image/") or kind.startswith("application/octet-stream"):
        return Upload(await read_body(request, most), "photo")
    raise ServiceError(
        415, "unsupported", "send the photo as the field image of multipart/form-data, or as an image/* body"
    )


class _closing:  # noqa: N801
    """A form whose temporary files go at the end."""

    def __init__(self, form: FormData) -> None:
        self._form = form

    async def __aenter__(self) -> FormData:
        return self._form

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()


closing_form = _closing


def check_image(content: bytes, most_pixels: int, what: str = "the upload") -> str:
    """Look at an image's header; the ending of its format's files.

    Raises ServiceError 415 for what is no image of a known format, 413 for too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_readable()) as image:
                (width, height), format = image.size, image.format or "PNG"
    except UnidentifiedImageError:
        raise ServiceError(
            415, "no_image", f"{what} is no image that can be read here; send JPEG or PNG"
        ) from None
    except Image.DecompressionBombError:
        raise too_large(f"{what} has more than {most_pixels:,} pixels, the limit") from None
    except Exception:  # a decoder may raise anything on a damaged header
        raise ServiceError(422, "damaged", f"{what} is damaged; export the image again") from None
    if width * height > most_pixels:
        raise too_large(
            f"{what} has {height:,} x {width:,} pixels, more than {most_pixels:,}, the limit; make it smaller"
        )
    return _SUFFIXES.get(format, f".{format.lower()}")


def _readable() -> list[str]:
    """The allowed formats that this installation knows."""
    from indexer.images.formats import HEIF_SUFFIXES, can_read, register_heif

    if can_read(Path(f"photo{min(HEIF_SUFFIXES)}")):
        register_heif("the upload")
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def on_disk(content: bytes, suffix: str, *, name: str = "image") -> Iterator[Path]:
    """The content as a file of our own name in a folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mycelia-serve-") as folder:
        path = Path(folder) / f"{name}{suffix}"
        path.write_bytes(content)
        try:
            yield path
        except DataError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error


def decode(content: bytes, most_pixels: int) -> npt.NDArray[np.uint8]:
    """An uploaded photo as upright RGB (H, W, 3) uint8; raises ServiceError and ImageError."""
    suffix = check_image(content, most_pixels)
    with on_disk(content, suffix) as path:
        return read_image(path)


def unpack_mask(mask: dict[str, Any], most_pixels: int) -> npt.NDArray[np.uint8]:
    """A mask (H, W) uint8 as the contract packs it: base64 of deflated rows; raises ServiceError 400, 413.

    No more is inflated than the stated shape needs.
    """
    shape = mask.get("shape")
    if mask.get("encoding") != "deflate" or mask.get("dtype") != "uint8":
        raise bad_request("a mask needs encoding deflate and dtype uint8")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)):
        raise bad_request("a mask needs its shape [height, width]")
    height, width = shape
    if height * width > most_pixels:
        raise too_large(f"the mask has more than {most_pixels:,} pixels, the limit")
    try:
        packed = base64.b64decode(str(mask.get("data", "")), validate=True)
        unpacker = zlib.decompressobj()
        pixels = unpacker.decompress(packed, height * width + 1)
    except (binascii.Error, zlib.error, ValueError):
        raise bad_request("the mask's data are no base64 of a zlib stream") from None
    if len(pixels) != height * width or not unpacker.eof:
        raise bad_request(f"the mask's data are not {height} x {width} bytes, as its shape says")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width)
