"""A data set -> an :class:`EvaluationReport`: streaming, one confusion matrix, no mask kept."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from indexer.bank.build import SkippedImage
from indexer.bank.versions import package_versions
from indexer.datasets import Dataset, Sample
from indexer.datasets.unmasked import adopt_classes
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError, DataError, DatasetError
from retrieval.progress import Progress, Task, track
from segmentation.scoring import metrics
from segmentation.scoring.blanks import Blanks
from segmentation.scoring.boundary import Overlap, boundary_iou, boundary_overlap
from segmentation.scoring.calibration import Calibration, CalibrationFit
from segmentation.scoring.columns import column_table
from segmentation.scoring.defects import DefectReport, DefectScore, column_of, image_score
from segmentation.scoring.memory import MemoryImages, check_leave_out, without
from segmentation.scoring.peers import truth_at_input
from segmentation.scoring.provenance import describe_dataset, describe_index, strict
from segmentation.scoring.reliability import Reliability
from segmentation.scoring.room import check_room
from segmentation.segmenter import Segmentation, Segmenter

ScoringProtocol = Literal["standard", "hummingbird"]

#: Share of the labelled pixels above which one class hides what the mean says of the others.
DOMINANT = 0.95
#: Rare classes that the summary names one by one.
MOST_NAMED = 4


@dataclass(frozen=True)
class ImageScore:
    """One image: mean IoU over the classes in its truth or prediction (NaN: no labels), and seconds."""

    id: str
    miou: float
    seconds: float
    in_memory: bool = False
    """Whether the memory was built from this very file, among others."""


@dataclass(frozen=True)
class ClassRow:
    """One line of the table per class; shares in 0..1, NaN where there is nothing to divide by."""

    name: str
    iou: float
    boundary: float
    """Boundary IoU."""
    accuracy: float
    truth: float
    """Share of all labelled pixels that truly are of this class."""
    predicted: float
    """Share of all labelled pixels that were given this class."""


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """What came out of an evaluation, and everything that decided it."""

    classes: ClassMap
    confusion: metrics.Confusion
    """(C, C) int64 pixels, rows the truth, columns the prediction, at the masks' own sizes."""
    boundary: Overlap
    """(C, 2) int64 pixels near the edges of each class, in truth and prediction, and in either."""
    reliability: Reliability
    """Pixels by confidence."""
    per_image: tuple[ImageScore, ...]
    skipped: tuple[SkippedImage, ...]
    protocol: ScoringProtocol
    hummingbird_miou: float | None
    """The peers' number, 0..1, where the protocol is ``hummingbird``."""
    seconds: float
    recipe: dict[str, Any]
    dataset: dict[str, Any]
    index: dict[str, Any]
    versions: dict[str, str]
    leave_out: bool = False
    """Whether images of the memory were scored without themselves."""
    calibration: Calibration | None = None
    """The temperature that fits these images best, where it was asked for."""
    defect: DefectReport | None = None
    """Images with a class told from those without, where it was asked for."""
    blanks: Blanks | None = None
    """What ``transfer.unknown`` leaves blank, where it is set; the scores are those with it filled in."""

    @property
    def in_memory(self) -> int:
        """How many of the scored images the memory was built from."""
        return sum(image.in_memory for image in self.per_image)

    @property
    def memory_note(self) -> str | None:
        """A sentence on images that are in the memory, for who reads the score; None where none is."""
        if not self.in_memory:
            return None
        note = f"{self.in_memory:,} of {self.images:,} images are in the memory"
        if self.leave_out:
            return f"{note}, and each was scored without itself"
        return (
            f"{note}, which flatters the score: take other images, or score without themselves (--leave-out)"
        )

    @property
    def dominant(self) -> ClassRow | None:
        """The class with more than :data:`DOMINANT` of the labelled pixels; None where there is none."""
        return next((row for row in self.rows() if row.truth > DOMINANT), None)

    @property
    def rare(self) -> list[ClassRow]:
        """The classes that occur beside a dominant one, in column order; empty without one."""
        dominant = self.dominant
        if dominant is None:
            return []
        return [row for row in self.rows() if row.name != dominant.name and not math.isnan(row.iou)]

    @property
    def rare_miou(self) -> float:
        """Mean IoU in 0..1 of the classes beside a dominant one; NaN where there are none."""
        return float(np.mean([row.iou for row in self.rare])) if self.rare else math.nan

    @property
    def summary(self) -> str | None:
        """One line that leads with the rare classes where one has nearly all pixels; None where none has."""
        dominant = self.dominant
        if dominant is None:
            return None
        most = f"{dominant.name} has {_percent(dominant.truth)} of the pixels, mean {_percent(self.miou)}"
        if not self.rare:
            return (
                f"no class but {dominant.name} occurs in truth or prediction: nothing else was scored; {most}"
            )
        if len(self.rare) <= MOST_NAMED:
            return f"{', '.join(f'{row.name} {_percent(row.iou)}' for row in self.rare)} IoU found; {most}"
        worst = min(self.rare, key=lambda row: row.iou)
        return (
            f"the {len(self.rare)} rarer classes {_percent(self.rare_miou)} IoU found on average, "
            f"{worst.name} {_percent(worst.iou)} least; {most}"
        )

    @property
    def miou(self) -> float:
        """Mean IoU in 0..1 under standard scoring, whatever the protocol; NaN without labelled pixels."""
        return metrics.mean_iou(self.confusion)

    @property
    def boundary_miou(self) -> float:
        """Mean boundary IoU in 0..1 of the classes in truth or prediction; NaN without labelled pixels."""
        return metrics.mean_present(boundary_iou(self.boundary))

    @property
    def per_class(self) -> dict[str, float]:
        """Class name -> IoU in 0..1, NaN for a class in neither truth nor prediction."""
        return dict(zip(self.classes.names, metrics.iou_per_class(self.confusion).tolist(), strict=True))

    @property
    def images(self) -> int:
        """Images that were scored."""
        return len(self.per_image)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that were right, 0..1."""
        return metrics.pixel_accuracy(self.confusion)

    @property
    def mean_accuracy(self) -> float:
        """Mean over the true classes of the share of their pixels that were found, 0..1."""
        return metrics.mean_accuracy(self.confusion)

    def rows(self) -> list[ClassRow]:
        """The table per class, in column order."""
        total = max(int(self.confusion.sum()), 1)
        table = zip(
            self.classes.names,
            metrics.iou_per_class(self.confusion).tolist(),
            boundary_iou(self.boundary).tolist(),
            metrics.accuracy_per_class(self.confusion).tolist(),
            (self.confusion.sum(axis=1) / total).tolist(),
            (self.confusion.sum(axis=0) / total).tolist(),
            strict=True,
        )
        return [ClassRow(*row) for row in table]

    def to_json(self) -> dict[str, Any]:
        """Plain data for strict JSON: shares in 0..1, null where a number does not exist."""
        data = {
            "miou": self.miou,
            "boundary_miou": self.boundary_miou,
            "hummingbird_miou": self.hummingbird_miou,
            "pixel_accuracy": self.pixel_accuracy,
            "ece": self.reliability.ece,
            "mean_accuracy": self.mean_accuracy,
            "per_class": self.per_class,
            "boundary_per_class": {row.name: row.boundary for row in self.rows()},
            "images": self.images,
            "protocol": self.protocol,
            "seconds": self.seconds,
            "dataset": self.dataset,
            "index": self.index,
            "recipe": self.recipe,
            "versions": self.versions,
            "in_memory": self.in_memory,
            "leave_out": self.leave_out,
            "rare": self._rare_json(),
            "reliability": self.reliability.to_json(),
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "defect": None if self.defect is None else self.defect.to_json(),
            "unknown": None if self.blanks is None else self.blanks.to_json(),
            "skipped": [{"id": s.id, "reason": s.reason} for s in self.skipped],
            "per_image": [asdict(score) for score in self.per_image],
            "classes": self.classes.to_json(),
            "confusion": self.confusion.tolist(),
        }
        plain: dict[str, Any] = strict(data)
        return plain

    def _rare_json(self) -> dict[str, Any] | None:
        dominant = self.dominant
        if dominant is None:
            return None
        return {"dominant": dominant.name, "dominant_share": dominant.truth, "miou": self.rare_miou}


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    *,
    protocol: ScoringProtocol = "standard",
    skip_bad: bool = False,
    leave_out: bool = False,
    calibrate: bool = False,
    defect: str | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Segment every image of a labelled data set and score the masks at the truth's own size.

    ``protocol="hummingbird"`` scores a second time as the peers do: prediction and mask (nearest)
    at the model's input size, predicted classes matched to true ones, absent classes as 0; see
    :func:`segmentation.scoring.metrics.hummingbird_miou`. ``skip_bad`` leaves out images and masks that
    cannot be used and lists them in the report; ``leave_out`` segments an image that the memory was built
    from without itself, all its augmentation epochs; ``progress`` hears how far it is.
    ``calibrate`` fits ``transfer.calibration``; ``defect`` names a class whose images are told from those
    without it, at ``threshold`` too where one is given.

    Where nobody named the data set's classes, they are those of the index with the same ids.
    Raises IndexMismatchError where the data set's classes are not the index's, ConfigError for an
    unknown protocol or class, too many classes for the machine, an index that cannot leave one image out,
    or a calibration on images of the memory that are not left out, DataError for a bad image or mask,
    DatasetError where no image was usable.
    """
    if protocol not in get_args(ScoringProtocol):
        known = ", ".join(get_args(ScoringProtocol))
        raise ConfigError(f"unknown protocol {protocol!r}; choose one of {known}")
    if leave_out:
        check_leave_out(segmenter.index, segmenter.images)
    check_room(len(segmenter.classes), tables=4 if protocol == "hummingbird" else 2)  # sums, a photo's own
    start = time.perf_counter()
    dataset = adopt_classes(dataset, segmenter.classes)
    if not skip_bad:
        dataset.check_files()  # a file that is missing should not end a long run
    run = _Run(segmenter, dataset, peers=protocol == "hummingbird", skip_bad=skip_bad, leave_out=leave_out)
    run.calibration = CalibrationFit(len(segmenter.classes)) if calibrate else None
    run.defect = None if defect is None else column_of(defect, segmenter.classes)
    run.blanks = Blanks.of(segmenter.recipe.transfer.unknown, len(segmenter.classes))
    with track(progress, "evaluate", len(dataset)) as task:
        run.score_all(task)
    if not run.scores:
        raise DatasetError(f"no image of {dataset.name} could be used; the first: {run.skipped[0].reason}")
    flatters = not leave_out and any(score.in_memory for score in run.scores)
    return EvaluationReport(
        classes=segmenter.classes,
        confusion=run.confusion,
        boundary=run.boundary,
        reliability=run.reliability,
        per_image=tuple(run.scores),
        skipped=tuple(run.skipped),
        protocol=protocol,
        hummingbird_miou=metrics.hummingbird_miou(run.peers) if run.peers is not None else None,
        seconds=time.perf_counter() - start,
        recipe=segmenter.recipe.model_dump(mode="json"),
        dataset=describe_dataset(dataset),
        index=describe_index(segmenter.index),
        versions=package_versions(),
        leave_out=leave_out,
        calibration=None if run.calibration is None else run.calibration.best(),
        defect=None if defect is None else DefectReport(defect, tuple(run.defects), threshold, flatters),
        blanks=run.blanks,
    )


