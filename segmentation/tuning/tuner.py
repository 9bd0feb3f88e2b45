"""The whole of tuning: rounds of settings on left-out images, three choices, expectation, index."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from indexer.bank.image_size import resolve_size
from indexer.bank.sampling import choose_images
from indexer.datasets import Dataset
from indexer.recipe import Recipe, override_recipe
from indexer.seeds import generator_for
from retrieval.errors import ConfigError
from retrieval.progress import Progress
from segmentation.tuning.blocks import describe_blocks
from segmentation.tuning.candidates import model_of
from segmentation.tuning.choice import LIMITS, choose_all
from segmentation.tuning.cost import Meter, measure
from segmentation.tuning.described import Described, Memory
from segmentation.tuning.engine import choose_engine
from segmentation.tuning.engine import inputs_of as engine_inputs
from segmentation.tuning.expectation import best_setting, differences
from segmentation.tuning.groups import choose_queries, group_codes, group_names
from segmentation.tuning.report import Row, TuningReport
from segmentation.tuning.rounds import (
    Scored,
    best_block,
    block_settings,
    finalists,
    in_views,
    vector_settings,
    views,
)
from segmentation.tuning.scoring import PIXELS, Tally, miou_of
from segmentation.tuning.settings import (
    Candidates,
    Grid,
    Setting,
    Vector,
    reduction_of,
    weight_of,
)

__all__ = ["IMAGES", "WRITE", "Candidates", "Setting", "TuningReport", "tune"]

#: Images segmented unless the caller says otherwise.
IMAGES = 60
#: The choice that is written unless the caller says otherwise.
WRITE = "balanced"
#: Images of the memory that the first round looks at, and the ones to segment in it.
BLOCK_IMAGES, BLOCK_QUERIES = 100, 18
#: Images to segment in the second round, and for the expectation of images like the memory's.
VECTOR_QUERIES, NEAR_QUERIES = 24, 24
#: Pixels of an image that the rounds before the finals score, about.
FEWER_PIXELS = 45_000


@dataclass
class _Work:
    """What is the same in every round."""

    memory: Memory
    grid: Grid
    own: Setting
    """The base recipe's."""
    units: npt.NDArray[np.int64]
    """The unit (Q,) of each image to segment, from 0."""
    described: dict[int, Described] = field(default_factory=dict)
    """The blocks of which the whole memory is in memory."""
    notes: list[str] = field(default_factory=list)
    rounds: list[Scored] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Units."""
        return int(self.units.max()) + 1

    @property
    def measured(self) -> bool:
        """Whether anything is tried that has to be fitted."""
        return any(reduction.kind != "none" for reduction in self.grid.reductions)

    def describe(self, block: int, *, gradients: bool) -> Described:
        """A block of the whole memory, kept."""
        if block not in self.described:
            self.described[block] = Described.of(
                self.memory, block, gradients=gradients, measured=self.measured
            )
        return self.described[block]


def tune(
    dataset: Dataset,
    recipe: Recipe,
    *,
    group: str | None = None,
    candidates: Candidates | None = None,
    images: int = IMAGES,
    write: str = WRITE,
    progress: Progress | None = None,
    meter: Meter = measure,
) -> TuningReport:
    """Choose block, features, metric, k, temperature, finer masks and index settings by leaving images out.

    ``group`` says which images are left out together (:func:`groups.group_names`); ``images`` of
    the data set are segmented, all are in the memory bank; ``write`` is the choice whose recipe the report
    has (fast, balanced, best); ``progress`` hears of each step; ``meter`` measures times. Raises
    ConfigError for settings that cannot be tried, DataError for bad images or masks.
    """
    start = time.perf_counter(), time.process_time()
    if write not in LIMITS:
        raise ConfigError(f"--write {write!r} should be one of {', '.join(LIMITS)}")
    recipe.index.spec.require()
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    dataset = replace(dataset, samples=tuple(samples))
    recipe, notes = _scored_recipe(resolve_size(recipe, samples))
    memory = _plan(dataset, recipe, group, images, progress)
    dataset.check_files()
    model = model_of(recipe)
    grid = (candidates or Candidates()).grid(
        recipe, blocks=model.blocks, block=model.block, width=model.width
    )
    for kind in {"fungi" if weight else "embeddings" for weight in grid.weights}:
        kept = ["features.pca=null", "features.whiten=none", "features.metric=none", "features.width=null"]
        override_recipe(recipe, [f"features.kind={kind}", *kept])  # which checks its rules
    transfer = recipe.transfer
    own = Setting(
        model.block, weight_of(recipe), transfer.k, transfer.temperature, reduction_of(recipe),
        recipe.image.shifts, transfer.refine,
    )  # fmt: skip
    units = group_codes([str(code) for code in memory.rules[0][list(memory.queries)]])
    work = _Work(memory, grid, own, units, notes=notes)
    settings, allowed = _rounds(work)
    return _report(work, settings, allowed, write, meter, start, grouped=group is not None)


def _scored_recipe(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe without what is not scored, and a sentence of each such thing."""
    notes, changes = [], []
    if recipe.reranks:
        notes.append(
            "Re-ranking was left out of scores and recipe: what was scored is the first similarity; with "
            "features.projection=none the exact one is scored instead."
        )
        changes.append("rerank.candidates=null")
    if recipe.image.flip:
        notes.append("Mirror images (image.flip) were left out of scores and recipe.")
        changes.append("image.flip=false")
    if recipe.bank.shifts > 1:
        notes.append("Shifted memory patches (bank.shifts) were left out of scores and recipe.")
        changes.append("bank.shifts=1")
    if isinstance(recipe.features.shrinkage, str):
        notes.append("features.shrinkage=ledoit-wolf was not scored; shares were tried in its place.")
        changes.append("features.shrinkage=0.1")
    return (override_recipe(recipe, changes) if changes else recipe), notes


