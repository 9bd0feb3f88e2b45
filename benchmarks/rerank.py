"""What exact re-ranking buys in mIoU, and costs in bytes a patch and time a query.

    python -m benchmarks.rerank DATA --cache DIR --work DIR [--query-stride 2] [--out benchmarks/results]

CamVid's train split is the memory bank, images of val are segmented; block, gradient weight, k and T are
those of ``configs/camvid.yaml``, chosen on train before. Features are those that ``benchmarks/ablation.py``
extracts and keeps in ``--cache``; each kind of index is built once in ``--work`` and searched as every index
is, with different numbers of candidates. Time is the processor's, of one thread and of searches alone: it
counts neither waiting nor other programs. Recall@30 is the share of the thirty nearest by the exact
similarity that was found.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.ablation import Features, Variant, extract, memory_bank, parts_of
from benchmarks.bank import recall, score, use_threads
from benchmarks.command import plain_parser, track
from benchmarks.engines import vector_bytes
from benchmarks.report import write_table
from indexer.datasets import Dataset, load_dataset
from indexer.features.projection import join_features
from indexer.recipe import load_recipe
from indexer.seeds import generator_for
from retrieval import Cosine, GradientProduct, IndexSettings, Manifest, create_index, open_index
from retrieval.engines.faiss_types import choose_factory, training_rows
from retrieval.similarity import Reranked, Similarity
from retrieval.store.manifest import has_manifest
from segmentation.scoring.metrics import mean_iou
from segmentation.tuning.rows import Parts

RECIPE = load_recipe("camvid.yaml")
WEIGHT = RECIPE.features.gradient_weight
FACTORED = Variant("factored", WEIGHT, RECIPE.features.projection_width or 0)
BLOCK = 8192
FAISS = IndexSettings()


@dataclass(frozen=True)
class Kind:
    """One way to hold the bank: what is searched by, whether that is re-ranked, and the engine."""

    name: str
    search: str
    reranked: bool = False
    settings: IndexSettings = FAISS

    def similarity(self, bank: Parts) -> Similarity:
        """The similarity of an index of this kind."""
        e, g, a = (part.shape[1] for part in bank)
        product = GradientProduct(e, g, a, WEIGHT)
        if self.search == "exact":
            return product
        first = Cosine(e + (FACTORED.width if self.search == "factored" else 0))
        if not self.reranked:
            return first
        return Reranked(first, product, 1, separate=self.search == "factored")

    def vectors(self, rows: Parts) -> npt.NDArray[np.float32]:
        """The rows as an index of this kind takes them, (n, D)."""
        parts: list[Tensor] = []
        if self.search == "factored":
            parts.append(join_features(FACTORED.compared(rows), WEIGHT))
        if self.search == "exact" or self.reranked:
            parts += rows
        return torch.cat(parts or [rows[0]], dim=1).numpy()


def kinds(rows: int, width: int) -> list[Kind]:
    """What is compared, the exact similarity first: it is the truth of the recall."""
    refined = IndexSettings(factory=choose_factory(rows, width, training_rows(rows)), k_factor=4)
    return [
        Kind("exact FUNGI, brute force", "exact", settings=IndexSettings(engine="exact")),
        Kind("embeddings", "embeddings"),
        Kind("factored FUNGI", "factored"),
        Kind("embeddings, re-ranked", "embeddings", reranked=True),
        Kind("factored FUNGI, re-ranked", "factored", reranked=True),
        Kind("embeddings, refined and re-ranked", "embeddings", reranked=True, settings=refined),
    ]


def build(
    kind: Kind,
    folder: Path,
    bank: Parts,
    labels: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int32],
    dataset: Dataset,
) -> None:
    """Make the index of a kind in ``folder``, unless it is there; ``places`` are those of ``memory_bank``."""
    if has_manifest(folder):
        return
    similarity = kind.similarity(bank)
    chosen = np.sort(generator_for(0, "training").permutation(len(labels))[: training_rows(len(labels))])
    sample = None
    if kind.settings.spec.training_rows is not None:
        sample = kind.vectors(tuple(part[chosen] for part in bank))[:, : similarity.searched.width]
    manifest = Manifest(dataset.classes, similarity)
    patches = np.hstack([places, np.zeros((len(places), 1), np.int32)])
    with create_index(folder, manifest, rows=len(labels), sample=sample, settings=kind.settings) as index:
        for start in range(0, len(labels), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(labels)))
            index.add(kind.vectors(tuple(part[rows] for part in bank)), labels[rows], patches[rows])
        index.flush()


def measure(
    kind: Kind, folder: Path, candidates: int | None, asked: Features, dataset: Dataset, images: list[int]
) -> tuple[dict[str, object], list[npt.NDArray[np.int64]]]:
    """One line of the table without its recall, and the neighbours (T, K) of each image's patches."""
    k, temperature = RECIPE.transfer.k, RECIPE.transfer.temperature
    places, seconds, total = [], [], None
    with open_index(folder, candidates=candidates) as index, track(kind.name, len(images)) as task:
        for query in queries(kind, asked, images[:1]):
            index.search(query, k)  # loads what is loaded once
        for image, query in zip(images, queries(kind, asked, images), strict=True):
            start = time.process_time()
            found = index.search(query, k)
            seconds.append((time.process_time() - start) / len(query))
            places.append(found.ids)
            truth = dataset.read_mask(dataset.samples[image])
            confusion = score(found, truth, RECIPE.image, temperature=temperature)
            total = confusion if total is None else total + confusion
            task.advance()
        rows = len(index)
    assert total is not None
    line: dict[str, object] = {
        "index": kind.name,
        "candidates": candidates or "",
        "bytes a patch": round(vector_bytes(folder) / rows),
        "ms a query": f"{1000 * statistics.median(seconds):.2f}",
        "mIoU": f"{100 * mean_iou(total):.2f}",
    }
    return line, places


