"""Plain retrieval and FUNGI on Pascal VOC by bank size: the hummingbird score beside the published numbers.

    python -m benchmarks.reproduce --voc VOCdevkit/VOC2012 --out benchmarks/results
    python -m benchmarks.reproduce --voc VOCdevkit/VOC2012 --recipes voc-dino-s16 --sizes 102400 --seeds 0 1
    python -m benchmarks.reproduce --voc VOCdevkit/VOC2012 --recipes voc-dinov2-s14 image.size=[224,224]

Each recipe's memory is built from trainaug and scored on val. What is done lies in --work and is taken from
there when the same is asked again, so a run that was stopped goes on. A recipe's weights come from the model
hub; ``key=value`` changes any setting, the weights too, and then the published number is of something else.

Source of the published numbers (mIoU of plain retrieval): the README of ``open-hummingbird-eval``, two
augmentation epochs, 512 pixels for DINO and 504 for DINOv2.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import plain_parser
from benchmarks.report import write_table
from indexer.bank.build import build_index
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, load_recipe
from retrieval.errors import MyceliaError
from segmentation.cli.progress import ProgressDisplay
from segmentation.scoring.evaluator import evaluate
from segmentation.segmenter import Segmenter

#: Recipe -> bank size -> mIoU in percent of plain retrieval.
PUBLISHED = {
    "voc-dino-s16": {102_400: 37.2, 1_024_000: 43.1, 10_240_000: 46.6},
    "voc-dino-b16": {102_400: 44.9, 1_024_000: 50.8, 10_240_000: 55.7},
    "voc-dinov2-s14": {102_400: 70.2, 1_024_000: 74.9, 10_240_000: 77.0},
    "voc-dinov2-b14": {102_400: 69.1, 1_024_000: 74.6, 10_240_000: 76.9},
}
FEATURES = ("embeddings", "fungi")
#: A setting among the words of the command line.
OVERRIDE = re.compile(r"[a-z][\w.]*=")
#: Images of the whole data set: trainaug, val.
WHOLE = (10_582, 1_449)


@dataclass(frozen=True)
class Cell:
    """One memory to build and score."""

    name: str
    recipe: Recipe
    size: int

    def digest(self, memory: Dataset, asked: Dataset) -> str:
        """What decides the score, as a word: recipe and data."""
        said = self.recipe.model_dump(mode="json", exclude={"runtime"})
        data = [
            [str(d.root.resolve()), d.split, [sample.id for sample in d.samples]] for d in (memory, asked)
        ]
        return hashlib.sha256(json.dumps([said, data], sort_keys=True).encode()).hexdigest()[:12]


def cells(
    names: Sequence[str], sizes: Sequence[int], seeds: Sequence[int], overrides: Sequence[str]
) -> list[Cell]:
    """Every recipe with every bank size, features and seed, changed by overrides. Raises ConfigError."""
    found = []
    for name in names:
        for size in sizes:
            for kind in FEATURES:
                for seed in seeds:
                    own = [f"bank.max_patches={size}", f"features.kind={kind}", f"seed={seed}"]
                    found.append(Cell(name, load_recipe(f"{name}.yaml", [*overrides, *own]), size))
    return found


def measure(cell: Cell, memory: Dataset, asked: Dataset, work: Path) -> dict[str, Any]:
    """Scores in percent, rows and seconds of a cell: those in ``work``, else new ones, left there."""
    place = work / f"{cell.name}-{cell.digest(memory, asked)}"
    scored, index = place.with_suffix(".json"), place.with_suffix(".index")
    if scored.is_file():
        known: dict[str, Any] = json.loads(scored.read_text())
        return known
    start = time.perf_counter()
    if not index.is_dir():
        build_index(memory, index, recipe=cell.recipe, progress=ProgressDisplay())
    built = time.perf_counter() - start
    with Segmenter.open(index, runtime=cell.recipe.runtime) as segmenter:
        report = evaluate(segmenter, asked, protocol="hummingbird", progress=ProgressDisplay())
        rows = len(segmenter.index)
    assert report.hummingbird_miou is not None
    found = {
        "rows": rows,
        "hummingbird": 100 * report.hummingbird_miou,
        "standard": 100 * report.miou,
        "build_s": built,
        "evaluate_s": report.seconds,
    }
    scored.write_text(json.dumps(found))
    return found


def row_of(cell: Cell, found: dict[str, Any], *, comparable: bool) -> dict[str, object]:
    """One line of the table; the difference to what is published only where the same was measured."""
    kind = cell.recipe.features.kind
    published = PUBLISHED.get(cell.name, {}).get(cell.size) if kind == "embeddings" else None
    differs = f"{found['hummingbird'] - published:+.1f}" if published is not None and comparable else ""
    return {
        "recipe": cell.name,
        "features": kind,
        "bank": cell.size,
        "rows": found["rows"],
        "seed": cell.recipe.seed,
        "hummingbird mIoU": f"{found['hummingbird']:.1f}",
        "published": "" if published is None else f"{published:.1f}",
        "difference": differs,
        "standard mIoU": f"{found['standard']:.1f}",
        "build s": round(found["build_s"]),
        "evaluate s": round(found["evaluate_s"]),
    }


def notes_of(memory: Dataset, asked: Dataset, overrides: Sequence[str]) -> list[str]:
    """What a reader has to know to compare the table with the published numbers."""
    counts = len(memory), len(asked)
    notes = [f"Memory: {counts[0]} images of {memory.split}; scored: {counts[1]} of {asked.split}."]
    if counts != WHOLE:
        notes.append(
            f"This is a piece of {sum(counts)} images, not the whole data set ({WHOLE[0]} and {WHOLE[1]}): "
            "no figure here can be compared with a published one."
        )
    if overrides:
        notes.append(f"Other settings than the recipes': {', '.join(f'`{o}`' for o in overrides)}.")
        if any(override.startswith("backbone.") for override in overrides):
            notes.append("The weights are not those of the published numbers.")
    notes.append("Published: plain retrieval, in the README of open-hummingbird-eval; none for FUNGI.")
    return notes


def main() -> None:
    """Build, score, print and write the table; what is done is not done again."""
    parser = plain_parser(__doc__)
    parser.add_argument("--voc", type=Path, required=True, help="Pascal VOC 2012 with SBD's trainaug")
    parser.add_argument("--recipes", nargs="+", default=list(PUBLISHED), help="names of recipes in configs/")
    parser.add_argument("--sizes", nargs="+", type=int, default=[102_400], help="patches of a memory")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=Path("out/reproduce"), help="indexes and scores")
    parser.add_argument("--name", default="reproduce", help="name of the tracked table")
    parser.epilog = "key=value: settings other than the recipes', anywhere among the options"
    overrides = [word for word in sys.argv[1:] if OVERRIDE.match(word)]
    args = parser.parse_args([word for word in sys.argv[1:] if not OVERRIDE.match(word)])
    try:
        memory, asked = (load_dataset(args.voc, split=split) for split in ("trainaug", "val"))
        asked_for = cells(args.recipes, args.sizes, args.seeds, overrides)
        args.work.mkdir(parents=True, exist_ok=True)
        comparable = (len(memory), len(asked)) == WHOLE and not overrides
        rows = []
        for cell in asked_for:
            rows.append(row_of(cell, measure(cell, memory, asked, args.work), comparable=comparable))
            print(rows[-1], file=sys.stderr)
    except MyceliaError as error:
        sys.exit(f"error: {error}")
    notes = notes_of(memory, asked, overrides)
    write_table(args.name, rows, folder=args.out, json_file=args.json, notes=notes)


if __name__ == "__main__":
    main()
