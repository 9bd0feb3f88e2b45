"""Images: decoding whatever a camera or a tool wrote, resizing for the model, and the exact way back."""

from indexer.images.decode import ImageSource, decode_file, read_image
from indexer.images.geometry import INTERPOLATIONS, Box, Fit, Geometry, make_geometry
from indexer.images.grid import PatchGrid
from indexer.images.listing import Listing, list_folder, list_images

__all__ = [
    "INTERPOLATIONS",
    "Box",
    "Fit",
    "Geometry",
    "ImageSource",
    "Listing",
    "PatchGrid",
    "decode_file",
    "list_folder",
    "list_images",
    "make_geometry",
    "read_image",
]
