"""A tiny model, and drawn images in VOC's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "image.size=[64,64]",
    "objective.infonce.head_width=8",
    "objective.infonce.support_size=16",
    "runtime.device=cpu",
    "index.engine=exact",
)


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Settings of a model with random weights."""
    return TINY


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with three images of trainaug and two of val, background and aeroplane."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for number in range(5):
        mask = np.zeros((50, 70), np.uint8)
        mask[10:40, 10 + 5 * number :] = 1
        mask[9] = 255
        noise = np.random.default_rng(number).integers(0, 40, (50, 70, 3))
        photo = (noise + 150 * (mask == 1)[:, :, None]).astype(np.uint8)
        Image.fromarray(photo).save(root / "JPEGImages" / f"p{number}.jpg")
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            Image.fromarray(mask).save(root / folder / f"p{number}.png")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "trainaug.txt").write_text("p0\np1\np2\n")
    (lists / "val.txt").write_text("p3\np4\n")
    return root