def _plan(
    dataset: Dataset, recipe: Recipe, group: str | None, images: int, progress: Progress | None
) -> Memory:
    codes = group_codes(group_names([sample.id for sample in dataset.samples], group))
    alone = np.arange(len(dataset), dtype=np.int64)
    rules = (codes,) if group is None else (codes, alone)
    queries = choose_queries(codes, images)
    if len(set(codes[queries].tolist())) < 2:
        raise ConfigError(f"--images {images} takes images of one group alone; give a larger number")
    return Memory(recipe, dataset, rules, queries, len(dataset), progress)


def _rounds(work: _Work) -> tuple[list[Setting], npt.NDArray[np.bool_]]:
    """The settings of the finals, and which view of the units may choose which, (1 + U, S)."""
    grid, own = work.grid, work.own
    leading = list(grid.blocks)
    if len(grid.blocks) > 1:
        first = _block_round(work)
        leading = list(dict.fromkeys(best_block(first, unit) for unit in views(work.count)))
    settings = [setting for block in leading for setting in vector_settings(grid, block)]
    reference = Vector(own.block if own.block in grid.blocks else leading[0], 0.0)
    settings += grid.of(reference)
    if grid.has(own):
        settings += grid.of(own.vector)
    settings = _possible(work, list(dict.fromkeys(settings)))
    if not settings:
        raise ConfigError("none of the settings to try can be scored: " + " ".join(work.notes))
    places = spread_out(len(work.memory.queries), VECTOR_QUERIES)
    second = _scored(work, "vectors", settings, work.described, places, places)
    of_reference = [n for n, setting in enumerate(settings) if setting.vector == reference]
    choosable = [n for n, s in enumerate(settings) if s.vector != reference or _tries(grid, reference)]
    open_to_all = Scored("", tuple(settings[n] for n in choosable), second.tally[choosable])

    def chosen(unit: int | None) -> list[Setting]:
        found = finalists(grid, open_to_all, unit)
        if _tries(grid, reference):
            scores = second.scores(unit)[of_reference]
            found.append(settings[of_reference[int(scores.argmax())]])
        return [*found, own] if grid.has(own) and own.vector in {s.vector for s in settings} else found

    finals, allowed = in_views(work.count, chosen)
    plain = settings[of_reference[int(second.scores(None)[of_reference].argmax())]]
    if plain not in finals:  # it is there to compare with, not to be chosen
        finals, allowed = [*finals, plain], np.pad(allowed, ((0, 0), (0, 1)))
    place = finals.index(plain)  # comes first, as what times and gains refer to
    order = [place, *(n for n in range(len(finals)) if n != place)]
    return [finals[n] for n in order], allowed[:, order]


def _tries(grid: Grid, vector: Vector) -> bool:
    return vector.weight in grid.weights and vector.reduction in grid.reductions


def _block_round(work: _Work) -> Scored:
    """Every block's embeddings on a part of the memory, or on all of a small one."""
    memory, queries = work.memory, work.memory.queries
    places = spread_out(len(queries), BLOCK_QUERIES)
    inside = places
    if len(memory.dataset) > BLOCK_IMAGES:
        shown = [queries[place] for place in places]
        some = sorted({*choose_queries(memory.rules[0], BLOCK_IMAGES), *shown})
        memory = replace(
            memory,
            dataset=replace(memory.dataset, samples=tuple(memory.dataset.samples[i] for i in some)),
            rules=tuple(codes[some] for codes in memory.rules),
            queries=[some.index(image) for image in shown],
        )
        inside = list(range(len(shown)))
    described = describe_blocks(memory, work.grid.blocks, measured=work.measured)
    return _scored(work, "blocks", block_settings(work.grid), described, inside, places)


def _scored(
    work: _Work,
    name: str,
    settings: Sequence[Setting],
    described: Mapping[int, Described],
    inside: Sequence[int],
    places: Sequence[int],
) -> Scored:
    """A round: ``inside`` are its images among the queries of ``described``, ``places`` those among all."""
    kept: list[Setting] = []
    tallies: list[Tally] = []
    for block in dict.fromkeys(setting.block for setting in settings):
        here = [setting for setting in settings if setting.block == block]
        here = _without_problems(work, described[block], here, rules=1)
        if here:
            label = f"{name}, block {block}: leaving out"
            found = described[block].score(here, inside, 0, pixels=FEWER_PIXELS, label=label)
            tallies.append(_by_unit(found, work.units[list(places)], work.count))
            kept += here
    if not kept:
        raise ConfigError("none of the settings to try can be scored: " + " ".join(work.notes))
    scored = Scored(name, tuple(kept), np.concatenate(tallies))
    work.rounds.append(scored)
    return scored


