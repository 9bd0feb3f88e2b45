"""Memory side by side: bytes a patch on disk, peak resident memory of building, opening and asking.

    mycelia index build DATA --split train --out bank.index --config camvid.yaml --engine exact \\
        bank.max_patches=null bank.epochs=4 features.projection_width=384
    python -m benchmarks.memory bank.index DATA [--rows 1000000] [--json FILE] [--out benchmarks/results]

Every step runs in a fresh process; its peak is the kernel's (VmHWM: mapped files count as far as they were
touched), less what Python and the libraries take before the step begins. ``float32`` is what the peers do:
all vectors and labels as float32 in memory. Linux only.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bank import (
    Bank,
    K,
    Vectors,
    build,
    folder_bytes,
    half_whitened,
    in_fresh_process,
    peak_mib,
    queries_of,
    spaced,
    use_threads,
)
from benchmarks.command import index_parser
from benchmarks.quality import FORMS, Form
from benchmarks.report import write_table
from indexer.datasets import load_dataset
from retrieval import open_index

#: The forms of the frontier whose memory is compared.
COMPARED = ("exact float16", "FAISS default", "FAISS PCA 192 int8", "FAISS PCA 128 int8")


def build_peak(source: Path, rows: int, form: Form, folder: Path, threads: int) -> dict[str, float]:
    """Peak MiB and seconds of building one form; pages of the source count while they are in use."""
    use_threads(threads)
    bank = Bank.open(source).take(rows)
    before, start = peak_mib(), time.perf_counter()
    transform = None if form.pca is None else half_whitened(bank, form.pca)
    build(bank, folder, form.settings, transform)
    return {"build_s": round(time.perf_counter() - start, 1), "build_peak_mib": round(peak_mib() - before)}


def query_peak(folder: Path, queries: Vectors, threads: int) -> dict[str, float]:
    """Peak MiB and seconds of opening an index, and peak MiB after asking it."""
    use_threads(threads)
    before, start = peak_mib(), time.perf_counter()
    with open_index(folder) as index:
        opened, seconds = peak_mib() - before, time.perf_counter() - start
        index.search(queries[:, : index.similarity.width], K)
        asked = peak_mib() - before
    return {"open_s": round(seconds, 3), "open_peak_mib": round(opened), "query_peak_mib": round(asked)}


def float32_peak(source: Path, rows: int, queries: Vectors, threads: int) -> dict[str, float]:
    """The same of vectors and labels held as float32."""
    use_threads(threads)
    bank = Bank.open(source)
    before, start = peak_mib(), time.perf_counter()
    vectors = bank.take(rows).floats()
    labels = np.asarray(bank.take(rows).labels, dtype=np.float32)
    opened, seconds = peak_mib() - before, time.perf_counter() - start
    found = (torch.from_numpy(queries) @ torch.from_numpy(vectors).T).topk(K, dim=1).indices
    labels[found.numpy()]
    asked = peak_mib() - before
    return {"open_s": round(seconds, 3), "open_peak_mib": round(opened), "query_peak_mib": round(asked)}


def main() -> None:
    """Measure, print, and write table and JSON."""
    parser = index_parser(__doc__, images=None, rows=1_000_000)
    arguments = parser.parse_args()
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), 1)
    queries = queries_of(arguments.index, dataset, cache=arguments.cache)[0]
    bank = Bank.open(arguments.index)
    rows, width, classes = min(arguments.rows, len(bank)), bank.width, bank.labels.shape[1]
    table: list[dict[str, Any]] = [
        {
            "form": "float32",
            "bytes_per_patch": 4 * (width + classes),
            "build_s": "",
            "build_peak_mib": "",
            **in_fresh_process(float32_peak, arguments.index, rows, queries, arguments.threads),
        }
    ]
    for form in FORMS:
        if form.name not in COMPARED:
            continue
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work) / "stored.index"
            built = in_fresh_process(build_peak, arguments.index, rows, form, folder, arguments.threads)
            asked = in_fresh_process(query_peak, folder, queries, arguments.threads)
            size = folder_bytes(folder) / rows
        table.append({"form": form.name, "bytes_per_patch": round(size), **built, **asked})
    notes = [
        f"{rows} rows of {width} numbers; one image of {len(queries)} queries; {arguments.threads} threads."
    ]
    write_table("memory", table, folder=arguments.out, json_file=arguments.json, notes=notes)


if __name__ == "__main__":
    main()
