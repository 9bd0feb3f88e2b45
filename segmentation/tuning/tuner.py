"""The whole of tuning: settings tried, scores of left-out images, choice, expectation, index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.bank.fitting import fit_on_samples
from indexer.bank.image_size import resolve_size
from indexer.bank.sampling import choose_images, generator_for
from indexer.datasets import Dataset
from indexer.features.fungi import FungiExtractor
from indexer.recipe import Recipe, override_recipe
from retrieval.errors import ConfigError
from retrieval.progress import Progress, track
from segmentation.tuning.candidates import blocks_of, check_blocks, check_values, choose_values
from segmentation.tuning.engine import EngineChoice, choose_engine
from segmentation.tuning.expectation import Expectation, best_setting, differences, expect
from segmentation.tuning.groups import choose_queries, group_codes, group_names
from segmentation.tuning.leave_out import neighbors_left_out
from segmentation.tuning.rows import Bank, Query, collect
from segmentation.tuning.scoring import Tally, add_up, miou_of, score_grid

#: What is tried unless the caller says otherwise; a weight of 0 means plain embeddings.
WEIGHTS, KS, TEMPERATURES = (0.0, 0.25, 0.5, 1.0), (10, 30, 90), (0.01, 0.02, 0.04, 0.1)
#: Images segmented unless the caller says otherwise.
IMAGES = 60


@dataclass(frozen=True, order=True)
class Setting:
    """One thing to try; weight 0 means plain embeddings."""

    block: int
    weight: float
    k: int
    temperature: float

    @property
    def features(self) -> str:
        """For a table: what a patch's vector is made of."""
        return f"fungi, weight {self.weight:g}" if self.weight else "embeddings"

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe with this setting."""
        features = ["features.kind=embeddings"]
        if self.weight:
            features = ["features.kind=fungi", f"features.gradient_weight={self.weight!r}"]
        transfer = [f"transfer.k={self.k}", f"transfer.temperature={self.temperature!r}"]
        return override_recipe(recipe, [f"backbone.block={self.block}", *features, *transfer])


@dataclass(frozen=True)
class Candidates:
    """What to try; None: the last third of the blocks, or the defaults, and the base recipe's own value."""

    blocks: Sequence[int] | None = None
    weights: Sequence[float] | None = None
    ks: Sequence[int] | None = None
    temperatures: Sequence[float] | None = None

    def settings(self, recipe: Recipe, *, blocks: int, block: int) -> list[Setting]:
        """Every combination, block by block; ``blocks`` of the model, ``block`` of the recipe.

        Raises ConfigError for a block that the model lacks or a value out of range.
        """
        transfer = recipe.transfer
        last_third = range(blocks - max(1, round(blocks / 3)), blocks)
        chosen = [
            choose_values(self.blocks, last_third, block),
            choose_values(self.weights, WEIGHTS, _weight(recipe)),
            choose_values(self.ks, KS, transfer.k),
            choose_values(self.temperatures, TEMPERATURES, transfer.temperature),
        ]
        check_blocks(chosen[0], blocks, recipe)
        check_values({"weights": (chosen[1], 0), "k": (chosen[2], 1)}, chosen[3])
        return [
            Setting(int(b), w, int(k), t)
            for b in chosen[0] for w in chosen[1] for k in chosen[2] for t in chosen[3]
        ]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A setting, its pooled mIoU over left-out groups, and how far it is below the best (standard error)."""

    setting: Setting
    miou: float
    behind: float
    error: float


@dataclass(frozen=True)
class TuningReport:
    """What was chosen, why, and what to expect of it."""

    recipe: Recipe
    chosen: Setting
    base: Row | None
    """The base recipe's own setting, where it was among those tried."""
    rows: tuple[Row, ...]
    near: Expectation
    """Of images like the memory's: only the image itself was left out."""
    new: Expectation | None
    """Of images of a new group; None where no groups were given."""
    engine: EngineChoice
    images: int
    queries: int
    groups: int | None
    seconds: float

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest mIoU, 0..1, that either expectation allows."""
        both = [found for found in (self.near, self.new) if found is not None]
        return min(found.low for found in both), max(found.high for found in both)

    def to_json(self) -> dict[str, Any]:
        """Plain data for strict JSON; shares in 0..1."""
        low, high = self.interval
        return {
            "chosen": asdict(self.chosen),
            "expected": {
                "low": low,
                "high": high,
                "like_memory": self.near.to_json("miou"),
                "new_group": self.new.to_json("miou") if self.new else None,
            },
            "index": {
                "reason": self.engine.reason,
                "trials": [asdict(trial) for trial in self.engine.trials],
            },
            "settings": [asdict(row) for row in self.rows],
            "images": self.images,
            "queries": self.queries,
            "groups": self.groups,
            "seconds": self.seconds,
            "recipe": self.recipe.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class _Work:
    """What is the same for every block."""

    recipe: Recipe
    dataset: Dataset
    codes: npt.NDArray[np.int64]
    queries: Sequence[int]
    rules: tuple[npt.NDArray[np.int64], ...]
    """Groups that are left out together: of the choice first, then, where it differs, each image alone."""
    progress: Progress | None


@dataclass(frozen=True)
class _Block:
    """A block's bank, kept for the look at the index."""

    bank: Bank
    queries: list[Query]
    patch_size: tuple[int, int]


