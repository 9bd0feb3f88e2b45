"""Time and peak memory of `mycelia segment` on synthetic GeoTIFF files of growing size.

    python -m benchmarks.large [--config FILE] [--name large] [--out FOLDER] 5000 20000 [KEY=VALUE ...]

A memory of 16 images of 512 x 512 pixels, with two classes, seen at image.scale=1; without
``--config`` by a tiny ViT with random weights. Each file is segmented by a process of its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.command import plain_parser
from benchmarks.report import Row, write_table
from indexer.images.raster import need_rasterio, open_raster

TINY = (
    "backbone.model=test_vit",
    "backbone.weights=random",
    "backbone.block=-1",
    "features.kind=embeddings",
    "image.size=[512,512]",
)
#: Side of an area of one class, pixels.
AREA = 250
MEMORY = 16
COMMAND = (sys.executable, "-c", "from segmentation.cli import main; main()")


def areas(generator: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The classes 0 and 1 of pixels (height, width), in square areas."""
    shape = -(-height // AREA), -(-width // AREA)
    classes = generator.integers(0, 2, shape, dtype=np.uint8)
    return np.kron(classes, np.ones((AREA, AREA), dtype=np.uint8))[:height, :width]


def photo_of(classes: npt.NDArray[np.uint8], generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Grey pixels with some noise, bright where the class is 1."""
    noise = generator.integers(0, 32, classes.shape, dtype=np.uint8)
    grey: npt.NDArray[np.uint8] = classes * np.uint8(120) + np.uint8(50) + noise
    return grey


def write_memory(folder: Path) -> Path:
    """A plain data set of small images."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(MEMORY):
        classes = areas(generator, 512, 512)
        Image.fromarray(photo_of(classes, generator)).convert("RGB").save(folder / f"images/{number}.png")
        Image.fromarray(classes).save(folder / f"masks/{number}.png")
    return folder


def write_geotiff(path: Path, side: int) -> Path:
    """A GeoTIFF of side x side pixels, written in strips."""
    generator = np.random.default_rng(1)
    place = need_rasterio().Affine(0.5, 0, 390_000, 0, -0.5, 5_820_000)
    profile = {
        "count": 3,
        "height": side,
        "width": side,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": place,
    }
    window = need_rasterio().windows.Window
    with open_raster(
        path, "w", tiled=True, blockxsize=256, blockysize=256, compress="lzw", **profile
    ) as file:
        for top in range(0, side, AREA):
            grey = photo_of(areas(generator, min(AREA, side - top), side), generator)
            file.write(np.stack([grey] * 3), window=window(0, top, side, len(grey)))
    return path


def measured(*arguments: object) -> tuple[float, float]:
    """Seconds and, of the largest process so far, MiB that a command took."""
    start = time.perf_counter()
    subprocess.run([*COMMAND, *map(str, arguments)], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return time.perf_counter() - start, peak


def main() -> None:
    """Build a small index, segment each file, print and track."""
    parser = plain_parser(__doc__)
    parser.add_argument(
        "arguments", nargs="+", help="sides of files in pixels, rising; then key=value of the recipe"
    )
    parser.add_argument("--config", help="recipe instead of the tiny one")
    parser.add_argument("--name", default="large", help="name of the tracked table")
    args = parser.parse_args()
    sides = sorted(int(text) for text in args.arguments if text.isdigit())
    settings = [text for text in args.arguments if not text.isdigit()]
    recipe = ("--config", args.config) if args.config else TINY
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data, index = write_memory(folder / "data"), folder / "x.index"
        measured("index", "build", data, "--out", index, "image.scale=1", *recipe, *settings)
        for side in sides:
            file = write_geotiff(folder / f"{side}.tif", side)
            seconds, peak = measured("segment", index, file, "--out", folder / "masks", "--confidence")
            rows.append(
                {
                    "side, pixels": side,
                    "MB of the file": f"{file.stat().st_size / 1e6:.0f}",
                    "MB of its pixels": f"{3 * side**2 / 1e6:.0f}",
                    "seconds": f"{seconds:.0f}",
                    "peak MiB": f"{peak:.0f}",
                }
            )
    notes = [f"Recipe: {args.config or 'a tiny ViT (test_vit), random weights, embeddings, 512 x 512'}."]
    write_table(args.name, rows, folder=args.out, notes=notes, json_file=args.json)


if __name__ == "__main__":
    main()
