"""Pixels left blank where the mask is not sure enough."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from retrieval.classes import UNLABELLED, ClassMap
from segmentation.segmenter import Segmentation
from segmentation.service.errors import bad_request


def blank_id(classes: ClassMap) -> int:
    """The mask id of "nothing": one that the data set ignores, else the largest that no class has.

    Raises ServiceError 400 where every id of the mask's dtype is a class.
    """
    most = int(np.iinfo(classes.mask_dtype).max)
    ignored = [id for id in classes.ignore if id <= most]
    if ignored:
        return max(ignored)
    free = np.setdiff1d(np.arange(most + 1), classes.ids)
    if not len(free):
        raise bad_request(f"all {most + 1} ids of a mask are classes, so none is left for blank pixels")
    return int(free[-1])


def blanked(result: Segmentation, classes: ClassMap, least: float) -> Segmentation:
    """The result with pixels below a confidence of ``least`` (0..1) as "nothing".

    Compared in the 256 steps in which confidence is answered, so that whoever has those agrees.
    """
    if least <= 0:
        return result
    unsure = np.rint(255 * result.confidence) < math.ceil(255 * least)
    mask = np.where(unsure, np.array(blank_id(classes), dtype=result.mask.dtype), result.mask)
    return replace(result, mask=mask, columns=np.where(unsure, UNLABELLED, result.columns).astype(np.int32))
