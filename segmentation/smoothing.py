"""Masks of a video's frames that flicker less: class shares averaged over time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from retrieval.classes import UNLABELLED, ClassMap
from retrieval.errors import ConfigError
from segmentation.pixels import mask_of_columns
from segmentation.segmenter import Segmentation


class Smoother:
    """An exponential moving average of the patches' class shares, over the frames of one video.

    Frame t gets ``s_t = weight s_(t-1) + (1 - weight) x_t`` of its own shares ``x_t``, with ``s_0 = x_0``:
    what was seen n frames ago counts ``weight^n`` as much as it did. It looks back only and follows no
    motion: what moves by more than a patch within about ``1 / (1 - weight)`` frames leaves a trail.
    """

    def __init__(self, weight: float, classes: ClassMap) -> None:
        """``weight`` is that of the past, 0 (none) to below 1; raises ConfigError for any other."""
        if not 0 <= weight < 1:
            raise ConfigError(
                f"the weight of earlier frames is {weight}; it has to be 0 (none) or more and below 1"
            )
        self.weight = weight
        self._classes = classes
        self._past: npt.NDArray[np.float32] | None = None  # (h, w, C)

    def __call__(self, result: Segmentation) -> Segmentation:
        """The result of the next frame with smoothed shares, and the mask and confidence that follow.

        Its votes stay those of the frame alone, and so does what is left blank. Frames of another size begin
        anew.
        """
        past, now = self._past, result.shares
        if past is None or past.shape != now.shape or self.weight == 0:
            self._past = now
            return result
        weight = np.float32(self.weight)
        self._past = weight * past + (1 - weight) * now
        pixels = replace(result.pixels, shares=self._past)
        winners = pixels.winners()
        columns = np.where(result.columns == UNLABELLED, UNLABELLED, winners.columns)
        return replace(
            result,
            mask=mask_of_columns(columns, self._classes),
            confidence=winners.confidence,
            columns=columns,
            winners=winners.columns,
            shares=self._past,
            pixels=pixels,
        )