def tune(
    dataset: Dataset,
    recipe: Recipe,
    *,
    group: str | None = None,
    candidates: Candidates | None = None,
    images: int = IMAGES,
    progress: Progress | None = None,
) -> TuningReport:
    """Choose block, features, k, temperature and index settings of a recipe by leaving images out.

    ``group`` says which images are left out together (:func:`groups.group_names`); ``images`` of
    the data set are segmented, all are in the memory bank; ``progress`` hears of each block. Raises
    ConfigError for settings that cannot be tried, DataError for bad images or masks.
    """
    start = time.perf_counter()
    _check(recipe)
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    dataset = replace(dataset, samples=tuple(samples))
    recipe = resolve_size(recipe, samples)
    work = _plan(dataset, recipe, group, images, progress)
    dataset.check_files()
    blocks, block = blocks_of(recipe)
    settings = (candidates or Candidates()).settings(recipe, blocks=blocks, block=block)
    for kind in {"fungi" if setting.weight else "embeddings" for setting in settings}:
        override_recipe(recipe, [f"features.kind={kind}"])  # which checks its rules
    own = Setting(block, _weight(recipe), recipe.transfer.k, recipe.transfer.temperature)
    tallies, best, kept = [], -1.0, None
    for number in dict.fromkeys(setting.block for setting in settings):
        here = [setting for setting in settings if setting.block == number]
        tally, described = _score_block(work, here)
        tallies.append(tally)
        top = float(np.nanmax(miou_of(tally[0].sum(axis=1)), initial=-1.0))
        if kept is None or top > best:  # at most two banks are in memory at a time
            best, kept = top, described
        del described
    assert kept is not None
    joined = [np.concatenate([tally[rule] for tally in tallies]) for rule in range(len(work.rules))]
    return _report(work, settings, joined, kept, own, start, grouped=group is not None)


def _weight(recipe: Recipe) -> float:
    return recipe.features.gradient_weight if recipe.features.kind == "fungi" else 0.0


def _check(recipe: Recipe) -> None:
    if recipe.features.pca is not None:
        raise ConfigError(
            "tuning compares gradient weights, and a PCA would have to be fitted for each; "
            "set features.pca=null, and add it to the tuned recipe if you need it"
        )
    if recipe.features.metric != "none":
        raise ConfigError(
            "tuning compares gradient weights, and a metric would have to be fitted for each; set "
            "features.metric=none, and add it to the tuned recipe if you need it, with a larger T"
        )
    if recipe.bank.shifts > 1:
        raise ConfigError(
            "tuning sees each memory image once; set bank.shifts=1, and add the shifts to the tuned recipe"
        )
    if recipe.reranks:
        raise ConfigError(
            "tuning does not re-rank; set rerank.candidates=null, and add it to the tuned recipe if you want"
        )
    recipe.index.spec.require()


