"""Whether the recipe's index loses anything against exact search, and what it needs not to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from indexer.datasets import Dataset
from indexer.features.projection import join_features
from indexer.recipe import Recipe
from indexer.seeds import generator_for
from retrieval.engines.faiss_types import default_k_factor
from retrieval.engines.spec import TrialEngine
from retrieval.engines.vector_engine import VectorEngine
from retrieval.neighbors import NO_NEIGHBOR, Neighbors
from retrieval.progress import Progress, track
from retrieval.settings import IndexSettings
from segmentation.tuning.described import Described
from segmentation.tuning.leave_out import neighbors_left_out
from segmentation.tuning.reduced import reduced
from segmentation.tuning.rows import Bank, Parts, Query
from segmentation.tuning.scan import can_scan, find_left_out
from segmentation.tuning.scoring import miou_of, score_grid
from segmentation.tuning.settings import Setting

#: mIoU (0..1) below that of exact search that counts as nothing.
TOLERANCE = 0.001
#: Images that the trials segment, about.
QUERIES = 24
#: Rows added to the index at a time.
_ROWS = 16_384


@dataclass(frozen=True)
class EngineTrial:
    """One setting of the index, and what it gives."""

    factory: str
    nprobe: int | None
    k_factor: int | None
    miou: float
    """Pooled over the left-out images, in 0..1."""
    loss: float
    """mIoU of exact search minus this."""


@dataclass(frozen=True)
class EngineChoice:
    """The ``index`` section to use, and the trials behind it: the recipe's own setting first."""

    settings: IndexSettings
    trials: tuple[EngineTrial, ...]
    reason: str


def choose_engine(
    recipe: Recipe,
    bank: Bank,
    queries: Sequence[Query],
    dataset: Dataset,
    codes: npt.NDArray[np.int64],
    *,
    exact_miou: float | None = None,
    patch_size: tuple[int, int],
    progress: Progress | None = None,
) -> EngineChoice:
    """The smallest FAISS setting that loses nothing to exact search with the recipe's features, k and T.

    ``bank`` and ``queries`` are those of the recipe's block; the rows of a query's group (``codes``,
    a group for each image) are left out of its search. ``exact_miou`` is what exact search gives for them,
    computed where None.
    """
    product = recipe.features.kind == "fungi" and recipe.features.projection == "none"
    index = recipe.index.for_rows(len(bank), inner_product=not product)
    if index.spec.searches_exactly:
        return EngineChoice(recipe.index, (), "exact search needs no setting")
    recipe = recipe.model_copy(update={"index": index})
    if index.spec.make_trial is None:
        return EngineChoice(index, (), f"{index.spec.title} was not examined")
    engine = _build(recipe, bank, index.spec.make_trial)
    factory = str(engine.parameters["factory"])
    if factory == "Flat":
        return EngineChoice(index, (), f"FAISS scans {len(bank):,} rows of this bank exactly (Flat)")
    score = partial(
        _score, recipe=recipe, queries=queries, dataset=dataset, patch_size=patch_size, progress=progress
    )
    exact = exact_miou
    if exact is None:
        exact = score(_exact_neighbors(recipe, bank, codes), label="exact search")
    trials: dict[tuple[int | None, int | None], EngineTrial] = {}
    refined = "Refine" in factory or "RFlat" in factory
    k_factor = (index.section.k_factor or default_k_factor(recipe.transfer.k)) if refined else None

    def attempt(nprobe: int | None, k_factor: int | None) -> bool:
        if (nprobe, k_factor) not in trials:
            searching = engine.searching(nprobe=nprobe, k_factor=k_factor)
            set_to = searching.parameters
            label = f"nprobe {set_to['nprobe']}, k_factor {set_to['k_factor']}"
            miou = score(_engine_neighbors(searching, recipe, bank, codes), label=label)
            trials[nprobe, k_factor] = EngineTrial(factory, nprobe, k_factor, miou, exact - miou)
        return trials[nprobe, k_factor].loss <= TOLERANCE

    attempt(engine.parameters["nprobe"], k_factor)  # what the recipe would do as it stands comes first
    chosen = _smallest(attempt, engine.parameters["nprobe"], k_factor)
    tried = tuple(trials.values())
    if chosen is None:
        flat = _changed(index, factory="Flat", nprobe=None, k_factor=None)
        return EngineChoice(flat, tried, f"every setting of {factory} lost more than the tolerance")
    nprobe, k_factor = chosen
    found = _changed(index, nprobe=nprobe, k_factor=k_factor)
    return EngineChoice(found, tried, f"the smallest of {factory} that loses nothing")


