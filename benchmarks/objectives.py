"""Where gradients pay for masks: InfoNCE, KL and both beside embeddings, by block, over seeds.

    python -m benchmarks.objectives DATA [key=value ...] [--train train] [--val val] [--class NAME]
        [--blocks 5 9 -1] [--seeds 5] [--images N] [--memory N] [--cache DIR] [--out benchmarks/results]

Each line is scored by exact search with the recipe's k, T and gradient weight w: the similarity
``(cos e + w cos g cos a) / (1 + w)`` as it is (exact), or with the projected gradient (factored); of both
objectives the cosines count evenly. A seed decides heads, projection, support bank, and which patches the
memory takes; embeddings depend on the last alone. The differences to embeddings are paired: same seed, same
patches, same images. ``sd`` is the standard deviation over seeds; ``error`` is the standard error over images
(bootstrap) of the gain with the pixels of all seeds pooled. Of images above 250,000 pixels every n-th row and
column is scored.

``--metric MODULE:FUNCTION`` adds lines whose similarity is learned from the memory: see
:data:`benchmarks.metric_maps.Metric`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bank import spaced
from benchmarks.command import plain_parser, track
from benchmarks.cuts import Cuts, fit_on_cuts, make_cuts
from benchmarks.metric_maps import Metric, find_metric
from benchmarks.report import write_table
from indexer.bank.image_size import resolve_size
from indexer.bank.sampling import choose_patches, soft_labels
from indexer.datasets import Dataset, load_dataset
from indexer.features.cut import Cut
from indexer.features.fungi import FungiExtractor
from indexer.features.projection import join_features, join_gradients
from indexer.recipe import Recipe, load_recipe, override_recipe
from indexer.seeds import generator_for
from retrieval.errors import ConfigError, MyceliaError
from retrieval.neighbors import Neighbors
from segmentation.tuning.expectation import differences
from segmentation.tuning.rows import mix
from segmentation.tuning.scoring import Tally, miou_of, score_grid

OBJECTIVES = ("infonce", "kl")
#: What the lines need of a recipe, whatever it says itself.
FORCED = (
    "features.kind=fungi",
    "features.level=patch",
    "features.projection=factored",
    "features.pca=null",
    "rerank.candidates=null",
    "objective.weights=null",
    f"objective.kind=[{','.join(OBJECTIVES)}]",
)
#: Similarities held at a time, in numbers.
CHUNK = 2**24


@dataclass(frozen=True)
class Line:
    """What is compared: the gradients of some objectives (positions; none: embeddings alone), and how."""

    objectives: tuple[int, ...]
    form: str
    """``cosine``, ``exact``, ``factored``, or the name of a metric."""

    @property
    def title(self) -> str:
        """In words."""
        return " + ".join(["embeddings", *(OBJECTIVES[i] for i in self.objectives)])


@dataclass(frozen=True)
class Vectors:
    """Unit vectors of n patches, (n, width) each; gradients by objective."""

    embeddings: Tensor
    activations: Tensor
    gradients: tuple[Tensor, ...]
    projected: tuple[Tensor, ...]

    def joined(self, objectives: Sequence[int], weight: float) -> Tensor:
        """As an index holds them, with factored gradients: (n, D)."""
        if not objectives:
            return self.embeddings
        shares = [1 / len(objectives)] * len(objectives)
        gradients = join_gradients([self.projected[i] for i in objectives], shares)
        return join_features([self.embeddings, gradients], weight)

    def map(self, change: Callable[[Tensor], Tensor]) -> Vectors:
        """Every tensor changed."""
        g, p = (tuple(change(part) for part in parts) for parts in (self.gradients, self.projected))
        return Vectors(change(self.embeddings), change(self.activations), g, p)


def describe(extractor: FungiExtractor, cut: Cut) -> list[Vectors]:
    """The vectors of all patches of each image of a cut."""
    parts = extractor.patch_gradients(cut)
    projected = extractor.projected(parts)
    e, a = F.normalize(parts.embeddings, dim=-1), F.normalize(parts.activations, dim=-1)
    gradients = [F.normalize(g, dim=-1, eps=1e-30) for g in parts.gradients]  # g is tiny
    return [
        Vectors(e[i], a[i], tuple(g[i] for g in gradients), tuple(p[i] for p in projected))
        for i in range(len(e))
    ]


class Memory:
    """The rows that vote, their labels, and what each metric makes of them."""

    def __init__(
        self,
        rows: Vectors,
        labels: npt.NDArray[np.uint8],
        weight: float,
        metrics: Mapping[str, Metric],
    ) -> None:
        """Of rows as float32, soft labels (N, C) and the weight w of the gradients; fits the metrics."""
        self.rows, self.labels, self.weight = rows, labels, weight
        self.lines = lines_with(metrics)
        self._maps: dict[Line, tuple[Callable[[Tensor], Tensor], Tensor]] = {}
        for line in self.lines:
            if line.form in metrics:
                joined = rows.joined(line.objectives, weight)
                mapping = metrics[line.form](joined, labels)
                self._maps[line] = mapping, F.normalize(mapping(joined), dim=-1)

    @classmethod
    def take(
        cls, extractor: FungiExtractor, cuts: Cuts, patches: int, metrics: Mapping[str, Metric]
    ) -> Memory:
        """Of every image at most ``patches`` patches, rare classes first, rounded as an index keeps them."""
        rows: list[Vectors] = []
        labels = []
        recipe, device = extractor.recipe, extractor.backbone.device
        for image, vectors in enumerate(_described(extractor, cuts)):
            generator = generator_for(recipe.seed, "patches", cuts.dataset.samples[image].id, 0)
            kept = choose_patches(cuts.counts[image], patches, generator)
            places = torch.from_numpy(kept).to(device)
            rows.append(vectors.map(lambda part, places=places: part[places].half()))  # type: ignore[misc]
            labels.append(soft_labels(cuts.counts[image][kept]))
        if not sum(len(label) for label in labels):
            raise ConfigError(f"{cuts.dataset.name}: no patch of the memory's images has a label")
        return cls(_joined(rows), np.concatenate(labels), recipe.features.gradient_weight, metrics)

    def search(self, asked: Vectors, k: int) -> list[Neighbors]:
        """The k nearest rows of patches, for each line; exact."""
        step = max(1, CHUNK // len(self.labels))
        found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.lines]
        for start in range(0, len(asked.embeddings), step):
            part = asked.map(lambda rows, start=start: rows[start : start + step])  # type: ignore[misc]
            for place, similarity in zip(found, self._similarities(part), strict=True):
                best, ids = similarity.topk(min(k, len(self.labels)), dim=-1)
                place.append((best, ids))
        neighbors = []
        for place in found:
            nearest, rows = (torch.cat(part).cpu().numpy() for part in zip(*place, strict=True))
            neighbors.append(Neighbors(rows, nearest, self.labels[rows]))
        return neighbors

    def _similarities(self, asked: Vectors) -> Iterator[Tensor]:
        """Of patches (Q, .) to the rows, (Q, N) for each line; the large products are made once."""
        rows, products = self.rows, zip(asked.projected, self.rows.projected, strict=True)
        embedding, activation = (
            asked.embeddings @ rows.embeddings.T,
            asked.activations @ rows.activations.T,
        )
        channels = {
            "exact": [
                (g @ h.T).mul_(activation) for g, h in zip(asked.gradients, rows.gradients, strict=True)
            ],
            "factored": [p @ q.T for p, q in products],
        }
        for line in self.lines:
            if line in self._maps:
                mapping, mapped = self._maps[line]
                vectors = mapping(asked.joined(line.objectives, self.weight))
                yield F.normalize(vectors, dim=-1) @ mapped.T
            elif not line.objectives:
                yield embedding
            else:
                first, *others = (channels[line.form][i] for i in line.objectives)
                mean = sum(others, first) / len(line.objectives)
                yield mix(embedding, mean, self.weight)


def lines_with(metrics: Mapping[str, Metric]) -> list[Line]:
    """All lines, embeddings first."""
    each = tuple((i,) for i in range(len(OBJECTIVES)))
    combined = (*each, tuple(range(len(OBJECTIVES))))
    lines = [Line((), "cosine"), *(Line(o, form) for o in combined for form in ("exact", "factored"))]
    return [*lines, *(Line(o, name) for name in metrics for o in ((), *combined))]


def _described(extractor: FungiExtractor, cuts: Cuts) -> Iterator[Vectors]:
    for cut in cuts.batches(range(len(cuts)), extractor.backbone.device):
        yield from describe(extractor, cut)


def _joined(rows: Sequence[Vectors]) -> Vectors:
    """The rows of many images as one, float32."""

    def each(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(torch.cat(part).float() for part in zip(*parts, strict=True))

    e, a = each([(row.embeddings, row.activations) for row in rows])
    return Vectors(e, a, each([row.gradients for row in rows]), each([row.projected for row in rows]))


def score(
    extractor: FungiExtractor, memory: Memory, cuts: Cuts, temperatures: Sequence[float], label: str
) -> Tally:
    """Hits and unions of the images asked, (lines, images, C, 2); each line has its temperature."""
    transfer, patch_size = extractor.recipe.transfer, extractor.backbone.patch_size
    tallies = []
    with track(label, len(cuts)) as task:
        for image, asked in enumerate(_described(extractor, cuts)):
            truth = cuts.dataset.read_mask(cuts.dataset.samples[image])
            tallies.append(
                [
                    score_grid(found, truth, cuts.geometries[image], patch_size, [(transfer.k, t)])[0]
                    for t, found in zip(temperatures, memory.search(asked, transfer.k), strict=True)
                ]
            )
            task.advance()
    joined: Tally = np.array(tallies).swapaxes(0, 1)
    return joined


def measure(
    recipe: Recipe,
    data: tuple[Dataset, Dataset],
    *,
    seeds: int,
    patches: int,
    metrics: Mapping[str, Metric],
    metric_temperature: float,
    cache: Path | None,
) -> tuple[int, Tally]:
    """The number of the recipe's block, and the tallies of all seeds: (seeds, lines, images, C, 2)."""
    start = time.perf_counter()
    first = FungiExtractor.create(recipe)
    backbone = first.backbone
    memory_cuts, asked_cuts = (make_cuts(first, dataset, cache) for dataset in data)
    print(f"block {backbone.block}: to the cut in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    tallies = []
    for seed in range(seeds):
        start = time.perf_counter()
        extractor = FungiExtractor.create(recipe.model_copy(update={"seed": seed}), backbone)
        fit_on_cuts(extractor, memory_cuts)
        memory = Memory.take(extractor, memory_cuts, patches, metrics)
        label = f"block {backbone.block}, seed {seed}: {len(memory.labels):,} rows"
        temperatures = [
            metric_temperature if line.form in metrics else recipe.transfer.temperature
            for line in memory.lines
        ]
        tallies.append(score(extractor, memory, asked_cuts, temperatures, label))
        print(f"{label}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return backbone.block, np.stack(tallies)


def rows_of(
    block: int, lines: Sequence[Line], tallies: Tally, named: tuple[str, int] | None
) -> list[dict[str, object]]:
    """The table's rows of one block, in points; ``tallies`` (seeds, lines, images, C, 2).

    ``named`` is a class, its name and column, that gets figures of its own.
    """
    figures = {"mIoU": tallies}
    if named is not None:
        figures[f"{named[0]} IoU"] = tallies[..., named[1] : named[1] + 1, :]
    rows: list[dict[str, object]] = [
        {"block": block, "features": line.title, "similarity": line.form} for line in lines
    ]
    for title, tally in figures.items():
        scores = 100 * miou_of(tally.sum(axis=2))  # (seeds, lines)
        gains = scores - scores[:, :1]
        pooled, several = tally.sum(axis=0), tally.shape[2] > 1
        generator = np.random.default_rng(0)
        errors = 100 * differences(pooled, 0, generator=generator)[:, 1] if several else [np.nan] * len(lines)
        for i, row in enumerate(rows):
            row[title], row[f"{title} sd"] = _mean_and_spread(scores[:, i])
            gain, spread = _mean_and_spread(gains[:, i])
            plain = i == 0
            row[f"{title} gain"] = "" if plain else gain
            row[f"{title} gain sd"] = "" if plain else spread
            row[f"{title} gain error"] = "" if plain else _rounded(float(errors[i]))
    return rows


def _mean_and_spread(values: npt.NDArray[np.float64]) -> tuple[object, object]:
    spread = float(values.std(ddof=1)) if len(values) > 1 else np.nan
    return _rounded(float(values.mean())), _rounded(spread)


def _rounded(value: float) -> object:
    return round(value, 2) if np.isfinite(value) else ""


def load(arguments: argparse.Namespace) -> tuple[Recipe, tuple[Dataset, Dataset], tuple[str, int] | None]:
    """The recipe with a fixed image size, memory and images asked, the named class. Raises MyceliaError."""
    memory, asked = (load_dataset(arguments.data, split=split) for split in (arguments.train, arguments.val))
    recipe = load_recipe(arguments.config, [*arguments.overrides, *FORCED])
    recipe = resolve_size(recipe, memory.samples)
    names, named = memory.classes.names, None
    if arguments.named is not None:
        if arguments.named not in names:
            raise ConfigError(f"--class {arguments.named}: no such class; choose of {', '.join(names)}")
        named = arguments.named, list(names).index(arguments.named)
    limits = arguments.memory or arguments.images, arguments.images
    data = tuple(
        d if limit is None else spaced(d, limit) for d, limit in zip((memory, asked), limits, strict=True)
    )
    return recipe, (data[0], data[1]), named


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = plain_parser(__doc__)
    made.add_argument("data", type=Path, help="a data set with masks")
    made.add_argument("overrides", nargs="*", help="settings of the recipe, key=value")
    made.add_argument("--config", default="offline.yaml")
    made.add_argument("--train", default="train", help="split of the memory")
    made.add_argument("--val", default="val", help="split to score")
    made.add_argument("--blocks", type=int, nargs="+", default=[5, 9, -1])
    made.add_argument("--seeds", type=int, default=5)
    made.add_argument("--patches", type=int, default=300, help="patches of one memory image")
    made.add_argument("--images", type=int, help="images of each split, evenly spaced")
    made.add_argument("--memory", type=int, help="images of the memory, where others than --images")
    made.add_argument("--class", dest="named", help="a class whose IoU is told too")
    made.add_argument("--metric", action="append", default=[], help="MODULE:FUNCTION, any number of times")
    made.add_argument(
        "--metric-temperature",
        type=float,
        default=0.06,
        help="T of the lines under a metric: they lie further apart",
    )
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--cache", type=Path, help="folder that keeps the states at the cut, float16")
    made.add_argument("--name", default="objectives", help="of the table's files")
    return made


def main() -> None:
    """Measure, print, and write the table."""
    arguments = parser().parse_intermixed_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, object]] = []
    try:
        recipe, data, named = load(arguments)
        metrics = dict(find_metric(name) for name in arguments.metric)
        for block in arguments.blocks:
            number, tallies = measure(
                override_recipe(recipe, [f"backbone.block={block}"]),
                data,
                seeds=arguments.seeds,
                patches=arguments.patches,
                metrics=metrics,
                metric_temperature=arguments.metric_temperature,
                cache=arguments.cache,
            )
            rows += rows_of(number, lines_with(metrics), tallies, named)
    except MyceliaError as error:
        sys.exit(f"error: {error}")
    memory, asked = data
    note = (
        f"Memory: {len(memory)} images of {memory.split}, at most {arguments.patches} patches each, protocol "
        f"{recipe.bank.protocol}; scored: {len(asked)} of {asked.split}. {arguments.seeds} seeds; images at "
        f"{recipe.image.fixed_size[0]}x{recipe.image.fixed_size[1]}; w {recipe.features.gradient_weight:g}, "
        f"k {recipe.transfer.k}, T {recipe.transfer.temperature:g}, projection to "
        f"{recipe.features.projection_width or 'the embedding’s width'}."
    )
    if metrics:
        note += f" Under a metric T is {arguments.metric_temperature:g}."
    meaning = (
        "sd: over seeds; gain: minus embeddings, paired; error: of the gain over images, all seeds pooled."
    )
    write_table(
        arguments.name, rows, folder=arguments.out, json_file=arguments.json, notes=[note, "", meaning]
    )


if __name__ == "__main__":
    main()