def _plan(
    dataset: Dataset, recipe: Recipe, group: str | None, images: int, progress: Progress | None
) -> _Work:
    codes = group_codes(group_names([sample.id for sample in dataset.samples], group))
    alone = np.arange(len(dataset), dtype=np.int64)
    rules = (codes,) if group is None else (codes, alone)
    queries = choose_queries(codes, images)
    if len(set(codes[queries].tolist())) < 2:
        raise ConfigError(f"--images {images} takes images of one group alone; give a larger number")
    return _Work(recipe, dataset, codes, queries, rules, progress)


def _score_block(work: _Work, settings: Sequence[Setting]) -> tuple[list[Tally], _Block]:
    """The tallies of one block's settings: for each rule (settings, units, C, 2); and its bank."""
    weights = list(dict.fromkeys(setting.weight for setting in settings))
    transfers = [(s.k, s.temperature) for s in settings if s.weight == weights[0]]
    kind = "fungi" if any(weights) else "embeddings"
    overrides = [f"backbone.block={settings[0].block}", f"features.kind={kind}"]
    extractor = FungiExtractor.create(override_recipe(work.recipe, overrides))
    fit_on_samples(extractor, work.dataset.samples, progress=work.progress)
    bank, queries = collect(extractor, work.dataset, work.queries, progress=work.progress)
    units = group_codes([str(code) for code in work.codes[[query.image for query in queries]]])
    deepest, found = max(k for k, _ in transfers), []
    with track(work.progress, f"block {settings[0].block}: leaving out", len(queries)) as task:
        for query in queries:
            truth = work.dataset.read_mask(query.sample)
            rules = neighbors_left_out(
                query, bank, work.rules, weights, deepest, device=extractor.backbone.device
            )
            found.append(
                [
                    np.concatenate(
                        [
                            score_grid(near, truth, query.geometry, extractor.patch_size, transfers)
                            for near in of_rule
                        ]
                    )
                    for of_rule in rules
                ]
            )
            task.advance()
    tallies = [add_up([image[rule] for image in found], units) for rule in range(len(work.rules))]
    return tallies, _Block(bank, queries, extractor.patch_size)


def _report(
    work: _Work,
    settings: Sequence[Setting],
    tallies: Sequence[Tally],
    block: _Block,
    own: Setting,
    start: float,
    *,
    grouped: bool,
) -> TuningReport:
    """Choice, expectations and index, from the tallies of each rule (settings, units, C, 2)."""
    seed = work.recipe.seed
    choose = tallies[0]
    scores = miou_of(choose.sum(axis=1))
    best = best_setting(choose.sum(axis=1))
    behind = differences(choose, best, generator=generator_for(seed, "differences"))
    rows = tuple(Row(s, float(m), *map(float, d)) for s, m, d in zip(settings, scores, behind, strict=True))
    expected = [expect(choose, score, generator=generator_for(seed, "expectation")) for score in tallies]
    recipe = settings[best].apply(work.recipe)
    engine = choose_engine(
        recipe,
        block.bank,
        block.queries,
        work.dataset,
        work.codes,
        exact_miou=float(scores[best]),
        patch_size=block.patch_size,
        progress=work.progress,
    )
    return TuningReport(
        recipe=recipe.model_copy(update={"index": engine.settings}),
        chosen=settings[best],
        base=next((row for row in rows if row.setting == own), None),
        rows=rows,
        near=expected[-1],
        new=expected[0] if grouped else None,
        engine=engine,
        images=len(work.dataset),
        queries=len(work.queries),
        groups=len(set(work.codes.tolist())) if grouped else None,
        seconds=time.perf_counter() - start,
    )
