"""What the header of an image file tells without decoding its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from indexer.images.decode import open_image, upright_size
from retrieval.errors import ImageError


@dataclass(frozen=True)
class ImageHeader:
    """Size, colour mode and pages of an image file."""

    size: tuple[int, int]  #: (height, width) of the upright image, pixels
    mode: str  #: Pillow's
    pages: int  #: of a TIFF; 1 for others


def read_header(path: Path) -> ImageHeader | None:
    """The header of an image file, or None where it cannot be read; reading the image then says why."""
    try:
        with open_image(path, where=f"image {path}", error=ImageError) as image:
            pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
            return ImageHeader(upright_size(image), image.mode, pages)
    except Exception:  # a decoder may raise anything on a damaged header
        return None
