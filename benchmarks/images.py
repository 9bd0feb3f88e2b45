"""What the features of whole images cost: seconds an image and peak memory of each objective.

    pip install fungivision==0.0.2 torchvision    # the authors' package, measured too where it is there
    python -m benchmarks.images [--images 3] [--out benchmarks/results]

The same random ViT-S/16 at 224 x 224, the published settings (KL one view, DINO 12 crops, InfoNCE 49
windows against those of 64 images), two threads, a process for each line; the first image warms up.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.bank import in_fresh_process, peak_mib
from benchmarks.command import plain_parser
from benchmarks.report import write_table

MODEL = "vit_small_patch16_224"
OBJECTIVES = ("kl", "dino", "infonce")
WHAT = {"embeddings": (), **{name: (name,) for name in OBJECTIVES}, "all three": OBJECTIVES}


def pictures(count: int) -> list[npt.NDArray[np.uint8]]:
    """Random images (300, 400, 3) uint8."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (300, 400, 3), dtype=np.uint8) for _ in range(count)]


def ours(what: str, precision: str, images: int) -> tuple[float, float]:
    """Median seconds an image, and the peak resident memory of the process in MiB."""
    from indexer.features.whole.images import ImageExtractor
    from indexer.recipe import load_recipe

    torch.set_num_threads(2)
    kinds = WHAT[what]
    settings = [
        f"backbone.model={MODEL}",
        "backbone.weights=random",
        "image.size=[224,224]",
        "features.level=image",
        "features.projection=dense",
        f"runtime.precision={precision}",
        "runtime.device=cpu",
    ]
    settings += [f"objective.kind=[{','.join(kinds)}]"] if kinds else ["features.kind=embeddings"]
    extractor = ImageExtractor.create(load_recipe(None, settings))
    if "infonce" in kinds:  # of random numbers: describing 64 images is no part of what is measured
        negatives = torch.randn(64 * 49, extractor.backbone.width)
        extractor._set({**extractor._tensors, "negatives": negatives})
    return _measure(lambda image: extractor.extract([image]), pictures(images + 1))


def theirs(what: str, images: int) -> tuple[float, float]:
    """The same of ``fungivision``; embeddings are a pass of the model on the image at 224 x 224."""
    import timm
    from fungivision.config import DINOConfig, KLConfig, SimCLRConfig
    from fungivision.wrapper import FUNGIWrapper
    from PIL import Image

    torch.set_num_threads(2)
    model: Any = timm.create_model(MODEL, pretrained=False, num_classes=0).eval()
    configs: dict[str, Any] = {"kl": KLConfig, "dino": DINOConfig, "infonce": SimCLRConfig}
    chosen = [configs[name]() for name in WHAT[what]]
    layer = f"blocks.{len(model.blocks) - 1}.attn.proj"
    wrapper = FUNGIWrapper(model, layer, torch.device("cpu"), extractor_configs=chosen)
    for extractor in wrapper.extractors:
        if hasattr(extractor, "comparison_batch_size"):
            extractor.comparison_batch = torch.randn(64 * 49, 96)

    def run(image: npt.NDArray[np.uint8]) -> None:
        wrapper([Image.fromarray(image)])
        with torch.no_grad():
            model(torch.zeros(1, 3, 224, 224))

    return _measure(run, pictures(images + 1))


def _measure(run: Any, images: list[npt.NDArray[np.uint8]]) -> tuple[float, float]:
    seconds = []
    for turn, image in enumerate(images):
        start = time.perf_counter()
        run(image)
        if turn:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak_mib()


def main() -> None:
    """Measure, print, and write the table."""
    parser = plain_parser(__doc__)
    parser.add_argument("--images", type=int, default=3, help="images that count, after one that warms up")
    arguments = parser.parse_args()
    peers = importlib.util.find_spec("fungivision") is not None
    rows = []
    for what in WHAT:
        runs: list[tuple[str, Any, tuple[Any, ...]]] = [
            ("Mycelia, float32", ours, (what, "float32", arguments.images)),
            ("Mycelia, bfloat16", ours, (what, "bfloat16", arguments.images)),
        ]
        if peers and what != "embeddings":
            runs.append(("fungivision 0.0.2, float32", theirs, (what, arguments.images)))
        for name, function, values in runs:
            seconds, peak = in_fresh_process(function, *values)
            rows.append(
                {
                    "features": what,
                    "by": name,
                    "seconds_an_image": round(seconds, 3),
                    "images_per_second": round(1 / seconds, 2),
                    "peak_mib": round(peak),
                }
            )
    note = "Embeddings are part of every line. Negatives are random numbers here and there."
    write_table("images", rows, folder=arguments.out, json_file=arguments.json, notes=[note])


if __name__ == "__main__":
    main()
