"""What gradients add to embeddings where whole images or texts are classified: k-NN accuracy, over seeds.

    python -m benchmarks.classes DATA [--objectives kl dino infonce] [--seeds 3] [--each N] [key=value ...]

DATA has splits train and val with a class for each image (text, recording). k, T and the gradients' weight
are chosen on train alone, each left out in turn, once for each line; the seed decides heads, projection and
views. The last line reduces what is joined by a PCA of the memory. Five
examples a class are drawn five times. The error is that of the paired difference to embeddings, over the
images of val, averaged over seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command import plain_parser
from benchmarks.report import write_table
from indexer.bank.fitting import samples_to_fit
from indexer.bank.reading import read_sample
from indexer.datasets import Dataset, Sample, load_dataset, whole_columns
from indexer.features.extractors import whole_extractor
from indexer.features.projection import apply_pca, fit_pca, join_features, join_gradients
from indexer.features.whole.base import WholeExtractor
from indexer.recipe import load_recipe
from retrieval.neighbors import Neighbors
from segmentation.classification.scores import paired_difference
from segmentation.transfer import blend_labels, vote_shares

KS, TEMPERATURES, WEIGHTS = (1, 5, 10, 20, 30), (0.02, 0.05, 0.1), (0.5, 1.0, 2.0, 4.0)
SHOTS, DRAWS = 5, 5

Array = npt.NDArray[np.float32]
Parts = dict[str, Array]


def few_each(dataset: Dataset, count: int | None) -> list[Sample]:
    """The first ``count`` samples of each class, or all."""
    seen: dict[tuple[int, ...], int] = {}
    kept = []
    for sample in dataset.samples:
        columns = whole_columns(sample.labels)
        seen[columns] = seen.get(columns, 0) + 1
        if count is None or seen[columns] <= count:
            kept.append(sample)
    return kept


def describe(extractor: WholeExtractor[Any], samples: Sequence[Sample]) -> Parts:
    """Unit vectors (n, width) of every part."""
    found: dict[str, list[Array]] = {}
    for batch in read_batches(extractor, samples):
        for name, part in extractor.feature_parts(batch).items():
            found.setdefault(name, []).append(part.cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def read_batches(extractor: WholeExtractor[Any], samples: Sequence[Sample]) -> Iterator[list[Any]]:
    """The inputs of samples: images one by one, others eight at a time."""
    size = 1 if extractor.noun == "image" else 8
    for start in range(0, len(samples), size):
        yield [read_sample(extractor, sample) for sample in samples[start : start + size]]


def joined_by_pca(
    parts: dict[str, Parts], names: Sequence[str], weight: float, width: int
) -> dict[str, Parts]:
    """The parts of both splits as one, reduced by a PCA of train; called an embedding."""
    shares = [1 / (len(names) - 1)] * (len(names) - 1)
    joined = {
        split: join_features(
            [
                torch.from_numpy(found["embedding"]),
                join_gradients([torch.from_numpy(found[name]) for name in names[1:]], shares),
            ],
            weight,
        )
        for split, found in parts.items()
    }
    mean, components = fit_pca(joined["train"], min(width, len(joined["train"]) - 1), whiten="none")
    return {
        split: {"embedding": apply_pca(vectors, mean, components).numpy()}
        for split, vectors in joined.items()
    }


def similarities(queries: Parts, rows: Parts, names: Sequence[str], weight: float) -> Array:
    """(cos e + weight mean_i cos G_i) / (1 + weight), (Q, n); without embedding the mean alone."""
    gradients = [queries[name] @ rows[name].T for name in names if name != "embedding"]
    if not gradients:
        plain: Array = queries["embedding"] @ rows["embedding"].T
        return plain
    mean: Array = sum(gradients[1:], gradients[0]) / len(gradients)
    if "embedding" not in names:
        return mean
    joined: Array = (queries["embedding"] @ rows["embedding"].T + weight * mean) / (1 + weight)
    return joined


def classify(
    found: Array, labels: npt.NDArray[np.int64], k: int, temperature: float
) -> npt.NDArray[np.int64]:
    """The class with most votes, softmax(similarity / T) over the k nearest: (Q,)."""
    first = np.argpartition(-found, min(k, found.shape[1] - 1), axis=1)[:, :k]
    best = np.take_along_axis(found, first, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    nearest, best = np.take_along_axis(first, order, axis=1), np.take_along_axis(best, order, axis=1)
    one_hot = 255 * np.eye(int(labels.max()) + 1, dtype=np.uint8)
    neighbors = Neighbors(nearest, best, one_hot[labels[nearest]])
    votes = vote_shares(neighbors, temperature=temperature)
    winners: npt.NDArray[np.int64] = blend_labels(neighbors.labels, votes).argmax(axis=1)
    return winners


def choose(train: Parts, labels: npt.NDArray[np.int64], names: Sequence[str]) -> tuple[float, int, float]:
    """(weight, k, T) that classify most of train, each image left out in turn."""
    joined = "embedding" in names and len(names) > 1
    best, chosen = -1.0, (1.0, 1, 0.1)
    for weight in WEIGHTS if joined else (1.0,):
        found = similarities(train, train, names, weight)
        np.fill_diagonal(found, -np.inf)
        for k, temperature in itertools.product(KS, TEMPERATURES):
            right = float((classify(found, labels, k, temperature) == labels).mean())
            if right > best:
                best, chosen = right, (weight, k, temperature)
    return chosen


def few_shot(
    found: Array, rows: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], temperature: float
) -> npt.NDArray[np.float64]:
    """Share of draws in which each query is right with :data:`SHOTS` examples a class, (Q,)."""
    right = np.zeros(len(truth))
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        picked = np.concatenate(
            [random.permutation(np.flatnonzero(rows == c))[:SHOTS] for c in range(rows.max() + 1)]
        )
        right += classify(found[:, picked], rows[picked], SHOTS, temperature) == truth
    return right / DRAWS


def main() -> None:
    """Measure, print, and write the table."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", help="settings, key=value")
    parser.add_argument("--config", help="of a recipe; that of offline images without one")
    parser.add_argument("--pca", type=int, default=512, help="width of the last line")
    parser.add_argument("--objectives", nargs="+", default=["kl", "dino", "infonce"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, help="so many images of each class and split")
    parser.add_argument("--name", default="classes", help="of the table's files")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(2)
    samples = {
        split: few_each(load_dataset(arguments.data, split=split), arguments.each)
        for split in ("train", "val")
    }
    labels = {
        split: np.array([whole_columns(sample.labels)[0] for sample in kept])
        for split, kept in samples.items()
    }
    objectives = arguments.objectives
    lines = [["embedding"], *([name] for name in objectives), *(["embedding", name] for name in objectives)]
    if len(objectives) > 1:
        lines.append(["embedding", *objectives])
    full: dict[str, list[npt.NDArray[np.float64]]] = {}
    few: dict[str, list[npt.NDArray[np.float64]]] = {}
    chosen: dict[str, tuple[float, int, float]] = {}
    for seed in range(arguments.seeds):
        kind = f"objective.kind=[{','.join(objectives)}]"
        settings = ["features.level=image", kind]
        if arguments.config is None:
            settings += ["image.size=[224,224]", "backbone.block=-1"]
        recipe = load_recipe(
            arguments.config or "offline.yaml", [*settings, f"seed={seed}", *arguments.overrides]
        )
        extractor = whole_extractor(recipe).create(recipe)
        train = samples_to_fit(samples["train"])
        extractor.fit(partial(read_batches, extractor, train), images=len(train))
        parts = {split: describe(extractor, kept) for split, kept in samples.items()}
        for names in lines:
            name = " + ".join(names)
            if name not in chosen:
                chosen[name] = choose(parts["train"], labels["train"], names)
            weight, k, temperature = chosen[name]
            found = similarities(parts["val"], parts["train"], names, weight)
            winners = classify(found, labels["train"], k, temperature)
            full.setdefault(name, []).append((winners == labels["val"]).astype(float))
            few.setdefault(name, []).append(few_shot(found, labels["train"], labels["val"], temperature))
        reduced = f"{' + '.join(lines[-1])}, PCA {arguments.pca}"
        weight = chosen[" + ".join(lines[-1])][0]
        small = joined_by_pca(parts, lines[-1], weight, arguments.pca)
        if reduced not in chosen:
            chosen[reduced] = (weight, *choose(small["train"], labels["train"], ["embedding"])[1:])
        _, k, temperature = chosen[reduced]
        found = similarities(small["val"], small["train"], ["embedding"], 1.0)
        winners = classify(found, labels["train"], k, temperature)
        full.setdefault(reduced, []).append((winners == labels["val"]).astype(float))
        few.setdefault(reduced, []).append(few_shot(found, labels["train"], labels["val"], temperature))
    rows = []
    for name, (weight, k, temperature) in chosen.items():
        row: dict[str, object] = {"features": name, "weight": weight, "k": k, "T": temperature}
        for title, right in (("all", full), (f"{SHOTS} a class", few)):
            accuracies = [100 * float(r.mean()) for r in right[name]]
            mean, error = paired_difference(*(np.mean(right[line], axis=0) for line in (name, "embedding")))
            row[f"top-1, {title}"] = round(float(np.mean(accuracies)), 1)
            row[f"over seeds, {title}"] = round(float(np.std(accuracies)), 1)
            row[f"gain, {title}"] = round(100 * mean, 1)
            row[f"its error, {title}"] = round(100 * error, 1)
        rows.append(row)
    asked = len(labels["val"])
    counts = f"{len(labels['train'])} {extractor.noun}s in memory, {asked} asked; {arguments.seeds} seeds."
    write_table(arguments.name, rows, folder=arguments.out, json_file=arguments.json, notes=[counts])


if __name__ == "__main__":
    main()
