"""How much FUNGI costs over plain embeddings: images per second and peak memory, side by side.

    python benchmarks/extraction.py [--images 24] [--json FILE]

ViT-S/14 at 448 x 448 (1024 tokens), last block, random weights (the speed is the same). The kinds take
turns image by image within one process, so that a machine whose speed drifts is fair to all; the
medians count. Peak memory is that of a fresh process for each kind that extracts four images (Linux only).
"""

from __future__ import annotations

import json
import statistics
import time

import torch

from benchmarks.bank import in_fresh_process, peak_mib
from benchmarks.command import plain_parser
from benchmarks.report import write_table
from indexer.features.fungi import FungiExtractor
from indexer.recipe import load_recipe

KINDS = {
    "embeddings": ["features.kind=embeddings"],
    "factored": ["features.projection=factored"],
    "dense": ["features.projection=dense"],
}
SETTINGS = ["backbone.weights=random", "image.size=[448,448]"]


def make_extractor(kind: str) -> FungiExtractor:
    """A fitted extractor of one kind; its support bank has the default size."""
    extractor = FungiExtractor.create(load_recipe(None, [*SETTINGS, *KINDS[kind]]))
    images = torch.randn(4, 3, 448, 448, generator=torch.Generator().manual_seed(0))
    extractor.fit(lambda: [images], images=len(images))
    return extractor


def measure_speed(images: int) -> dict[str, float]:
    """Images per second of every kind, from the median time of one image."""
    extractors = {kind: make_extractor(kind) for kind in KINDS}
    generator = torch.Generator().manual_seed(1)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(images + 1):
        image = torch.randn(1, 3, 448, 448, generator=generator)
        for kind, extractor in extractors.items():
            start = time.perf_counter()
            extractor.extract(image)
            if turn:  # the first turn warms up
                seconds[kind].append(time.perf_counter() - start)
    return {kind: 1 / statistics.median(times) for kind, times in seconds.items()}


def peak_memory(kind: str) -> float:
    """Peak resident memory, in MiB, of a process that extracts four images."""
    extractor = make_extractor(kind)
    extractor.extract(torch.randn(4, 3, 448, 448))
    return peak_mib()


def main() -> None:
    """Measure, print, and write the table."""
    parser = plain_parser(__doc__)
    parser.add_argument("--images", type=int, default=24, help="turns that count")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    speed = measure_speed(arguments.images)
    memory = {kind: in_fresh_process(peak_memory, kind) for kind in KINDS}
    rows = [
        {
            "kind": kind,
            "images_per_second": round(speed[kind], 3),
            "cost_over_embeddings": round(speed["embeddings"] / speed[kind], 3),
            "peak_mib": round(memory[kind]),
        }
        for kind in KINDS
    ]
    write_table("extraction", rows, folder=arguments.out)
    if arguments.json:
        figures = {f"{kind}_ips": speed[kind] for kind in KINDS} | {
            f"{kind}_peak_mib": memory[kind] for kind in KINDS
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