def inputs_of(block: Described, setting: Setting) -> tuple[Bank, list[Query]]:
    """A block's bank, and some of its queries, with the vectors that an index of the setting has.

    A metric is the one of the whole memory, in the exact search that trials are compared with too.
    """
    bank, queries = block.bank, block.queries[1]
    queries = queries[:: -(-len(queries) // QUERIES)]
    if setting.reduction.kind == "none":
        return bank, queries
    fitted = block.reducer.fit(0, None, setting.weight, setting.reduction)

    def vectors(parts: Parts) -> Parts:
        return (reduced(parts, setting.weight, fitted).half(),)

    return replace(bank, parts=vectors(bank.parts)), [replace(q, parts=vectors(q.parts)) for q in queries]


def _changed(index: IndexSettings, **changes: object) -> IndexSettings:
    """The settings with other values in the chosen engine's section."""
    return index.model_copy(update={index.engine: index.section.model_copy(update=changes)})


def _smallest(
    attempt: Callable[[int | None, int | None], bool], nprobe: int | None, k_factor: int | None
) -> tuple[int | None, int | None] | None:
    """The smallest ``nprobe`` that loses nothing with refinement doubled, then the smallest ``k_factor``.

    Both start from the defaults given; None for what the type does not have. None where all lose.
    """
    probes = [None] if nprobe is None else [max(1, nprobe * n // 4) for n in (1, 2, 4, 8, 16)]
    factors = [None] if k_factor is None else [max(1, k_factor * n // 4) for n in (1, 2, 4, 8)]
    for probed in probes:
        if attempt(probed, factors[-1]):
            smaller = next((factor for factor in factors[:-1] if attempt(probed, factor)), factors[-1])
            return probed, smaller
    return None


def _build(
    recipe: Recipe, bank: Bank, make: Callable[[Any, int, npt.NDArray[np.float32]], TrialEngine]
) -> TrialEngine:
    """The engine that a build would make of these rows; nothing is written."""
    trained = recipe.index.spec.rows_to_train(len(bank))
    chosen = np.sort(generator_for(recipe.seed, "training").permutation(len(bank))[:trained])
    engine = make(recipe.index.section, len(bank), _vectors(recipe, bank.parts, chosen))
    if engine.parameters["factory"] == "Flat":
        return engine
    for start in range(0, len(bank), _ROWS):
        engine.add(_vectors(recipe, bank.parts, np.arange(start, min(start + _ROWS, len(bank)))))
    return engine


def _vectors(recipe: Recipe, parts: Parts, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The vectors of some rows as an index gets them: float16, widened again."""
    picked = [part[torch.from_numpy(rows)].float() for part in parts]
    if recipe.features.kind == "embeddings":
        picked = picked[:1]
    joined: npt.NDArray[np.float32] = (
        join_features(picked, recipe.features.gradient_weight).half().float().numpy()
    )
    return joined


def _exact_neighbors(
    recipe: Recipe, bank: Bank, codes: npt.NDArray[np.int64]
) -> Callable[[Query], Neighbors]:
    """What finds a query's neighbours by exact search, its own group left out."""
    features = recipe.features
    weight = features.gradient_weight if features.kind == "fungi" and len(bank.parts) > 1 else 0.0
    if can_scan(bank, weight, torch.device("cpu")):
        return find_left_out(bank, weight, codes, recipe.transfer.k)

    def find(query: Query) -> Neighbors:
        ((near,),) = neighbors_left_out(
            query, bank, [codes], [weight], recipe.transfer.k, device=torch.device("cpu")
        )
        return near

    return find


def _engine_neighbors(
    engine: VectorEngine, recipe: Recipe, bank: Bank, codes: npt.NDArray[np.int64]
) -> Callable[[Query], Neighbors]:
    """What finds a query's neighbours with this engine, its own group left out."""

    def find(query: Query) -> Neighbors:
        vectors = _vectors(recipe, query.parts, np.arange(len(query.parts[0])))
        allowed = codes[bank.images] != codes[query.image]
        similarities, ids = engine.search(vectors, min(recipe.transfer.k, len(bank)), allowed)
        labels = bank.labels[ids]
        labels[ids == NO_NEIGHBOR] = 0
        return Neighbors(ids, similarities, labels)

    return find


def _score(
    find: Callable[[Query], Neighbors],
    recipe: Recipe,
    queries: Sequence[Query],
    dataset: Dataset,
    patch_size: tuple[int, int],
    *,
    label: str,
    progress: Progress | None,
) -> float:
    """The pooled mIoU of the left-out images with the neighbours that ``find`` gives."""
    total = np.zeros((len(dataset.classes), 2), dtype=np.int64)
    setting = [(recipe.transfer.k, recipe.transfer.temperature)]
    with track(progress, f"index: {label}", len(queries)) as task:
        for query in queries:
            near, truth = find(query), dataset.read_mask(query.sample)
            total += score_grid(near, truth, query.geometry, patch_size, setting)[0]
            task.advance()
    return float(miou_of(total))
