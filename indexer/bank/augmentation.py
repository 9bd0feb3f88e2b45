"""What later epochs see of an image: a random crop, with other colours.

Source: as :mod:`indexer.bank.sampling`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from indexer.images import Box, Geometry, make_geometry
from indexer.recipe import Recipe


def augment(
    image: npt.NDArray[np.uint8], settings: Recipe, generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """A random resized crop with colour jitter: the jittered image (H0, W0, 3), and the crop's geometry.

    The crop's area is uniform in ``scale`` times the image's, cut at the whole image; its aspect
    ratio is log-uniform in 3/4..4/3 of the image's.
    """
    box = _random_box(image.shape[:2], settings.bank.augmentation.scale, generator)
    geometry = make_geometry(image.shape[:2], settings.image.fixed_size, fit=settings.image.fit, box=box)
    return _jitter(image, settings.bank.augmentation.jitter, generator), geometry


def _random_box(shape: tuple[int, int], scale: tuple[float, float], generator: np.random.Generator) -> Box:
    area = float(generator.uniform(*scale))
    aspect = float(np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3))))
    height = min(shape[0] * (area / aspect) ** 0.5, shape[0])
    width = min(shape[1] * (area * aspect) ** 0.5, shape[1])
    top = float(generator.uniform(0, shape[0] - height))
    left = float(generator.uniform(0, shape[1] - width))
    return top, left, min(top + height, float(shape[0])), min(left + width, float(shape[1]))


def _jitter(
    image: npt.NDArray[np.uint8], strength: float, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    picture = Image.fromarray(image)
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhancer(picture).enhance(float(generator.uniform(1 - strength, 1 + strength)))
    return np.asarray(picture)
