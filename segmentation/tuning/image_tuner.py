"""The tuning of whole images: what joins the embedding, and the vote, by leaving images of the memory out.

Every image is described once a block, and all settings are scored from products of these parts. What is
approximate in leaving an image out, none of which sees its label:

- negatives of InfoNCE come from up to 64 images of the memory, and these may include the left-out one;
- a PCA is fitted without a fifth of the images (or groups), those that it is then scored on, so on fewer
  than the index that is built later fits it on;
- similarities are of 32-bit vectors, those of an index of 16-bit ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.bank.fitting import fit_on_samples
from indexer.bank.image_size import resolve_size
from indexer.bank.level import resolve_level
from indexer.bank.sampling import choose_images
from indexer.datasets import Dataset
from indexer.features.extractors import whole_extractor
from indexer.features.objectives import create_objectives
from indexer.features.whole.views import views_of
from indexer.recipe import Recipe, override_recipe
from indexer.seeds import generator_for
from retrieval.errors import ConfigError
from retrieval.progress import Progress, track
from segmentation.scoring.provenance import strict
from segmentation.tuning.candidates import blocks_of
from segmentation.tuning.expectation import Expectation
from segmentation.tuning.groups import choose_queries, group_codes, group_names
from segmentation.tuning.image_rows import EMBEDDING, LabelledImages, collect_images, read_labels
from segmentation.tuning.image_settings import ImageCandidates, ImageFeatures, ImageSetting, own_setting
from segmentation.tuning.image_votes import Rule, Voting
from segmentation.tuning.measures import Measure, Recorder, rank_costs

#: Images left out in turn unless the caller says otherwise; all are in the memory.
IMAGES = 1000


@dataclass(frozen=True)
class ImageRow:
    """A setting, its score, and how much better it is than the best of plain embeddings."""

    setting: ImageSetting
    score: float
    gain: float
    error: float
    """The standard error of the gain, paired: both settings see the same images."""
    seconds: float
    """What its features took an image."""


@dataclass(frozen=True)
class ImageTuningReport:
    """What was chosen, why, and what to expect of it."""

    recipe: Recipe
    measure: str
    """What scores are: top-1, or mAP where images have several classes."""
    chosen: ImageRow
    best: ImageRow
    """The best score; the chosen one is cheaper, or the same."""
    base: ImageRow | None
    """The base recipe's own setting, where it was among those tried."""
    rows: tuple[ImageRow, ...]
    near: Expectation
    """Of images like the memory's: only the image itself was left out."""
    new: Expectation | None
    """Of images of a new group; None where no groups were given."""
    plain: float
    """The score to expect of the best setting of plain embeddings, chosen in the same way."""
    images: int
    queries: int
    groups: int | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for strict JSON; scores in 0..1."""
        data: dict[str, Any] = strict(
            {
                "measure": self.measure,
                "chosen": asdict(self.chosen),
                "best": asdict(self.best),
                "expected": {
                    "like_memory": self.near.to_json("score"),
                    "new_group": self.new.to_json("score") if self.new else None,
                    "plain_embeddings": self.plain,
                },
                "settings": [asdict(row) for row in self.rows],
                "images": self.images,
                "queries": self.queries,
                "groups": self.groups,
                "seconds": self.seconds,
                "recipe": self.recipe.model_dump(mode="json"),
            }
        )
        return data


@dataclass(frozen=True)
class _Work:
    """What is the same for every block."""

    recipe: Recipe
    dataset: Dataset
    images: LabelledImages
    voting: Voting
    units: npt.NDArray[np.int64]
    """(Q,) what each left-out image counts as: its group, or itself."""
    groups: int | None
    progress: Progress | None


def tune_images(
    dataset: Dataset,
    recipe: Recipe,
    *,
    group: str | None = None,
    candidates: ImageCandidates | None = None,
    images: int = IMAGES,
    progress: Progress | None = None,
) -> ImageTuningReport:
    """Choose objectives, gradient weight, PCA, k and temperature of a recipe by leaving images out.

    ``group`` says which images are left out together (:func:`groups.group_names`), copies of a file
    always are; ``images`` of the data set are left out in turn, all are in the memory. The choice is that
    of :mod:`segmentation.tuning.measures`. Raises ConfigError for settings that cannot be tried, DataError
    for bad images or labels.
    """
    start = time.perf_counter()
    recipe = resolve_level(recipe, dataset)
    recipe.check_rules()
    recipe.index.spec.require()
    samples = choose_images(dataset, recipe.bank, seed=recipe.seed)
    dataset = replace(dataset, samples=tuple(samples))
    recipe = resolve_size(recipe, samples)
    names = group_names([sample.id for sample in samples], group)
    dataset.check_files()
    blocks, block = blocks_of(recipe)
    settings = (candidates or ImageCandidates()).settings(recipe, blocks=blocks, block=block)
    for setting in settings:
        setting.apply(recipe)  # which checks its rules
    work = _plan(dataset, recipe, settings, names, images, grouped=group is not None, progress=progress)
    seconds = {
        number: _score_block(work, number) for number in dict.fromkeys(s.features.block for s in settings)
    }
    return _report(work, seconds, own_setting(recipe, block), start)


def _plan(
    dataset: Dataset,
    recipe: Recipe,
    settings: Sequence[ImageSetting],
    names: Sequence[str],
    images: int,
    *,
    grouped: bool,
    progress: Progress | None,
) -> _Work:
    codes = group_codes(names)
    queries = np.array(choose_queries(codes, images), dtype=np.int64)
    units = group_codes([str(code) for code in codes[queries]])
    if int(units.max()) == 0:
        raise ConfigError(f"--images {images} takes images of one group alone; give a larger number")
    labelled = read_labels(dataset.samples, len(dataset.classes))
    truth = [labelled.truth[query] for query in queries]
    rules = [
        Rule(
            out,
            Recorder.of(
                truth, settings=len(settings), classes=len(dataset.classes), several=labelled.several
            ),
        )
        for out in ((codes, labelled.contents) if grouped else (labelled.contents,))
    ]
    voting = Voting(dataset.samples, labelled, queries, rules, settings, recipe.features.whiten)
    voting.check_pca()
    groups = len(set(names)) if grouped else None
    return _Work(recipe, dataset, labelled, voting, units, groups, progress)


def _score_block(work: _Work, block: int) -> dict[str, float]:
    """Record the votes under one block's settings; what each part took an image, in seconds."""
    here = [s.features for s in work.voting.settings if s.features.block == block]
    kinds = list(dict.fromkeys(name for features in here for name in features.objectives))
    everything = replace(_plain(here[0]), objectives=tuple(kinds), weight=1.0 if kinds else 0.0)
    recipe = ImageSetting(everything, 1, 1.0).apply(work.recipe)
    extractor = whole_extractor(recipe).create(recipe)
    fit_on_samples(extractor, work.dataset.samples, progress=work.progress)  # the negatives
    rows = collect_images(extractor, work.dataset.samples, progress=work.progress)
    with track(work.progress, f"block {block}: leaving out", len(work.voting.queries)) as task:
        work.voting.score(rows.parts, block, device=extractor.backbone.device, task=task)
    return rows.seconds


