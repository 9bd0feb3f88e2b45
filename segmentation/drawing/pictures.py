"""Pictures: (H, W, 3) uint8 RGB arrays, or grey (H, W), the colours they share, and their files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from retrieval.store.files import atomic_write, storage_errors

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

#: By which a picture of ours is known again.
MADE_BY = "mycelia"

GROUND: Color = (24, 26, 29)  #: behind text, so that it can be read whatever is around it
INK: Color = (236, 237, 238)  #: text


def write_image(path: str | Path, picture: Picture, *, quality: int = 88) -> None:
    """Write a picture, RGB or grey (H, W), as JPEG where the name ends so, else PNG; at once or not at all.

    Raises StorageError.
    """
    path = Path(path)
    jpeg = _is_jpeg(path)
    options = {"quality": quality, "comment": MADE_BY} if jpeg else {"pnginfo": _png_mark()}
    save_image(path, Image.fromarray(picture), "JPEG" if jpeg else "PNG", **options)


def write_figure(path: Path, figure: Any) -> Path:
    """Write a figure of matplotlib, as JPEG where the name ends so, else PNG, at once or not at all.

    Returns ``path``. Raises StorageError.
    """
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file, warnings.catch_warnings():
        # what no font has was said once, and not for each glyph
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if _is_jpeg(path):
            figure.savefig(file, format="jpg", pil_kwargs={"comment": MADE_BY})
        else:
            figure.savefig(file, format="png", metadata={"Software": MADE_BY})
    return path


def save_image(path: Path, image: Image.Image, format: str, **options: Any) -> None:
    """Write an image in a format of Pillow's, at once or not at all; raises StorageError."""
    encoded = io.BytesIO()
    image.save(encoded, format, **options)
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def is_our_picture(path: Path) -> bool:
    """Whether a file is a picture that :func:`write_image` or :func:`write_figure` wrote."""
    try:
        with Image.open(path) as image:
            mark = image.info.get("Software", image.info.get("comment", b""))
    except Exception:  # no picture, or a damaged one
        return False
    return bool(mark in (MADE_BY, MADE_BY.encode()))


def _png_mark() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", MADE_BY)
    return info


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")
