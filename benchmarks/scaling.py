"""How time and bytes grow with the bank, from 10,000 patches up to all that an index holds.

    mycelia index build DATA --split train --out bank.index --config camvid.yaml --engine exact \\
        bank.max_patches=null bank.epochs=4 features.projection_width=384
    mycelia index build DATA --split train --out larger.index --config camvid.yaml --engine exact \\
        bank.max_patches=null bank.epochs=32 features.projection_width=384 runtime.precision=bfloat16
    python -m benchmarks.scaling bank.index DATA [--larger larger.index] [--sizes 10000 1000000]

Real patch features, the banks enlarged by augmentation epochs. Each size is taken from the first bank that
holds it; sizes beyond both (the column "made_up") are reached by points between neighbouring patches. For
each size a compact index (192 half-whitened components in 8 bits) is built and asked with the patches of
other images, all in fresh processes. The exponent is that of a power of the number of patches, fitted
through the figures of the sizes that are searched alike
(FAISS's inverted lists begin at 100,000 patches).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bank import (
    Bank,
    K,
    Queries,
    Transform,
    build,
    folder_bytes,
    half_whitened,
    in_fresh_process,
    nearest,
    peak_mib,
    queries_of,
    recall,
    spaced,
    use_threads,
)
from benchmarks.command import index_parser
from benchmarks.plots import growth
from benchmarks.report import write_table
from indexer.datasets import Dataset, load_dataset
from retrieval import IndexSettings, open_index
from retrieval.engines.faiss_types import FLAT_ROWS

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_240_000)
SETTINGS = IndexSettings(engine="faiss", refine="int8")
#: Queries whose true neighbours are found by comparing with every row.
TRUTH_QUERIES = 500
#: Components kept.
WIDTH = 192
SERIES = (
    ("build_s", "seconds to build"),
    ("ms_per_query", "ms a query"),
    ("index_mib", "MiB on disk"),
    ("build_peak_mib", "MiB peak, building"),
)


def build_one(source: Path, rows: int, folder: Path, threads: int) -> dict[str, float]:
    """Seconds and peak MiB of building a compact index."""
    use_threads(threads)
    bank = Bank.open(source)
    start = time.perf_counter()
    build(bank.take(rows), folder, SETTINGS, half_whitened(bank, WIDTH), rows=rows)
    return {"build_s": round(time.perf_counter() - start, 1), "build_peak_mib": round(peak_mib())}


def ask_one(folder: Path, queries: Queries, threads: int) -> tuple[dict[str, float], Any]:
    """Seconds to open, median ms a query, peak MiB; and the neighbours of the first queries."""
    use_threads(threads)
    start = time.perf_counter()
    with open_index(folder) as index:
        opened = time.perf_counter() - start
        first = index.search(np.concatenate(queries)[:TRUTH_QUERIES], K).ids
        seconds = []
        for vectors in queries:
            start = time.perf_counter()
            index.search(vectors, K)
            seconds.append((time.perf_counter() - start) / len(vectors))
    return {
        "open_s": round(opened, 3),
        "ms_per_query": round(1000 * statistics.median(seconds), 3),
        "query_peak_mib": round(peak_mib()),
    }, first


def exponents(rows: list[dict[str, Any]]) -> str:
    """The fitted power of each figure, as a sentence."""
    large = [row for row in rows if row["rows"] >= FLAT_ROWS]
    if len(large) < 2:
        return "Too few sizes for an exponent."
    sizes = np.log([row["rows"] for row in large])
    fitted = [
        f"{label}: {np.polyfit(sizes, np.log([max(row[key], 1e-9) for row in large]), 1)[0]:.2f}"
        for key, label in SERIES
    ]
    return "Fitted exponents from 100,000 patches on: " + "; ".join(fitted) + "."


@dataclass(frozen=True)
class Source:
    """A bank on disk, and the patches that are asked in its features: as they are, and reduced."""

    folder: Path
    bank: Bank
    transform: Transform
    queries: Queries
    reduced: Queries

    @classmethod
    def open(cls, folder: Path, dataset: Dataset, *, cache: Path | None, threads: int) -> Source:
        """Open an exact index and describe the images of ``dataset`` as it does."""
        queries = queries_of(folder, dataset, cache=cache)
        use_threads(threads)
        bank = Bank.open(folder)
        transform = half_whitened(bank, WIDTH)
        return cls(folder, bank, transform, queries, [transform(vectors) for vectors in queries])

    def measure(self, rows: int, threads: int) -> dict[str, Any]:
        """A row of the table: an index of ``rows`` patches, built and asked."""
        asked_first = np.concatenate(self.queries)[:TRUTH_QUERIES]
        truth = nearest(self.bank.take(rows), asked_first, self.transform, rows=rows)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as work:
            folder = Path(work) / "stored.index"
            built = in_fresh_process(build_one, self.folder, rows, folder, threads)
            asked, found = in_fresh_process(ask_one, folder, self.reduced, threads)
            total = folder_bytes(folder)
        return {
            "rows": rows,
            "made_up": max(0, rows - len(self.bank)),
            **built,
            **asked,
            "recall_at_30": round(recall(found, truth), 4),
            "index_mib": round(total / 2**20, 1),
            "bytes_per_patch": round(total / rows),
        }


def main() -> None:
    """Measure, print, and write table, picture and JSON."""
    parser = index_parser(__doc__, images=8)
    parser.add_argument("--larger", type=Path, help="a second exact index, for sizes beyond the first")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="banks of so many patches")
    arguments = parser.parse_args()
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
    sources = [
        Source.open(folder, dataset, cache=arguments.cache, threads=arguments.threads)
        for folder in (arguments.index, arguments.larger)
        if folder is not None
    ]
    table = []
    for rows in arguments.sizes:
        source = next((each for each in sources if rows <= len(each.bank)), sources[-1])
        table.append(source.measure(rows, arguments.threads))
    note = (
        f"{WIDTH} numbers a row, recall within those. Peaks are of whole processes: libraries (about 400 "
        "MiB) count, and so do the pages of the source that are in use at that moment."
    )
    write_table(
        "scaling", table, folder=arguments.out, json_file=arguments.json, notes=[note, exponents(table)]
    )
    if arguments.out:
        growth(table, SERIES, arguments.out / "scaling.svg")


if __name__ == "__main__":
    main()
