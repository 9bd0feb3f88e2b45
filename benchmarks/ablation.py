"""What block, gradient, projection and objective do to mIoU, with everything else equal.

    python benchmarks/ablation.py DATA --score train --groups 6 --cache DIR [--out benchmarks/results]
    python benchmarks/ablation.py DATA --score val --cache DIR [--out benchmarks/results]

``--score train`` never looks at the validation images: it leaves one group of train images out of the
memory bank at a time and segments images of that group. A group is all images whose ids begin with the
same ``--groups`` letters: on CamVid 6 make a sequence, 9 a stretch of one. Choose settings there;
``--score val`` then confirms them. Features are extracted once per block and objective, and kept in
``--cache``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bank import score
from benchmarks.command import track
from benchmarks.report import write_table
from indexer.bank.describe import prepare_job
from indexer.bank.fitting import fit_on_samples
from indexer.bank.jobs import jobs_of
from indexer.bank.sampling import choose_patches, soft_labels
from indexer.datasets import Dataset, load_dataset
from indexer.features.fungi import FungiExtractor
from indexer.features.projection import project_factored, signs
from indexer.recipe import load_recipe
from indexer.seeds import generator_for
from retrieval.neighbors import Neighbors
from segmentation.scoring.metrics import iou_per_class, mean_iou
from segmentation.tuning.groups import group_names
from segmentation.tuning.rows import Parts, channels, mix

BATCH = 4
RECIPE = load_recipe("camvid.yaml")
#: A fold: (data set, image positions) of the bank, and of the images to segment.
Fold = tuple[tuple[str, list[int]], tuple[str, list[int]]]


@dataclass(frozen=True)
class Features:
    """Everything about the patches of a data set's images: (images, T, ...) arrays."""

    embeddings: npt.NDArray[np.float16]
    gradients: npt.NDArray[np.float16]
    activations: npt.NDArray[np.float16]
    counts: npt.NDArray[np.int64]


def parts_of(features: Features, image: int, kept: npt.NDArray[np.int64] | slice) -> Parts:
    """The chosen patches of one image as unit float32 vectors: embedding, gradient, activation."""
    arrays = (features.embeddings, features.gradients, features.activations)
    e, g, a = (torch.from_numpy(array[image][kept].astype(np.float32)) for array in arrays)
    return F.normalize(e, dim=-1), F.normalize(g, dim=-1), F.normalize(a, dim=-1)


@dataclass(frozen=True)
class Variant:
    """A similarity: ``embeddings``, ``gradients``, ``exact`` or ``factored``; weight w and width k."""

    kind: str
    weight: float = 0.0
    width: int = 0

    def __str__(self) -> str:
        parts = [self.kind]
        parts += [f"k={self.width}"] if self.width else []
        parts += [f"w={self.weight:g}"] if self.weight else []
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Variant:
        """From ``kind[:weight[:width]]``."""
        kind, *numbers = text.split(":")
        return cls(kind, float(numbers[0]) if numbers else 0.0, int(numbers[1]) if len(numbers) > 1 else 0)

    @property
    def space(self) -> tuple[str, int]:
        """Variants of one space differ by their weight alone."""
        return ("exact" if self.kind == "gradients" else self.kind, self.width)

    def compared(self, parts: Parts) -> Parts:
        """Of the vectors :func:`parts_of` gives, what this similarity compares."""
        if self.kind == "embeddings":
            return parts[:1]
        if self.kind != "factored":
            return parts
        e, g, a = parts
        generator = torch.Generator().manual_seed(0)
        u = signs(self.width, g.shape[1], generator=generator).float()
        v = signs(self.width, a.shape[1], generator=generator).float()
        return e, F.normalize(project_factored(g, a, u, v), dim=-1)


#: A similarity and the temperature T of the softmax over it.
Setting = tuple[Variant, float]


def similarities(
    query: Parts, bank: dict[tuple[str, int], Parts], variants: list[Variant]
) -> Iterator[tuple[Variant, Tensor]]:
    """Each variant's similarity of queries to the bank, (Q, N); the large products are made once a space."""
    made: dict[tuple[str, int], tuple[Tensor, Tensor | None]] = {}
    for variant in variants:
        if variant.space not in made:
            made[variant.space] = channels(variant.compared(query), bank[variant.space])
        embedding, gradient = made[variant.space]
        if variant.kind == "gradients":
            assert gradient is not None
            yield variant, gradient
        else:
            yield variant, mix(embedding, gradient, variant.weight)


def extract(dataset: Dataset, settings: list[str], fit_on: Dataset, cache: Path) -> Features:
    """The features of a data set, from the cache where they are there."""
    if cache.is_file():
        with np.load(cache) as stored:
            return Features(*(stored[name] for name in ("embeddings", "gradients", "activations", "counts")))
    extractor = FungiExtractor.create(load_recipe("camvid.yaml", settings))
    fit_on_samples(extractor, fit_on.samples)
    collected: list[tuple[npt.NDArray[np.float16], ...]] = []
    counts, jobs = [], jobs_of(dataset.samples, epochs=1)
    with track(f"{dataset.split} {' '.join(settings)}", len(dataset)) as task:
        for start in range(0, len(jobs), BATCH):
            items = [prepare_job(extractor, dataset, job) for job in jobs[start : start + BATCH]]
            counts += [item.counts for item in items]
            parts = extractor.patch_gradients(torch.stack([item.tensor for item in items]))
            gradients = F.normalize(parts.gradients[0], dim=-1, eps=1e-30)  # float16 would lose their scale
            collected.append(
                tuple(x.half().numpy() for x in (parts.embeddings, gradients, parts.activations))
            )
            task.advance(len(items))
    e, g, a = (np.concatenate(arrays) for arrays in zip(*collected, strict=True))
    features = Features(e, g, a, np.stack(counts))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, embeddings=e, gradients=g, activations=a, counts=features.counts)
    return features


