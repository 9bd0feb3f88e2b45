"""Engines side by side on real patch features: build time, size, speed, recall and mIoU.

    mycelia index build DATA --split train --out cam.index --config camvid.yaml --engine exact \\
        bank.max_patches=null
    python -m benchmarks.engines cam.index DATA --split val --cache out [--images 20]

INDEX is an exact index, which is the truth: its rows are streamed into every other engine. Queries are
the patches of DATA's images, in batches of one image; times are medians over images, of searches
alone. Recall@30 is the share of the exact engine's thirty neighbours found. mIoU is that of DATA's
first images, everything else being equal. Converted indexes stay in the cache, in `engines`, and are used
again, with the build time of the first run.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.bank import K, Queries, allocated_bytes, describe, recall, spaced, use_threads
from benchmarks.command import index_parser, track
from benchmarks.report import write_table
from indexer.datasets import Dataset, load_dataset
from retrieval import IndexSettings, PatchIndex, open_index, read_manifest
from retrieval.edit.convert import convert_index
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.errors import ConfigError
from retrieval.store.manifest import has_manifest
from segmentation import Segmenter
from segmentation.cli.progress import ProgressDisplay
from segmentation.description import Description
from segmentation.scoring.columns import column_table
from segmentation.scoring.metrics import confusion_matrix, mean_iou

ENGINES = {
    "exact": IndexSettings(engine="exact"),
    "faiss-flat": IndexSettings(engine="faiss", factory="Flat"),
    "faiss-default": IndexSettings(engine="faiss"),  # IVF-PQ-refine from 100,000 rows on
    "faiss-hnsw": IndexSettings(engine="faiss", factory="HNSW32"),
    "edge-f16": IndexSettings(engine="qdrant"),
    "edge-int8": IndexSettings(
        engine="qdrant", qdrant=QdrantSettings(quantization="scalar", oversampling=2.0)
    ),
}

#: Files that hold vectors and what searches them, in an index of any engine.
VECTOR_FILES = ("vectors.npy", "vectors.faiss", "edge.", "rerank.npy")


def main() -> None:
    """Measure, print, and write the table."""
    parser = index_parser(__doc__, images=20)
    parser.set_defaults(cache=Path("out"))
    parser.add_argument("--only", nargs="*", choices=list(ENGINES), help="these engines instead of all")
    parser.add_argument("--no-miou", action="store_true", help="leave out the segmentation of the images")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
    described = describe(arguments.index, dataset)
    queries = [description.views[0].vectors for description in described]
    with open_index(arguments.index) as index:
        if index.manifest.engine["kind"] != "exact":
            raise ConfigError(f"{arguments.index} is no exact index; build it with --engine exact")
        truth, _ = ask(index, queries)
        rows = len(index)
    table = []
    for name in arguments.only or ENGINES:
        folder, seconds = prepare(
            arguments.index, name, arguments.cache / "engines", threads=arguments.threads
        )
        table.append(measure(name, folder, queries, truth, seconds))
        if not arguments.no_miou:
            table[-1]["mIoU"] = miou(folder, dataset, described)
    width, patches = queries[0].shape[1], len(queries[0])
    notes = [
        f"{rows} rows of {width} numbers; {len(queries)} images of {patches} patches; "
        f"{arguments.threads} threads. Bytes a patch are those of the vectors and what searches them; "
        "labels and positions come on top."
    ]
    write_table("engines", table, folder=arguments.out, json_file=arguments.json, notes=notes)


def prepare(source: Path, name: str, work: Path, *, threads: int) -> tuple[Path, float]:
    """The index of an engine, converted where it is not there yet, and the seconds that took."""
    folder, note = work / f"{name}.index", work / f"{name}.json"
    if not has_manifest(folder):
        work.mkdir(parents=True, exist_ok=True)
        settings = ENGINES[name]
        settings = settings.model_copy(
            update={"qdrant": settings.qdrant.model_copy(update={"threads": threads})}
        )
        start = time.perf_counter()
        convert_index(source, folder, settings=settings, progress=ProgressDisplay())
        note.write_text(json.dumps({"seconds": time.perf_counter() - start}))
    return folder, float(json.loads(note.read_text())["seconds"])


def ask(index: PatchIndex, queries: Queries) -> tuple[list[npt.NDArray[np.int64]], list[float]]:
    """The neighbours' places (T, K) of each image's patches, and the seconds of each search."""
    index.search(queries[0], K)  # loads what is loaded once
    places, seconds = [], []
    for vectors in queries:
        start = time.perf_counter()
        found = index.search(vectors, K)
        seconds.append(time.perf_counter() - start)
        number, row, col = np.moveaxis(index.patches(found.ids).astype(np.int64), -1, 0)
        places.append((number << 24) | (row << 12) | col)
    return places, seconds


def measure(
    name: str, folder: Path, queries: Queries, truth: list[npt.NDArray[np.int64]], seconds: float
) -> dict[str, object]:
    """One line of the table, without the mIoU."""
    start = time.perf_counter()
    with open_index(folder) as index:
        opened = time.perf_counter() - start
        places, times = ask(index, queries)
        rows = len(index)
    per_query = [1000 * each / len(vectors) for each, vectors in zip(times, queries, strict=True)]
    return {
        "engine": name,
        "build s": round(seconds, 1),
        "open s": round(opened, 2),
        "bytes a patch": round(vector_bytes(folder) / rows),
        "ms a query": round(statistics.median(per_query), 3),
        "recall@30": round(recall(np.concatenate(places), np.concatenate(truth)), 4),
    }


def vector_bytes(folder: Path) -> int:
    """What the vectors of an index, and what searches them, take on disk."""
    files = [folder / path for path in read_manifest(folder).files if path.startswith(VECTOR_FILES)]
    return sum(allocated_bytes(path) for path in files)


def miou(folder: Path, dataset: Dataset, described: list[Description]) -> float:
    """mIoU on the data set, percent."""
    with Segmenter.open(folder) as segmenter, track("evaluate", len(dataset)) as task:
        classes, column_of = len(segmenter.classes), column_table(dataset, segmenter.classes)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        for sample, description in zip(dataset.samples, described, strict=True):
            columns = segmenter.label(description).columns
            confusion += confusion_matrix(column_of[dataset.read_mask(sample)], columns, classes)
            task.advance()
    return round(100 * mean_iou(confusion), 2)


if __name__ == "__main__":
    main()