class _Case:
    """An image of a data set, and its truth once it was read."""

    truth: npt.NDArray[np.int32]
    numbers: list[int]
    """The image's numbers in the memory, none where it is not in."""

    def __init__(
        self, dataset: Dataset, sample: Sample, column_of: npt.NDArray[np.int32], memory: MemoryImages
    ) -> None:
        self.sample = sample
        self._dataset, self._column_of, self._memory = dataset, column_of, memory

    def read(self) -> npt.NDArray[np.uint8]:
        self.numbers = self._memory.numbers_of(self.sample.image)
        photo, columns = self._dataset.read(self.sample)
        self.truth = self._column_of[columns]
        return photo


class _Run:
    """One pass over a data set: the sums that grow."""

    def __init__(
        self, segmenter: Segmenter, dataset: Dataset, *, peers: bool, skip_bad: bool, leave_out: bool
    ) -> None:
        self._segmenter, self._dataset = segmenter, dataset
        self._skip_bad, self._leave_out = skip_bad, leave_out
        self._memory = MemoryImages(segmenter.images)
        self._column_of = column_table(dataset, segmenter.classes)
        size = (len(segmenter.classes),) * 2
        self.confusion = np.zeros(size, dtype=np.int64)
        self.boundary = np.zeros((size[0], 2), dtype=np.int64)
        self.peers = np.zeros(size, dtype=np.int64) if peers else None
        self.reliability = Reliability(size[0])
        self.calibration: CalibrationFit | None = None
        self.defect: int | None = None
        self.defects: list[DefectScore] = []
        self.blanks: Blanks | None = None
        self.scores: list[ImageScore] = []
        self.skipped: list[SkippedImage] = []

    def score_all(self, task: Task) -> None:
        def skip(case: _Case, error: DataError) -> None:
            self.skipped.append(SkippedImage(case.sample.id, str(error)))
            task.advance()

        cases = (
            _Case(self._dataset, sample, self._column_of, self._memory) for sample in self._dataset.samples
        )
        photos = ((case, case.read) for case in cases)
        with closing(
            self._segmenter.describe_many(photos, on_error=skip if self._skip_bad else None)
        ) as described:
            for case, description in described:
                chosen = without(case.numbers, self._segmenter.filter) if self._leave_out else None
                self._score(case, self._segmenter.label(description, filter=chosen))
                task.advance()

    def _score(self, case: _Case, result: Segmentation) -> None:
        truth = case.truth
        classes = len(self._segmenter.classes)
        confusion = metrics.confusion_matrix(truth, result.winners, classes)
        self.confusion += confusion
        self.boundary += boundary_overlap(truth, result.winners, classes)
        self.reliability.add(truth, result.winners, result.confidence)
        self._score_more(case, result)
        self.scores.append(
            ImageScore(case.sample.id, metrics.mean_iou(confusion), result.seconds, bool(case.numbers))
        )
        if self.peers is not None:
            small = truth_at_input(truth, result.geometry)
            seen = (
                truth_at_input(result.winners, result.geometry)
                if result.refined
                else result.columns_at_input()
            )
            self.peers += metrics.confusion_matrix(small, seen, classes)

    def _score_more(self, case: _Case, result: Segmentation) -> None:
        """What was asked for besides the mask's score."""
        if self.blanks is not None:
            self.blanks.add(case.truth, result)
        if self.calibration is not None:
            if case.numbers and not self._leave_out:
                raise ConfigError(
                    f"{case.sample.id} is in the memory, and surer than a new photo would be; calibrate on "
                    "other images, or add --leave-out"
                )
            self.calibration.add(result.pixels, case.truth)
        if self.defect is not None and (case.truth >= 0).any():
            score = image_score(result.pixels, self.defect)
            self.defects.append(DefectScore(case.sample.id, score, bool((case.truth == self.defect).any())))


def _percent(share: float) -> str:
    return "nothing" if math.isnan(share) else f"{100 * share:.1f} %"