def folds(data: dict[str, Dataset], args: argparse.Namespace) -> Iterator[Fold]:
    """Banks and images to segment; every ``stride``-th and every ``query_stride``-th image."""
    train, stride, query_stride = data["train"], args.stride, args.query_stride
    if args.score == "val":
        yield (
            ("train", list(range(0, len(train), stride))),
            ("val", list(range(0, len(data["val"]), query_stride))),
        )
        return
    names = group_names([sample.id for sample in train.samples], str(args.groups))
    for group in dict.fromkeys(names):
        inside = [i for i, name in enumerate(names) if name == group]
        outside = [i for i, name in enumerate(names) if name != group]
        yield ("train", outside[::stride]), ("train", inside[::query_stride])


def confusions(
    features: dict[str, Features],
    data: dict[str, Dataset],
    fold: Fold,
    variants: list[Variant],
    args: argparse.Namespace,
) -> dict[Setting, npt.NDArray[np.int64]]:
    """A confusion matrix per variant, over the images of one fold."""
    (bank_split, bank_images), (query_split, query_images) = fold
    asked = features[query_split]
    rows, bank_labels, _ = memory_bank(features[bank_split], data[bank_split], bank_images, args.patches)
    bank = {variant.space: variant.compared(rows) for variant in variants}
    classes = bank_labels.shape[1]
    keys = [(variant, temperature) for variant in variants for temperature in args.temperature]
    totals = {key: np.zeros((classes, classes), np.int64) for key in keys}
    for image in query_images:
        truth = data[query_split].read_mask(data[query_split].samples[image])
        for variant, similarity in similarities(parts_of(asked, image, slice(None)), bank, variants):
            best, ids = similarity.topk(args.k, dim=-1)
            found = Neighbors(ids.numpy(), best.numpy(), bank_labels[ids.numpy()])
            for temperature in args.temperature:
                totals[variant, temperature] += score(found, truth, RECIPE.image, temperature=temperature)
    return totals


def memory_bank(
    features: Features, dataset: Dataset, images: list[int], patches: int
) -> tuple[Parts, npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Rows, soft labels (N, C) and (image, patch) numbers (N, 2) of the chosen patches of some images."""
    rows, labels, places = [], [], []
    for image in images:
        generator = generator_for(0, "patches", dataset.samples[image].id, 0)
        kept = choose_patches(features.counts[image], patches, generator)
        rows.append(parts_of(features, image, kept))
        labels.append(soft_labels(features.counts[image][kept]))
        places.append(np.stack([np.full_like(kept, image), kept], axis=1).astype(np.int32))
    joined = tuple(torch.cat(parts) for parts in zip(*rows, strict=True))
    return joined, np.concatenate(labels), np.concatenate(places)


def main() -> None:
    """Extract, score, print and track."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="CamVid in SegNet's layout")
    parser.add_argument("--score", choices=("train", "val"), required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--blocks", type=int, nargs="+", default=[9])
    parser.add_argument("--objective", nargs="*", default=[], help="overrides, for example objective.kind=kl")
    parser.add_argument(
        "--variants", nargs="+", default=["embeddings", "exact:0.5", "factored:0.5:384", "gradients"]
    )
    parser.add_argument("--patches", type=int, default=300, help="patches of one memory image")
    parser.add_argument("--stride", type=int, default=1, help="take every n-th image into the bank")
    parser.add_argument("--query-stride", type=int, default=1, help="segment every n-th image")
    parser.add_argument("--groups", type=int, default=6, help="letters of an id that name its group")
    parser.add_argument("--k", type=int, default=30)
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.02])
    parser.add_argument("--out", type=Path, help="write the tracked table to this folder")
    parser.add_argument("--name", default="ablation", help="name of the tracked table")
    args = parser.parse_args()
    data = {split: load_dataset(args.data, split=split) for split in ("train", "val")}
    variants = [Variant.parse(text) for text in args.variants]
    table = []
    for block in args.blocks:
        settings = [f"backbone.block={block}", *args.objective]
        splits = ["train"] if args.score == "train" else ["train", "val"]
        stem = "-".join(settings).replace("=", "_")
        features = {
            s: extract(data[s], settings, data["train"], args.cache / f"{stem}-{s}.npz") for s in splits
        }
        totals: dict[Setting, npt.NDArray[np.int64]] = {}
        for fold in folds(data, args):
            for setting, confusion in confusions(features, data, fold, variants, args).items():
                totals[setting] = totals.get(setting, 0) + confusion
        for (variant, temperature), confusion in totals.items():
            per_class = dict(zip(data["train"].classes.names, iou_per_class(confusion), strict=True))
            rare = {
                name: f"{100 * per_class[name]:.1f}" for name in ("pole", "sign", "pedestrian", "bicyclist")
            }
            miou = f"{100 * mean_iou(confusion):.2f}"
            table.append({"block": block, "similarity": str(variant), "T": temperature, "miou": miou, **rare})
    note = (
        f"Scored on {args.score}, every {args.query_stride}. image; bank: every {args.stride}. image, "
        f"{args.patches} patches each; k {args.k}."
    )
    write_table(args.name, table, folder=args.out, notes=[note])


if __name__ == "__main__":
    main()
