"""A labelled data set of images -> a :class:`ClassificationReport`."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.bank.reading import read_sample
from indexer.bank.versions import package_versions
from indexer.datasets import Dataset, Sample
from indexer.datasets.whole import whole_columns
from retrieval.errors import DataError, DatasetError, UnlabelledError
from retrieval.progress import Progress, Task, track
from segmentation.classification import scores
from segmentation.classification.classifier import Classification, Classifier
from segmentation.scoring.memory import MemoryImages, check_leave_out, without
from segmentation.scoring.provenance import describe_dataset, describe_index
from segmentation.scoring.room import check_room

#: Mistakes that a report keeps, and the memory images it lists for each.
WORST, NEIGHBOURS = 20, 5
#: Images whose vectors are looked up at once.
QUERIES = 64


def evaluate_classes(
    classifier: Classifier,
    dataset: Dataset,
    *,
    leave_out: bool = False,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> scores.ClassificationReport:
    """Classify a labelled data set and score it; classes are matched by their names.

    ``leave_out`` scores each image that is in the memory without itself (by its file's content), and
    ``skip_bad`` goes on past images and labels that cannot be read, which the report lists. Raises
    DataError for one otherwise, DatasetError where no image is left to score, and ConfigError where the
    memory cannot leave one image out, or there is no room for a table of classes by classes.
    """
    if leave_out:
        check_leave_out(classifier.index, classifier.images)
    start = time.perf_counter()
    run = _Run(classifier, dataset, skip_bad=skip_bad, leave_out=leave_out)
    check_room(len(run.names), tables=1)
    with track(progress, "classifying", len(dataset)) as task:
        run.score_all(task)
    if not run.cases:
        raise DatasetError(
            f"{dataset.name} leaves no image to score: {len(run.skipped)} cannot be read, "
            f"{run.unlabelled} have no class; check the data set"
        )
    return run.report(time.perf_counter() - start)


@dataclass(eq=False)
class _Case:
    """A sample on its way."""

    sample: Sample
    truth: tuple[int, ...]
    numbers: list[int]
    """Its image numbers in the memory."""


class _Run:
    """One pass over a data set: what grows."""

    def __init__(self, classifier: Classifier, dataset: Dataset, *, skip_bad: bool, leave_out: bool) -> None:
        self._classifier, self._dataset = classifier, dataset
        self._skip_bad, self._leave_out = skip_bad, leave_out
        self._memory = MemoryImages(classifier.images)
        ours = classifier.classes.names
        self.missing = tuple(name for name in dataset.classes.names if name not in ours)
        self.names = (*ours, *self.missing)
        column_of = {name: column for column, name in enumerate(self.names)}
        self._table = [column_of[name] for name in dataset.classes.names]
        self.cases: list[_Case] = []
        self.shares: list[npt.NDArray[np.float32]] = []
        self.worst: list[scores.Mistake] = []
        self.skipped: list[tuple[str, str]] = []
        self.unlabelled = 0

    def score_all(self, task: Task) -> None:
        def skip(case: _Case, error: DataError) -> None:
            self.skipped.append((case.sample.id, str(error)))
            task.advance()

        extractor = self._classifier.extractor
        photos = ((case, partial(read_sample, extractor, case.sample)) for case in self._cases(task))
        waiting: list[tuple[_Case, npt.NDArray[np.float32]]] = []
        on_error = skip if self._skip_bad else None
        with closing(self._classifier.describe_many(photos, on_error=on_error)) as described:
            for case, vector in described:
                waiting.append((case, vector))
                if len(waiting) == QUERIES:
                    self._label(waiting, task)
                    waiting = []
        self._label(waiting, task)

    def _cases(self, task: Task) -> Any:
        """The samples that have a class; called in the thread that reads."""
        for sample in self._dataset.samples:
            try:
                columns = whole_columns(sample.labels)
                numbers = self._memory.numbers_of(sample.source_key()) if sample.image.is_file() else []
            except UnlabelledError:
                self.unlabelled += 1
                task.advance()
                continue
            except DataError as error:
                if not self._skip_bad:
                    raise
                self.skipped.append((sample.id, str(error)))
                task.advance()
                continue
            yield _Case(sample, tuple(self._table[column] for column in columns), numbers)

    def _label(self, waiting: list[tuple[_Case, npt.NDArray[np.float32]]], task: Task) -> None:
        """Label what is described: all at once, but those that leave themselves out one by one."""
        together = [item for item in waiting if not (self._leave_out and item[0].numbers)]
        results: dict[int, Classification] = {}
        if together:
            labelled = self._classifier.label(np.stack([vector for _, vector in together]))
            results = {id(case): result for (case, _), result in zip(together, labelled, strict=True)}
        for case, vector in waiting:
            result = results.get(id(case))
            if result is None:
                result = self._classifier.label(vector[None], filter=without(case.numbers, None))[0]
            self._keep(case, result)
            task.advance()

    def _keep(self, case: _Case, result: Classification) -> None:
        self.cases.append(case)
        self.shares.append(np.pad(result.shares, (0, len(self.missing))))
        column = int(result.shares.argmax())
        share = float(result.shares[column])
        full = len(self.worst) == WORST
        if share <= 0 or column in case.truth or (full and share <= self.worst[-1].share):
            return
        self.worst.append(
            scores.Mistake(
                id=case.sample.id,
                path=str(case.sample.image),
                text=case.sample.text,
                truth=self._named(case),
                best=self.names[column],
                share=share,
                neighbours=tuple(result.matches(NEIGHBOURS)),
            )
        )
        self.worst = sorted(self.worst, key=lambda mistake: (-mistake.share, mistake.id))[:WORST]

    def _named(self, case: _Case) -> tuple[str, ...]:
        return tuple(self.names[column] for column in case.truth)

    def report(self, seconds: float) -> scores.ClassificationReport:
        truth, shares = [case.truth for case in self.cases], np.stack(self.shares)
        best = scores.best_columns(shares)
        right, in_top5 = (scores.found_in_top(truth, shares, count) for count in (1, 5))
        known = len(self.names) - len(self.missing)
        seen = {column for true in truth for column in true}
        classifier, dataset = self._classifier, self._dataset
        return scores.ClassificationReport(
            names=self.names,
            missing=tuple(self.names[column] for column in sorted(seen) if column >= known),
            missing_images=sum(min(true) >= known for true in truth),
            confusion=scores.confusion_matrix(truth, best, len(self.names)),
            per_class=tuple(scores.class_table(truth, best, self.names)),
            mean_average_precision=scores.mean_average_precision(truth, shares)
            if any(len(true) > 1 for true in truth)
            else None,
            per_image=tuple(
                scores.ImageResult(
                    id=case.sample.id,
                    truth=self._named(case),
                    best=None if best[n] < 0 else self.names[best[n]],
                    share=float(shares[n].max()),
                    right=bool(right[n]),
                    in_top5=bool(in_top5[n]),
                    in_memory=bool(case.numbers),
                )
                for n, case in enumerate(self.cases)
            ),
            worst=tuple(self.worst),
            unlabelled=self.unlabelled,
            skipped=tuple(self.skipped),
            seconds=seconds,
            recipe=classifier.recipe.model_dump(mode="json"),
            dataset=describe_dataset(dataset),
            index=describe_index(classifier.index),
            versions=package_versions(),
            leave_out=self._leave_out,
        )
