"""Volumes as slices: NIfTI, through nibabel (the extra ``medical``), and TIFF of several pages."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageSequence

from retrieval.errors import ImageError, MaskError, MissingExtraError

#: What reads NIfTI.
MEDICAL_EXTRA = "medical"
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".tiff", ".tif")
#: Percentiles of a volume's values that become black and white where no window is given.
PERCENTILES = (0.5, 99.5)

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Window:
    """The values that become black and white; what lies outside is cut off."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Values) -> Window:
        """The :data:`PERCENTILES` of the finite values of a whole volume."""
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if finite.size == 0:
            return cls(0.0, 1.0)
        low, high = np.percentile(finite, PERCENTILES)
        return cls(float(low), float(high) if high > low else float(low) + 1.0)

    def to_bytes(self, values: Values) -> npt.NDArray[np.uint8]:
        """Values of any shape as 0..255, rounded; NaN as 0."""
        share = (np.nan_to_num(values.astype(np.float64), nan=self.low) - self.low) / (self.high - self.low)
        return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def volume_name(path: Path) -> str | None:
    """A volume's name without its ending; None for a file that is none by its ending."""
    for suffix in VOLUME_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def read_volume(path: Path, *, axis: int = 2) -> Values:
    """The values of a volume in slices, (n, H, W), in its own unit.

    NIfTI is turned to the nearest anatomical axes (RAS+) and cut along ``axis``: 0 from left to right, 1 from
    back to front, 2 from the feet up; of the two other axes the later one goes up and the other to the
    right, so that axial slices show the front on top; left and right are mirrored as radiologists see them.
    TIFF is cut into its pages. Raises ImageError for a file that cannot be read or has other than three axes,
    and MissingExtraError for NIfTI without nibabel.
    """
    if not path.is_file():
        raise ImageError(f"there is no volume at {path}; check the path")
    return _read_nifti(path, axis) if ".nii" in path.name.lower() else _read_pages(path)


def read_labels(path: Path, shape: Sequence[int], *, axis: int = 2) -> npt.NDArray[np.uint16]:
    """The class ids of a label volume in slices, (n, H, W), for an image volume of that shape.

    Raises MaskError for another shape, or for values that are no whole numbers in 0..65535.
    """
    values = read_volume(path, axis=axis)
    if values.shape != tuple(shape):
        raise MaskError(
            f"the label volume {path} has {values.shape} (slices, height, width), but its image volume has "
            f"{tuple(shape)}; they have to be equal"
        )
    if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise MaskError(
            f"the label volume {path} holds values that are no whole numbers; class ids are expected"
        )
    if values.min() < 0 or values.max() > 65535:
        raise MaskError(
            f"the label volume {path} holds values from {values.min():g} to {values.max():g}; class ids are "
            "from 0 to 65535"
        )
    return values.astype(np.uint16)


def _read_nifti(path: Path, axis: int) -> Values:
    if importlib.util.find_spec("nibabel") is None:
        raise MissingExtraError(
            f"reading {path} needs the package nibabel; "
            f"install it with: pip install 'mycelia[{MEDICAL_EXTRA}]'"
        )
    import nibabel

    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asanyarray(image.dataobj)
    except Exception as problem:  # it raises errors of many kinds on a damaged file
        raise ImageError(f"volume {path} cannot be read as NIfTI ({problem}); fetch it again") from problem
    if values.ndim > 3 and all(size == 1 for size in values.shape[3:]):
        values = values.reshape(values.shape[:3])
    if values.ndim != 3 or values.dtype.kind not in "iuf":
        raise ImageError(
            f"volume {path} has the shape {values.shape} of {values.dtype}; one of three axes with a number "
            "at each place is expected, so save a single channel or point of time"
        )
    slices = np.moveaxis(values, axis, 0)  # (n, right or front, front or up)
    turned: Values = slices.transpose(0, 2, 1)[:, ::-1]  # (n, H, W), front or up at the top
    mirrored: Values = turned[:, :, ::-1]
    return turned if axis == 0 else mirrored


def _read_pages(path: Path) -> Values:
    try:
        with Image.open(path, formats=("TIFF",)) as image:
            pages = [np.array(page) for page in ImageSequence.Iterator(image)]
    except Exception as problem:  # a decoder may raise anything on a damaged file
        raise ImageError(f"volume {path} cannot be read as TIFF ({problem}); fetch it again") from problem
    shapes = {page.shape for page in pages}
    if len(shapes) != 1 or pages[0].ndim != 2:
        raise ImageError(
            f"volume {path} has pages of the shapes {sorted(shapes)}; grey pages of one size are expected"
        )
    values = np.stack(pages)
    return values.astype(np.uint8) if values.dtype == np.bool_ else values  # of one bit
