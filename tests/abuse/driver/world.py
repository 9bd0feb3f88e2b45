"""What all inputs are tried on: data, indexes of patches and of whole images, photos, a video, a volume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...segmentation.cli.command import TINY, run, write_photos

WHOLE = (
    *("backbone.model=test_vit", "backbone.weights=random", "backbone.block=-1", "image.size=[64,64]"),
    *("runtime.device=cpu", "objective.kind=kl", "transfer.k=3"),
)
#: Exports that a data set can be built of again.
TOOLS = ("coco", "coco-rle", "labelme", "cvat", "label-studio", "label-studio-polygons", "yolo")


def _done(*arguments: object) -> None:
    result = run(*arguments)
    if result.exit_code:
        raise RuntimeError(f"the world cannot be made: {arguments}: {result.output}") from result.exception


def make_world(root: Path) -> Path:
    """Make it below ``root``, the same each time; returns its folder."""
    fixed = root / "fixed"
    data = write_photos(fixed / "data")
    (fixed / "tiny.yaml").write_text(TINY)
    (fixed / "scaled.yaml").write_text(TINY.replace("size: [64, 64]", "size: [64, 64], scale: 1.0"))
    for name, more in (("i", ()), ("scaled", ()), ("faiss", ("--engine", "faiss"))):
        recipe = fixed / ("scaled.yaml" if name == "scaled" else "tiny.yaml")
        _done("index", "build", data, "--config", recipe, "--out", fixed / f"{name}.index", *more)
    other = write_photos(root / "other", count=5)
    _done("index", "build", other, "--config", fixed / "tiny.yaml", "--out", fixed / "five.index")
    _write_colors(fixed / "colors")
    _done("index", "build", fixed / "colors", "--split", "train", "--out", fixed / "whole.index", *WHOLE)
    shutil.copy(data / "images" / "photo0.png", fixed / "photo.png")
    shutil.copy(data / "masks" / "photo0.png", fixed / "mask.png")
    _write_media(fixed, np.asarray(Image.open(fixed / "photo.png")))
    tools = fixed / "tools"
    _done("segment", fixed / "i.index", data / "images", "--out", tools, "--export", ",".join(TOOLS))
    shutil.copytree(data / "images", tools / "images")
    return fixed


def _write_colors(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for name, color in (("blue", (30, 60, 220)), ("red", (220, 40, 30))):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(color) + random.integers(-25, 26, (50, 70, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number}.png")


def _write_media(fixed: Path, photo: np.ndarray[Any, Any]) -> None:
    from ...videos import halves, write_video

    write_video(fixed / "clip.mp4", halves(4))
    first, *rest = (Image.fromarray(photo[:, :, 0] // 8 * number) for number in range(1, 5))
    first.save(fixed / "volume.tif", save_all=True, append_images=rest)
    image = Image.fromarray(photo)
    image.save(fixed / "photo.jpg", quality=90)
    image.save(fixed / "photo.webp")
    image.save(fixed / "photo.bmp")
    image.save(fixed / "photo.tif", compression="tiff_lzw")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(fixed / "photo.gif")
