"""The frontier of recipes: mIoU and boundary IoU against milliseconds an image and against bytes a patch.

    python -m benchmarks.frontier DATA [recipe.yaml[,KEY=VALUE...] ...] --work DIR [--out benchmarks/results]

Each recipe builds an index of DATA's split train, which ``--work`` keeps and later runs take, and segments
its split val. Recipes that differ in what is decided by each question alone share an index. Milliseconds are
those of single photos, from file to mask, in turns: the median of ``--timed`` photos, of the process's own
time with two threads (busy neighbours count little) and by the clock. Bytes a patch are all files of the
index but the thumbnails.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.bank import allocated_bytes
from benchmarks.command import plain_parser
from benchmarks.plots import frontier
from benchmarks.report import Row, write_table
from indexer import build_index
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import Recipe, load_recipe
from retrieval import open_index
from retrieval.progress import Progress
from retrieval.store.layout import THUMBS
from segmentation import Segmenter, evaluate
from segmentation.cli.progress import ProgressDisplay

#: What is measured without a choice: plain embeddings, the three recipes for masks, and those of before.
RECIPES = (
    "camvid.yaml,features.kind=embeddings",
    "fast.yaml",
    "balanced.yaml",
    "best.yaml",
    "camvid.yaml",
    "camvid-compact.yaml",
)


@dataclass(frozen=True)
class Candidate:
    """A recipe that was asked for, and the index that it built."""

    name: str
    recipe: Recipe
    index: Path

    def open(self) -> Segmenter:
        """A segmenter that labels as the recipe says."""
        transfer, image = self.recipe.transfer, self.recipe.image
        return Segmenter.open(
            self.index,
            runtime=self.recipe.runtime,
            transfer=transfer,
            shifts=image.shifts,
            flip=image.flip,
        )


def prepare(asked: str, data: Dataset, work: Path, progress: Progress) -> Candidate:
    """Build the recipe's index, or take the one that is there."""
    name, *overrides = asked.split(",")
    recipe = load_recipe(name, overrides)
    decides = f"{recipe.fingerprint()} {recipe.index.model_dump_json()} {recipe.rerank.model_dump_json()}"
    index = work / f"{hashlib.sha256(decides.encode()).hexdigest()[:12]}.index"
    if not index.is_dir():
        build_index(data, index, recipe=recipe, progress=progress)
    return Candidate(asked, recipe, index)


def bytes_per_patch(index: Path) -> float:
    """All files of an index but thumbnails, over its rows."""
    with open_index(index) as opened:
        rows = len(opened)
    files = [path for path in index.rglob("*") if path.is_file() and THUMBS not in path.parts]
    return sum(map(allocated_bytes, files)) / rows


def time_each(candidates: list[Candidate], photos: list[Path]) -> list[tuple[float, float]]:
    """(process, clock) milliseconds of one photo from file to mask, the medians, recipes in turns."""
    spent: list[list[tuple[float, float]]] = [[] for _ in candidates]
    with ExitStack() as opened:
        segmenters = [opened.enter_context(candidate.open()) for candidate in candidates]
        for number, photo in enumerate(photos):
            for segmenter, times in zip(segmenters, spent, strict=True):
                before = time.process_time(), time.perf_counter()
                segmenter.segment(photo)
                after = time.process_time(), time.perf_counter()
                if number or len(photos) == 1:  # the first warms up
                    times.append((after[0] - before[0], after[1] - before[1]))
    return [
        (1000 * statistics.median(own for own, _ in times), 1000 * statistics.median(c for _, c in times))
        for times in spent
    ]


def main() -> None:
    """Build, score, time, draw."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), help="a recipe and its changes")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the indexes")
    parser.add_argument("--timed", type=int, default=9, help="photos that are timed")
    parser.add_argument("--stride", type=int, default=1, help="take every so many images of val")
    parser.add_argument("--name", default="frontier", help="of the table's files")
    args = parser.parse_args()
    torch.set_num_threads(2)
    progress = ProgressDisplay()
    args.work.mkdir(parents=True, exist_ok=True)
    train, val = (load_dataset(args.data, split=split) for split in ("train", "val"))
    val = val.select(sample.id for sample in val.samples[:: args.stride])
    candidates = [prepare(asked, train, args.work, progress) for asked in args.recipes]
    times = time_each(candidates, [sample.image for sample in val.samples[: args.timed + 1]])
    rows: list[Row] = []
    for candidate, (own, clock) in zip(candidates, times, strict=True):
        with candidate.open() as segmenter:
            report = evaluate(segmenter, val, progress=progress)
        rows.append(
            {
                "form": candidate.name,
                "miou": round(100 * report.miou, 1),
                "boundary": round(100 * report.boundary_miou, 1),
                "ms_process": round(own),
                "ms_clock": round(clock),
                "bytes_per_patch": round(bytes_per_patch(candidate.index)),
            }
        )
    notes = [f"{len(train)} images of train in memory, {len(val)} of val scored."]
    write_table(args.name, rows, folder=args.out, json_file=args.json, notes=notes)
    if args.out is not None:
        frontier(rows, args.out / f"{args.name}.svg", time=("ms_process", "ms of processor time an image"))


if __name__ == "__main__":
    main()
