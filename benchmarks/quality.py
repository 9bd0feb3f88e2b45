"""The frontier: mIoU against bytes a patch and against milliseconds a query.

    mycelia index build DATA --split train --out bank.index --config camvid.yaml --engine exact
    python -m benchmarks.quality bank.index DATA [--json FILE] [--out benchmarks/results]

The rows of an exact index are stored in every other form; the images of DATA are segmented from each,
with features that were computed once. Label transfer, upsampling and scoring are the product's own. T is
the recipe's, and for half-whitened components the one that was best for them on the train split.
Bytes a patch are all of an index's files; what it keeps once (support bank, projection) counts too.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bank import (
    Bank,
    Queries,
    Transform,
    build,
    folder_bytes,
    half_whitened,
    queries_of,
    score,
    spaced,
    unchanged,
    use_threads,
)
from benchmarks.command import index_parser
from benchmarks.plots import frontier
from benchmarks.report import write_table
from indexer.datasets import Dataset, load_dataset
from indexer.recipe import recipe_from_dict
from retrieval import IndexSettings, open_index
from retrieval.store.layout import FEATURES
from segmentation.scoring.metrics import mean_iou

#: T for half-whitened components, chosen on train with one stretch of a sequence left out at a time.
WHITENED_TEMPERATURE = 0.04


@dataclass(frozen=True)
class Form:
    """How the rows are stored: an engine, and principal components where asked for."""

    name: str
    settings: IndexSettings
    pca: int | None = None


FORMS = (
    Form("exact float32", IndexSettings(engine="exact", dtype="float32")),
    Form("exact float16", IndexSettings(engine="exact")),
    Form("FAISS default", IndexSettings(engine="faiss")),
    Form("FAISS int8", IndexSettings(engine="faiss", refine="int8")),
    *(
        Form(f"FAISS PCA {width} int8", IndexSettings(engine="faiss", refine="int8"), pca=width)
        for width in (256, 192, 128, 64)
    ),
    Form("FAISS PCA 128 scanned int8", IndexSettings(engine="faiss", factory="SQ8"), pca=128),
)


def measure(
    form: Form, bank: Bank, source: Path, work: Path, dataset: Dataset, queries: Queries
) -> dict[str, Any]:
    """One line of the table."""
    folder = work / "stored.index"
    transform: Transform = unchanged if form.pca is None else half_whitened(bank, form.pca)
    build(bank, folder, form.settings, transform)
    shutil.copy2(source / FEATURES, folder)
    recipe = recipe_from_dict(bank.manifest.recipe)
    temperature = recipe.transfer.temperature if form.pca is None else WHITENED_TEMPERATURE
    confusion = np.zeros((len(dataset.classes),) * 2, dtype=np.int64)
    seconds = []
    with open_index(folder) as index:
        index.search(transform(queries[0]), recipe.transfer.k)  # loads what is loaded once
        for sample, vectors in zip(dataset.samples, queries, strict=True):
            asked = transform(vectors)
            start = time.perf_counter()
            found = index.search(asked, recipe.transfer.k)
            seconds.append((time.perf_counter() - start) / len(asked))
            confusion += score(found, dataset.read_mask(sample), recipe.image, temperature=temperature)
    size = folder_bytes(folder) / len(bank)
    shutil.rmtree(folder)
    return {
        "form": form.name,
        "T": temperature,
        "bytes_per_patch": round(size),
        "ms_per_query": round(1000 * statistics.median(seconds), 3),
        "miou": round(100 * mean_iou(confusion), 2),
    }


def main() -> None:
    """Measure, print, and write table, picture and JSON."""
    parser = index_parser(__doc__, images=101)
    parser.add_argument("--rows", type=int, help="at most so many rows of the bank")
    parser.add_argument("--only", nargs="*", help="forms whose names contain one of these words")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    bank = Bank.open(arguments.index)
    bank = bank.take(arguments.rows or len(bank))
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
    queries = queries_of(arguments.index, dataset, cache=arguments.cache)
    forms = [f for f in FORMS if not arguments.only or any(word in f.name for word in arguments.only)]
    with tempfile.TemporaryDirectory() as work:
        rows = [measure(form, bank, arguments.index, Path(work), dataset, queries) for form in forms]
    note = (
        f"{len(bank)} rows of {bank.width} numbers; {len(queries)} images of {len(queries[0])} patches; "
        f"{arguments.threads} threads."
    )
    write_table("quality", rows, folder=arguments.out, json_file=arguments.json, notes=[note])
    if arguments.out:
        frontier(rows, arguments.out / "quality.svg")


if __name__ == "__main__":
    main()
