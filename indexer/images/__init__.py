"""Images: decoding whatever a camera or a tool wrote, resizing for the model, and the exact way back."""

from indexer.images.decode import ImageSource, decode_file, list_images, read_image
from indexer.images.geometry import INTERPOLATIONS, Box, Fit, Geometry, make_geometry

__all__ = [
    "INTERPOLATIONS",
    "Box",
    "Fit",
    "Geometry",
    "ImageSource",
    "decode_file",
    "list_images",
    "make_geometry",
    "read_image",
]
