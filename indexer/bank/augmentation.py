"""What an augmented epoch sees of an image: a random crop, with other colours.

Source of ``mycelia``: as :mod:`indexer.bank.sampling`. Source of ``hummingbird``: the train transforms
of ``open-hummingbird-eval`` (``src/utils/transforms.py``, ``src/utils/image_transformations.py``).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from indexer.images import Box, Geometry, make_geometry
from indexer.images.crops import ASPECTS, TRIES, centre_crop, crop_size
from indexer.recipe import Recipe

#: Hummingbird: range of the crop's area over the image's.
PEERS_SCALE = (0.5, 2.0)
#: Hummingbird: half the range of each jitter, and how often each of the four is applied.
PEERS_JITTER, PEERS_CHANCE = 0.1, 0.5

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def augment(
    image: npt.NDArray[np.uint8], settings: Recipe, generator: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Geometry]:
    """A random resized crop with colour jitter: the jittered image (H0, W0, 3), and the crop's geometry.

    ``mycelia``: the crop's area is uniform in ``scale`` times the image's, cut at the whole image; its
    aspect ratio is log-uniform in 3/4..4/3 of the image's. ``hummingbird``: :func:`peers_box` and
    :func:`peers_jitter`, whose crops and colours are as the peers'. Not as theirs are the draws, which come
    from ``generator``; the crop's interpolation (theirs is bilinear, ours the one of all images, the
    model's own); and the labels, counted at the mask's resolution where they resize the mask.
    """
    augmentation = settings.bank.augmentation
    if augmentation.kind == "hummingbird":
        box = peers_box(image.shape[:2], generator)
        jittered = peers_jitter(image, generator)
    else:
        box = _random_box(image.shape[:2], augmentation.scale, generator)
        jittered = _jitter(image, augmentation.jitter, generator)
    return jittered, make_geometry(
        image.shape[:2], settings.image.fixed_size, fit=settings.image.fit, box=box
    )


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
    for enhancer in _ENHANCERS:
        picture = enhancer(picture).enhance(float(generator.uniform(1 - strength, 1 + strength)))
    return np.asarray(picture)


def peers_box(shape: tuple[int, int], generator: np.random.Generator) -> Box:
    """The crop of torchvision's ``RandomResizedCrop(scale=(0.5, 2), ratio=(3/4, 4/3))``, whole pixels.

    ``shape`` is (H0, W0). Area uniform, width over height log-uniform; a crop that leaves the image is
    drawn again, and after ten the middle of the image is taken, as large as the ratios allow.
    """
    low, high = (math.log(aspect) for aspect in ASPECTS)
    top, left, height, width = centre_crop(shape)
    for _ in range(TRIES):
        area, aspect = float(generator.uniform(*PEERS_SCALE)), math.exp(float(generator.uniform(low, high)))
        size = crop_size(shape, area, aspect)
        if size is not None:
            height, width = size
            top = int(generator.integers(0, shape[0] - height + 1))
            left = int(generator.integers(0, shape[1] - width + 1))
            break
    return float(top), float(left), float(top + height), float(left + width)


def peers_jitter(image: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Brightness, contrast, saturation, hue in this order: (H0, W0, 3) uint8 -> the same shape.

    Each is applied with probability 0.5, by a factor uniform in 0.9..1.1, the hue by -0.1..0.1 of the circle.
    """
    picture = Image.fromarray(image)
    for enhancer in _ENHANCERS:
        if generator.random() <= PEERS_CHANCE:
            picture = enhancer(picture).enhance(float(generator.uniform(1 - PEERS_JITTER, 1 + PEERS_JITTER)))
    if generator.random() <= PEERS_CHANCE:
        picture = turn_hue(picture, float(generator.uniform(-PEERS_JITTER, PEERS_JITTER)))
    return np.asarray(picture)


def turn_hue(picture: Image.Image, turn: float) -> Image.Image:
    """An RGB picture with its hue turned by a share of the circle, in the 256 steps of PIL's HSV."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = (np.asarray(hue, dtype=np.int32) + int(turn * 255)) % 256
    bands = (Image.fromarray(turned.astype(np.uint8)), saturation, value)
    return Image.merge("HSV", bands).convert("RGB")
