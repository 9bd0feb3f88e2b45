"""Boundary IoU: how well masks agree near the edges of classes.

Source: *Boundary IoU: Improving Object-Centric Image Segmentation Evaluation* (Cheng, Girshick, Dollár, Berg,
Kirillov; CVPR 2021), section 4; the band's width and the image's border as in its ``mask_to_boundary``.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED
from retrieval.errors import MaskError

#: Width of the band, as a share of the image's diagonal.
DILATION = 0.02

#: Pixels in both bands, and in either: (C, 2) int64.
Overlap = npt.NDArray[np.int64]


def boundary_overlap(
    truth: npt.NDArray[np.int32],
    predicted: npt.NDArray[np.int32],
    classes: int,
    *,
    dilation: float = DILATION,
) -> Overlap:
    """Intersection and union of each class's bands, of one image: two (H, W) class columns -> (C, 2) int64.

    The band of a class in a mask are its pixels at most d from a pixel that is not of the class, or from
    outside the image, diagonals counting as one; d is ``dilation`` of the diagonal, at least 1. Pixels whose
    truth is -1 (unlabelled) are no class in either mask. Sums over a data set give its boundary IoU. Raises
    MaskError where the shapes differ.
    """
    if truth.shape != predicted.shape:
        raise MaskError(f"truth is {truth.shape}, prediction {predicted.shape}; both need the same shape")
    width = max(1, round(dilation * float(np.hypot(*truth.shape))))
    labelled = truth != UNLABELLED
    predicted = np.where(labelled, predicted, UNLABELLED)
    own, theirs = _band(truth, width) & labelled, _band(predicted, width) & labelled
    both = own & theirs & (truth == predicted)
    counts = [
        np.bincount(columns[chosen], minlength=classes)
        for columns, chosen in ((truth, both), (truth, own), (predicted, theirs))
    ]
    return np.stack([counts[0], counts[1] + counts[2] - counts[0]], axis=1)


def boundary_iou(overlap: Overlap) -> npt.NDArray[np.float64]:
    """Boundary IoU of each class in 0..1: (C, 2) -> (C,); NaN for a class in neither mask."""
    result = np.full(len(overlap), np.nan)
    np.divide(overlap[:, 0], overlap[:, 1], out=result, where=overlap[:, 1] > 0)
    return result


def _band(columns: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.bool_]:
    """The pixels within ``width`` of one of another class: (H, W) int32 columns -> (H, W) bool.

    One look at all classes: the square around such a pixel has a smallest and a largest column.
    """
    outside = columns.astype(np.int64).max(initial=0) + 2  # no class
    padded = np.pad(columns + 1, 1, constant_values=outside).astype(np.uint16)
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    mixed = cv2.erode(padded, square) != cv2.dilate(padded, square)
    return np.asarray(mixed[1:-1, 1:-1], dtype=np.bool_)