def _possible(work: _Work, settings: list[Setting]) -> list[Setting]:
    """The settings that can be scored, of the whole memory."""
    found = []
    for block in dict.fromkeys(setting.block for setting in settings):
        here = [setting for setting in settings if setting.block == block]
        described = work.describe(block, gradients=any(setting.weight for setting in here))
        found += _without_problems(work, described, here, rules=len(work.memory.rules))
    return found


def _without_problems(
    work: _Work, described: Described, settings: Iterable[Setting], *, rules: int
) -> list[Setting]:
    problems: dict[Vector, str | None] = {}
    kept = []
    for setting in settings:
        if setting.vector not in problems:
            problems[setting.vector] = described.problem(setting.vector, rules)
        problem = problems[setting.vector]
        if problem is None:
            kept.append(setting)
        elif problem not in work.notes:
            work.notes.append(problem)
    return kept


def _finals(work: _Work, settings: Sequence[Setting], rule: int, places: Sequence[int], name: str) -> Tally:
    """The tally (S, U, C, 2) of the finalists under a rule, on some of the images to segment."""
    classes = len(work.memory.dataset.classes)
    result = np.zeros((len(settings), work.count, classes, 2), dtype=np.int64)
    for block in dict.fromkeys(setting.block for setting in settings):
        numbers = [n for n, setting in enumerate(settings) if setting.block == block]
        here, label = [settings[n] for n in numbers], f"{name}, block {block}: leaving out"
        found = work.described[block].score(here, places, rule, pixels=PIXELS, label=label)
        result[numbers] = _by_unit(found, work.units[list(places)], work.count)
    return result


def _by_unit(tally: Tally, units: npt.NDArray[np.int64], count: int) -> Tally:
    """Tallies of images (S, Q, C, 2), added up over the units that they are in: (S, U, C, 2)."""
    total = np.zeros((len(tally), count, *tally.shape[2:]), dtype=np.int64)
    for image, unit in enumerate(units):
        total[:, unit] += tally[:, image]
    return total


def spread_out(count: int, limit: int) -> list[int]:
    """At most ``limit`` of so many places, evenly."""
    return sorted({int(place) for place in (np.arange(min(count, limit)) + 0.5) * count / min(count, limit)})


def _rows(scored: Scored, seed: int) -> list[Row]:
    scores, total = miou_of(scored.tally.sum(axis=1)), scored.tally.sum(axis=1)
    generator = generator_for(seed, "differences", scored.name)
    behind = differences(scored.tally, best_setting(total), generator=generator)
    return [
        Row(setting, float(score), float(gap[0]), float(gap[1]), scored.name)
        for setting, score, gap in zip(scored.settings, scores, behind, strict=True)
    ]


def _report(
    work: _Work,
    settings: list[Setting],
    allowed: npt.NDArray[np.bool_],
    write: str,
    meter: Meter,
    start: tuple[float, float],
    *,
    grouped: bool,
) -> TuningReport:
    """Finals, choices, expectations and index; the first of ``settings`` are plain embeddings."""
    memory, seed = work.memory, work.memory.recipe.seed
    queries = len(memory.queries)
    tallies = [_finals(work, settings, 0, range(queries), "finals")]
    if grouped:
        tallies.append(_finals(work, settings, 1, spread_out(queries, NEAR_QUERIES), "images alone"))
    choices = choose_all(
        settings,
        tallies,
        meter(work.described, settings),
        allowed,
        0,
        generators=[generator_for(seed, "expectation", name) for name in ("errors", *LIMITS)],
        grouped=grouped,
    )
    chosen = next(choice.setting for choice in choices if choice.name == write)
    recipe = chosen.apply(memory.recipe)
    engine = choose_engine(
        recipe,
        *engine_inputs(work.described[chosen.block], chosen),
        memory.dataset,
        memory.rules[0],
        patch_size=work.described[chosen.block].extractor.patch_size,
        progress=memory.progress,
    )
    rows = _rows(Scored("finals", tuple(settings), tallies[0]), seed)
    return TuningReport(
        recipe=recipe.model_copy(update={"index": engine.settings}),
        written=write,
        choices=choices,
        plain=rows[0],
        base=next((row for row in rows if row.setting == work.own), None),
        rows=tuple(rows),
        earlier=tuple(row for scored in work.rounds for row in _rows(scored, seed)),
        engine=engine,
        notes=tuple(work.notes),
        images=len(memory.dataset),
        queries=queries,
        groups=len(set(memory.rules[0].tolist())) if grouped else None,
        seconds=time.perf_counter() - start[0],
        processor_seconds=time.process_time() - start[1],
    )
