"""Search engines side by side on real patch features: speed, recall, size, build time.

    mycelia index build DATA --split train --out bank.index --config camvid.yaml --engine exact \\
        bank.max_patches=null bank.epochs=4 features.projection_width=384
    python -m benchmarks.search bank.index DATA --rows 1000000 [--json FILE] [--out benchmarks/results]

Queries are random patches of DATA's images, asked in batches of 1,000; times are medians over batches
that take turns between the engines. Each is asked twice and the second time counts: what a mapped index
had to read from the disk is in memory by then, as the peers' indexes always are. Truth is exact search in
float32. Ours are whole indexes with their labels, asked as the product asks them. The peers are asked where
they are installed (`pip install mycelia[bench]`): ScaNN with the settings of `open-hummingbird-eval` (512
leaves, 32 searched, threshold 0.2, 4 dimensions a block, 120 reordered) and with more leaves and reordering,
up to our recall; hnswlib and usearch up to `--graph-rows` rows, since they take long to build.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.bank import (
    Bank,
    K,
    Vectors,
    build,
    folder_bytes,
    half_whitened,
    nearest,
    queries_of,
    recall,
    spaced,
    unchanged,
    use_threads,
)
from benchmarks.command import index_parser
from benchmarks.report import write_table
from indexer.datasets import load_dataset
from retrieval import IndexSettings, open_index

BATCH = 1000
Search = Callable[[Vectors], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Contender:
    """An engine that is built: its search, one per setting, and what it took."""

    name: str
    searches: dict[str, Search]
    bytes_per_row: float
    build_seconds: float


def ours(name: str, bank: Bank, work: Path, settings: IndexSettings, pca: int | None = None) -> Contender:
    """An index of ours; with ``pca`` on half-whitened components of the vectors."""
    folder = work / f"{name}.index"
    start = time.perf_counter()
    transform = unchanged if pca is None else half_whitened(bank, pca)
    build(bank, folder, settings, transform)
    seconds = time.perf_counter() - start
    index = open_index(folder)

    def search(queries: Vectors) -> npt.NDArray[np.int64]:
        return index.search(transform(queries), K).ids

    return Contender(name, {"": search}, folder_bytes(folder) / len(bank), seconds)


def exact_torch(bank: Bank) -> Contender:
    """The plain product with a float32 bank, as a notebook would write it."""
    rows = torch.from_numpy(bank.floats())

    def search(queries: Vectors) -> npt.NDArray[np.int64]:
        return (torch.from_numpy(queries) @ rows.T).topk(K, dim=1).indices.numpy()

    return Contender("torch float32", {"": search}, 4.0 * bank.width, 0.0)


def scann(bank: Bank) -> Contender:
    """ScaNN with the peers' settings, and with more leaves and reordering."""
    import scann as library

    vectors = bank.floats()
    start = time.perf_counter()
    searcher = (
        library.scann_ops_pybind.builder(vectors, K, "dot_product")
        .tree(512, 32, training_sample_size=min(len(vectors), 250_000))
        .score_ah(4, anisotropic_quantization_threshold=0.2)
        .reorder(120)
        .build()
    )
    seconds = time.perf_counter() - start

    def search(leaves: int, reorder: int) -> Search:
        def asked(queries: Vectors) -> npt.NDArray[np.int64]:
            found, _ = searcher.search_batched_parallel(
                queries, leaves_to_search=leaves, pre_reorder_num_neighbors=reorder
            )
            return np.asarray(found, dtype=np.int64)

        return asked

    settings = [(32, 120), (64, 240), (96, 360), (128, 480), (192, 720)]
    with tempfile.TemporaryDirectory() as folder:
        searcher.serialize(folder)
        size = folder_bytes(Path(folder))
    searches = {f" {leaves} of 512, {reorder}": search(leaves, reorder) for leaves, reorder in settings}
    return Contender("ScaNN", searches, size / len(vectors), seconds)


def hnswlib(bank: Bank) -> Contender:
    """hnswlib, M 16."""
    import hnswlib as library

    vectors = bank.floats()
    start = time.perf_counter()
    index = library.Index(space="ip", dim=bank.width)
    index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
    index.set_num_threads(torch.get_num_threads())
    index.add_items(vectors)
    seconds = time.perf_counter() - start

    def search(ef: int) -> Search:
        def asked(queries: Vectors) -> npt.NDArray[np.int64]:
            index.set_ef(ef)
            return np.asarray(index.knn_query(queries, k=K)[0], dtype=np.int64)

        return asked

    with tempfile.TemporaryDirectory() as folder:
        index.save_index(f"{folder}/graph")
        size = folder_bytes(Path(folder))
    return Contender(
        "hnswlib", {f" ef {ef}": search(ef) for ef in (64, 128, 256)}, size / len(vectors), seconds
    )


