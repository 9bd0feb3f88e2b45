"""Which files count as images by their endings, and which of them this installation can read."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path

from PIL import features

from retrieval.errors import MissingExtraError

#: Photos of phones, read with the extra :data:`HEIF_EXTRA`.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
HEIF_EXTRA = "heif"

#: File name endings (lower case) that count as images when a folder is listed.
IMAGE_SUFFIXES = (
    frozenset(
        {".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
        | {".tif", ".tiff", ".webp", ".avif"}
    )
    | HEIF_SUFFIXES
)

#: Pillow's formats that other programs decode (Ghostscript), which a file must not start by its content.
PROGRAM_FORMATS = frozenset({"EPS"})

#: What the first bytes of an ISO media file call the formats that pillow-heif reads.
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def can_read(path: Path) -> bool:
    """Whether this installation reads files of that ending (one of :data:`IMAGE_SUFFIXES`)."""
    suffix = path.suffix.lower()
    if suffix in HEIF_SUFFIXES:
        return _has_heif()
    return suffix != ".avif" or _has_avif()


@cache
def _has_heif() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def _has_avif() -> bool:
    # Pillows before 11.3 do not know the word.
    return "avif" in features.get_supported_modules() if "avif" in features.modules else False


def is_heif(path: Path) -> bool:
    """Whether a file's first bytes are those of HEIC or HEIF, whatever its name ends in; never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    # An AVIF may call itself by the family's name first, and names itself after that.
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[12:]


def register_heif(where: str) -> None:
    """Teach Pillow to open HEIC and HEIF; MissingExtraError, naming ``where``, without the extra."""
    if not _has_heif():
        raise MissingExtraError(
            f"{where} is HEIC, which needs the package pillow-heif; "
            f"install it with: pip install 'mycelia[{HEIF_EXTRA}]', or save the photo as JPEG"
        )
    importlib.import_module("pillow_heif").register_heif_opener()