def _plain(features: ImageFeatures) -> ImageFeatures:
    return ImageFeatures(features.block, (), 0.0, None)


def _report(
    work: _Work, seconds: dict[int, dict[str, float]], own: ImageSetting, start: float
) -> ImageTuningReport:
    settings, recipe = work.voting.settings, work.recipe
    measures: list[Measure] = [rule.recorder.measure(work.units) for rule in work.voting.rules]
    choose = measures[0]
    costs = rank_costs([passes(setting.features.objectives, recipe) for setting in settings])
    plain = np.flatnonzero([not setting.features.objectives for setting in settings])
    scores = choose.scores
    gains = choose.gains(int(plain[scores[plain].argmax()]))
    rows = tuple(
        ImageRow(setting, float(score), float(gain), float(error), _price(setting, seconds))
        for setting, score, (gain, error) in zip(settings, scores, gains, strict=True)
    )
    chosen = rows[choose.choose(costs)]
    expected = [
        choose.expect(measure, costs, generator=generator_for(recipe.seed, "expectation"))
        for measure in measures
    ]
    return ImageTuningReport(
        recipe=chosen.setting.apply(recipe),
        measure=choose.name,
        chosen=chosen,
        best=rows[int(scores.argmax())],
        base=next((row for row in rows if row.setting == own), None),
        rows=rows,
        near=expected[-1],
        new=expected[0] if work.groups is not None else None,
        plain=choose.estimate(costs, plain),
        images=len(work.dataset),
        queries=len(work.voting.queries),
        groups=work.groups,
        seconds=time.perf_counter() - start,
    )


def _price(setting: ImageSetting, seconds: dict[int, dict[str, float]]) -> float:
    taken = seconds[setting.features.block]
    return taken[EMBEDDING] + sum(taken[name] for name in setting.features.objectives)


def passes(names: Sequence[str], recipe: Recipe) -> tuple[int, int]:
    """What objectives cost, to be compared: views that pass the model, then the number of gradients.

    It is counted and not timed, so that the same images always give the same choice.
    """
    if not names:
        return 1, 0
    settings = override_recipe(
        recipe, [f"objective.kind=[{','.join(names)}]", "objective.weights=null"]
    ).objective
    blank = np.zeros((64, 64, 3), dtype=np.uint8)
    views = 1
    for objective in create_objectives(settings):
        if objective.views != "single" and recipe.backbone.kind != "image":
            views += settings.infonce.views
        elif objective.views != "single":
            views += len(views_of(blank, objective.views, (32, 32), settings, seed=recipe.seed))
    return views, len(names)
