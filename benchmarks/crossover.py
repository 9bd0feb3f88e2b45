"""From how many rows FAISS's lists are faster than comparing all rows, and by which arithmetic.

    mycelia index build DATA --split train --out bank.index --config camvid.yaml --engine exact \\
        bank.max_patches=null
    python -m benchmarks.crossover bank.index DATA [--sizes 25000 100000] [--out benchmarks/results]

At each size the exact engine as it is here, the same in float32 alone, FAISS's scan in float32 (Flat) and
FAISS's default lists are built and asked with the patches of whole images, in turns; each is asked twice and
the second time counts, medians over images. Milliseconds are those of the clock, and those of the processor
in all threads: on a machine that others use too, the second with ``--threads 1`` are the ones to compare.
Truth is exact search in float32.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.bank import Bank, K, Vectors, build, nearest, queries_of, recall, spaced, use_threads
from benchmarks.command import index_parser
from benchmarks.report import write_table
from indexer.datasets import load_dataset
from retrieval import IndexSettings, PatchIndex, open_index
from retrieval.engines import exact_search
from retrieval.engines.faiss_types import FLAT_ROWS, choose_factory, reduced_width, training_rows
from retrieval.processor import bfloat16_product_pays, processor_name


@dataclass(frozen=True)
class Kind:
    """One way to search."""

    name: str
    settings: IndexSettings
    float32: bool = False
    """Whether the exact engine must leave bfloat16 alone."""


def kinds(bank: Bank) -> list[Kind]:
    """What is compared at the size of a bank."""
    rows = max(len(bank), FLAT_ROWS)
    sample = np.concatenate(list(bank.spread(training_rows(len(bank)))))
    lists = choose_factory(rows, bank.width, len(sample), reduced=reduced_width(sample))
    scan = "exact, bfloat16 first" if bfloat16_product_pays() else "exact, float32: bfloat16 is slow here"
    return [
        Kind(scan, IndexSettings(engine="exact")),
        Kind("exact, float32 alone", IndexSettings(engine="exact"), float32=True),
        Kind("FAISS Flat, float32", IndexSettings(engine="faiss", factory="Flat")),
        Kind(f"FAISS {lists}", IndexSettings(engine="faiss", factory=lists)),
    ]


@contextmanager
def arithmetic(kind: Kind) -> Iterator[None]:
    """While it is entered, the exact engine may use bfloat16 or not."""
    if not kind.float32:
        yield
        return
    with patch.object(exact_search, "bfloat16_product_pays", lambda: False):
        yield


def measure(
    bank: Bank, images: list[Vectors], truth: list[npt.NDArray[np.int64]], work: Path
) -> list[dict[str, Any]]:
    """One line for each kind."""
    asked: list[tuple[Kind, PatchIndex, float]] = []
    for number, kind in enumerate(kinds(bank)):
        start = time.perf_counter()
        build(bank, work / str(number), kind.settings)
        asked.append((kind, open_index(work / str(number)), time.perf_counter() - start))
    spent: list[list[tuple[float, float]]] = [[] for _ in asked]
    recalls: list[list[float]] = [[] for _ in asked]
    for queries, wanted in zip(images, truth, strict=True):
        for position, (kind, index, _) in enumerate(asked):
            with arithmetic(kind):
                recalls[position].append(recall(index.search(queries, K).ids, wanted))
                start, busy = time.perf_counter(), time.process_time()
                index.search(queries, K)
                took = time.perf_counter() - start, time.process_time() - busy
            spent[position].append((took[0] / len(queries), took[1] / len(queries)))
    for _, index, _ in asked:
        index.close()
    return [
        {
            "rows": len(bank),
            "width": bank.width,
            "engine": kind.name,
            "ms_per_query": round(1000 * statistics.median(clock for clock, _ in spent[position]), 4),
            "processor_ms": round(1000 * statistics.median(busy for _, busy in spent[position]), 4),
            "recall_at_30": round(statistics.mean(recalls[position]), 5),
            "build_seconds": round(seconds, 1),
        }
        for position, (kind, _, seconds) in enumerate(asked)
    ]


def main() -> None:
    """Measure, print, and write table and JSON."""
    parser = index_parser(__doc__, images=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000, 300_000])
    parser.add_argument("--name", default="crossover", help="name of the tracked table")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    whole = Bank.open(arguments.index)
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
    images = queries_of(arguments.index, dataset, cache=arguments.cache)
    rows: list[dict[str, Any]] = []
    for size in (size for size in arguments.sizes if size <= len(whole)):
        bank = whole.take(size)
        truth = [nearest(bank, queries) for queries in images]
        with tempfile.TemporaryDirectory() as work:
            rows += measure(bank, images, truth, Path(work))
    notes = [
        f"{processor_name()}; {len(images)} images of {len(images[0])} queries; {arguments.threads} threads."
    ]
    write_table(arguments.name, rows, folder=arguments.out, json_file=arguments.json, notes=notes)


if __name__ == "__main__":
    main()
