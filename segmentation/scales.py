"""At which scales an index has seen its memory images, and whether a photo is seen at another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from indexer.images import make_geometry
from indexer.recipe import ImageSettings
from retrieval.store.records import ImageRecord

#: How many times larger or smaller than memory images a photo may be seen without a word.
FACTOR = 1.5
#: Shares of the memory images below and above which a scale is none of theirs.
TAILS = (0.1, 0.9)


@dataclass(frozen=True)
class MemoryScales:
    """The scales of memory images that are fitted to a size, in pixels of the model's input per pixel."""

    settings: ImageSettings
    known: tuple[float, float] | None
    """Those of most images, from the smallest to the largest; None where it is not known, or fixed."""

    @classmethod
    def of(cls, images: Iterable[ImageRecord], settings: ImageSettings) -> MemoryScales:
        """Those of an index's images; augmented ones, and those that are removed, do not count."""
        shapes = Counter(
            (record.height, record.width)
            for record in images
            if not record.epoch and not record.removed and record.height and record.width
        )
        if settings.scale is not None or not shapes:
            return cls(settings, None)
        scales = [fitted_scale(shape, settings) for shape in shapes]
        low, high = np.quantile(np.repeat(scales, [*shapes.values()]), TAILS)
        return cls(settings, (float(low), float(high)))

    def gap(self, shape: tuple[int, int]) -> str | None:
        """A sentence where a photo (H, W) is seen at quite another scale than the memory, else None."""
        if self.known is None:
            return None
        low, high = self.known
        scale = fitted_scale(shape, self.settings)
        if low / FACTOR <= scale <= high * FACTOR:
            return None
        size = self.settings.fixed_size
        memory = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
        return (
            f"a photo of {shape[0]} x {shape[1]} pixels (height x width), fitted to image.size "
            f"[{size[0]},{size[1]}], is seen at a scale of {scale:.2g}, and memory images were at {memory}; "
            f"things of as many pixels look {'smaller' if scale < low else 'larger'} than in the memory: "
            f"where that matters, build the index with image.scale, for example {(low * high) ** 0.5:.2g}"
        )


def fitted_scale(shape: tuple[int, int], settings: ImageSettings) -> float:
    """Pixels of the model's input per pixel of a photo (H, W) fitted to the size; the mean of both axes."""
    geometry = make_geometry(shape, settings.fixed_size, fit=settings.fit)
    return float(np.sqrt(geometry.content[0] / shape[0] * geometry.content[1] / shape[1]))
