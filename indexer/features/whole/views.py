"""Views of a whole image, as ``fungivision`` makes them; all in the range 0..1, none is normalised here.

Random crops follow from the seed alone: every image gets the same draws, relative to its size.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from indexer.images.crops import ASPECTS, TRIES, centre_crop, crop_size
from indexer.objective_settings import DINOSettings, ObjectiveSettings

#: The single view is resized to this many times the model's side, and its centre is seen (256 for 224).
MARGIN = 256 / 224


def views_of(
    image: npt.NDArray[np.uint8],
    kind: str,
    size: tuple[int, int],
    settings: ObjectiveSettings,
    *,
    seed: int,
) -> Tensor:
    """The views of an image (H0, W0, 3) uint8 that ``kind`` says: (V, 3, H, W) float32 in 0..1.

    ``single``, ``crops`` (with the settings of DINO) or ``overlapping`` (with those of InfoNCE).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if kind == "crops":
        return crops(pixels, size, settings.dino, seed=seed)
    if kind == "overlapping":
        contrast = settings.infonce
        return overlapping(pixels, size, patches=contrast.patches, stride_scale=contrast.stride_scale)
    return single(pixels, size)


def single(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The image stretched a little larger than the model's input, and cut at its centre: (1, 3, H, W)."""
    larger = (round(size[0] * MARGIN), round(size[1] * MARGIN))
    resized = _resize(pixels[None], larger, "bilinear")
    top, left = (round((large - side) / 2) for large, side in zip(larger, size, strict=True))
    return resized[..., top : top + size[0], left : left + size[1]]


def crops(pixels: Tensor, size: tuple[int, int], settings: DINOSettings, *, seed: int) -> Tensor:
    """Global crops, then local ones, each at the model's size: (V, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    scales = [settings.global_scale] * settings.global_crops + [settings.local_scale] * settings.local_crops
    views = []
    for scale in scales:
        top, left, height, width = random_box(pixels.shape[1:], scale, generator)
        views.append(_resize(pixels[None, :, top : top + height, left : left + width], size, "bicubic"))
    return torch.cat(views)


def random_box(
    shape: tuple[int, ...], scale: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop of an image (height, width), in pixels.

    Area uniform in ``scale`` of the image's, aspect log-uniform. As many numbers are drawn whatever fits,
    so that the draws of later crops do not depend on the image.
    """
    draws = torch.rand(TRIES, 4, generator=generator).tolist()
    low, high = (math.log(aspect) for aspect in ASPECTS)
    for area_draw, aspect_draw, row_draw, col_draw in draws:
        area = scale[0] + area_draw * (scale[1] - scale[0])
        size = crop_size(shape, area, math.exp(low + aspect_draw * (high - low)))
        if size is not None:
            height, width = size
            return int(row_draw * (shape[0] - height + 1)), int(col_draw * (shape[1] - width + 1)), *size
    return centre_crop(shape)


def overlapping(pixels: Tensor, size: tuple[int, int], *, patches: int, stride_scale: int) -> Tensor:
    """Windows of 1 / ``patches`` of the stretched image, side / ``stride_scale`` apart: (V, 3, H, W)."""
    whole = _resize(pixels[None], size, "bicubic")[0]
    parts = math.isqrt(patches)
    height, width = size[0] // parts, size[1] // parts
    down, right = max(1, height // stride_scale), max(1, width // stride_scale)
    windows = whole.unfold(1, height, down).unfold(2, width, right)  # (3, rows, cols, height, width)
    windows = windows.permute(1, 2, 0, 3, 4).flatten(0, 1)
    return F.interpolate(windows, size=size, mode="bicubic", antialias=True, align_corners=False)


def _resize(pixels: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resized with antialiasing and rounded to bytes, as an image library does: (n, 3, H, W) in 0..1."""
    resized = F.interpolate(pixels.float(), size=size, mode=mode, antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).div_(255)