def queries(kind: Kind, asked: Features, images: list[int]) -> Iterator[npt.NDArray[np.float32]]:
    """The vectors of each image's patches."""
    for image in images:
        yield kind.vectors(parts_of(asked, image, slice(None)))


def main() -> None:
    """Extract, build, measure, print and track."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", type=Path, help="CamVid in SegNet's layout")
    parser.add_argument("--cache", type=Path, required=True, help="folder of extracted features")
    parser.add_argument("--work", type=Path, required=True, help="folder for the indexes")
    parser.add_argument("--candidates", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--patches", type=int, default=300, help="patches of one memory image")
    parser.add_argument("--query-stride", type=int, default=1, help="segment every n-th image")
    args = parser.parse_args()
    use_threads(1)
    data = {split: load_dataset(args.data, split=split) for split in ("train", "val")}
    setting = f"backbone.block={RECIPE.backbone.block}"
    stem = setting.replace("=", "_")
    stored, asked = (
        extract(data[split], [setting], data["train"], args.cache / f"{stem}-{split}.npz")
        for split in ("train", "val")
    )
    bank, labels, places = memory_bank(stored, data["train"], list(range(len(data["train"]))), args.patches)
    images = list(range(0, len(data["val"]), args.query_stride))
    table, truth = [], None
    for number, kind in enumerate(kinds(*bank[0].shape)):
        folder = args.work / f"{number}.index"
        build(kind, folder, bank, labels, places, data["train"])
        for candidates in args.candidates if kind.reranked else [None]:
            line, found = measure(kind, folder, candidates, asked, data["val"], images)
            truth = truth or found
            table.append({**line, "recall@30": f"{recall(np.concatenate(found), np.concatenate(truth)):.3f}"})
    note = (
        f"{len(labels)} rows; val, every {args.query_stride}. image: {len(images)} images "
        f"of {asked.counts.shape[1]} patches; k {RECIPE.transfer.k}, w {WEIGHT:g}. "
        "Bytes are those of the vectors and of what searches them."
    )
    write_table("rerank", table, folder=args.out, json_file=args.json, notes=[note])


if __name__ == "__main__":
    main()