def usearch(bank: Bank) -> Contender:
    """usearch with float16 vectors."""
    from usearch.index import Index

    vectors = bank.floats()
    start = time.perf_counter()
    index = Index(ndim=bank.width, metric="ip", dtype="f16", connectivity=16, expansion_search=128)
    threads = torch.get_num_threads()
    index.add(np.arange(len(vectors)), vectors, threads=threads)
    seconds = time.perf_counter() - start

    def search(queries: Vectors) -> npt.NDArray[np.int64]:
        return np.asarray(index.search(queries, K, threads=threads).keys, dtype=np.int64)

    size = index.serialized_length / len(vectors)
    return Contender("usearch f16", {" ef 128": search}, size, seconds)


def contenders(bank: Bank, work: Path, *, graph_rows: int, only: list[str] | None) -> list[Contender]:
    """Every engine that can be had here, built one after another."""
    makers: dict[str, Callable[[], Contender]] = {
        "exact": lambda: ours("exact float16", bank, work, IndexSettings(engine="exact")),
        "faiss": lambda: ours("FAISS default", bank, work, IndexSettings(engine="faiss")),
        "compact": lambda: ours(
            "FAISS PCA 192 int8", bank, work, IndexSettings(engine="faiss", refine="int8"), pca=192
        ),
        "torch": lambda: exact_torch(bank),
    }
    if find_spec("scann"):
        makers["scann"] = lambda: scann(bank)
    for name, make in (("hnswlib", hnswlib), ("usearch", usearch)):
        if find_spec(name) and len(bank) <= graph_rows:
            makers[name] = lambda make=make: make(bank)  # type: ignore[misc]
    return [make() for name, make in makers.items() if only is None or name in only]


def compare(
    contenders: list[Contender], batches: list[Vectors], truth: list[npt.NDArray[np.int64]], bank: Bank
) -> list[dict[str, Any]]:
    """One line for each setting of each engine; batch by batch they take turns."""
    asked = [(c, setting, search) for c in contenders for setting, search in c.searches.items()]
    seconds: list[list[float]] = [[] for _ in asked]
    recalls: list[list[float]] = [[] for _ in asked]
    for queries, wanted in zip(batches, truth, strict=True):
        for position, (_, _, search) in enumerate(asked):
            recalls[position].append(recall(search(queries), wanted))
            start = time.perf_counter()
            search(queries)  # the second time all that it needs is in memory
            seconds[position].append((time.perf_counter() - start) / len(queries))
    return [
        {
            "engine": contender.name + setting,
            "rows": len(bank),
            "width": bank.width,
            "recall_at_30": round(statistics.mean(recalls[position]), 4),
            "ms_per_query": round(1000 * statistics.median(seconds[position]), 3),
            "bytes_per_row": round(contender.bytes_per_row),
            "build_seconds": round(contender.build_seconds, 1),
        }
        for position, (contender, setting, _) in enumerate(asked)
    ]


def main() -> None:
    """Measure, print, and write table and JSON."""
    parser = index_parser(__doc__, images=40, rows=1_000_000)
    parser.add_argument("--batches", type=int, default=9, help="batches of 1,000 queries")
    parser.add_argument(
        "--graph-rows", type=int, default=150_000, help="hnswlib and usearch up to so many rows"
    )
    parser.add_argument("--only", nargs="*", help="exact faiss compact torch scann hnswlib usearch")
    parser.add_argument("--name", default="search", help="name of the tracked table")
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    bank = Bank.open(arguments.index).take(arguments.rows)
    dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
    patches = np.concatenate(queries_of(arguments.index, dataset, cache=arguments.cache))
    chosen = np.random.default_rng(0).permutation(len(patches))[: BATCH * arguments.batches]
    if len(chosen) < BATCH:
        parser.error(f"{len(chosen)} patches are too few for a batch of {BATCH}; raise --images")
    batches = [patches[part] for part in np.array_split(chosen, len(chosen) // BATCH)]
    truth = [nearest(bank, queries) for queries in batches]
    with tempfile.TemporaryDirectory() as work:
        built = contenders(bank, Path(work), graph_rows=arguments.graph_rows, only=arguments.only)
        rows = compare(built, batches, truth, bank)
    note = f"{len(batches)} batches of {BATCH} queries; {arguments.threads} threads."
    write_table(arguments.name, rows, folder=arguments.out, json_file=arguments.json, notes=[note])


if __name__ == "__main__":
    main()
