"""What images without a mask are among those that have one, and data sets whose classes are an index's."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Literal, get_args

from indexer.datasets.base import Dataset, Sample
from indexer.datasets.labels import Background, MaskFile
from indexer.datasets.masks import ColorCode, color_of_id
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import ConfigError, DatasetError, IndexMismatchError, MaskError

#: An error when it is read, an image of the background alone, or no image of the data set.
Unmasked = Literal["error", "background", "skip"]

_LOG = logging.getLogger("mycelia")


def check_unmasked(unmasked: str) -> None:
    """Raise ConfigError for a word that is not known."""
    if unmasked not in get_args(Unmasked):
        raise ConfigError(f"unknown --unmasked {unmasked!r}; choose one of {', '.join(get_args(Unmasked))}")


def settle_unmasked(dataset: Dataset, unmasked: Unmasked) -> Dataset:
    """The data set with its images without a mask given the background's labels, or without them.

    The background is the class with id 0; where classes were found, it need not occur in any mask.
    Raises DatasetError where the classes have none, or nothing is left.
    """
    if unmasked == "error":
        return dataset
    bare = {sample.id for sample in dataset.samples if not _has_labels(sample)}
    if not bare:
        return dataset
    _LOG.info("%d of %d images have no mask (--unmasked %s)", len(bare), len(dataset), unmasked)
    if unmasked == "skip":
        left = tuple(sample for sample in dataset.samples if sample.id not in bare)
        if not left:
            raise DatasetError(f"no image of {dataset.root} has a mask, so that none is left; add masks")
        return replace(dataset, samples=left)
    dataset = _with_background(dataset)
    samples = tuple(
        replace(sample, labels=Background(sample.image, dataset.classes)) if sample.id in bare else sample
        for sample in dataset.samples
    )
    return replace(dataset, samples=samples)


def _has_labels(sample: Sample) -> bool:
    try:
        sample.labels.check()
    except MaskError:
        return False
    return True


def _with_background(dataset: Dataset) -> Dataset:
    if 0 in dataset.classes.ids:
        return dataset
    if not dataset.found:
        raise DatasetError(
            f"images of {dataset.root} without a mask cannot be background, as no class has the id 0; "
            "give the background this id, or say --unmasked skip"
        )
    ground = ClassInfo(0, "class_0", color_of_id(0))
    return _with_classes(dataset, replace(dataset.classes, classes=(ground, *dataset.classes.classes)))


def adopt_classes(dataset: Dataset, classes: ClassMap) -> Dataset:
    """A data set whose classes were found with those of an index, matched by id; others as they are.

    Where a class of the index does not occur in any mask, it is a class all the same. Raises
    IndexMismatchError for a found class that the index lacks, naming it.
    """
    if not dataset.found or dataset.classes == classes:
        return dataset
    foreign = sorted(set(dataset.classes.ids.tolist()) - set(classes.ids.tolist()) - set(classes.ignore))
    if foreign:
        known = ", ".join(f"{info.id} ({info.name})" for info in classes.classes[:20])
        raise IndexMismatchError(
            f"the masks of {dataset.root} hold the class id {', '.join(map(str, foreign[:5]))}, which the "
            f"index lacks (it has {known}); evaluate on masks with its ids, or build an index from these"
        )
    known_ids = {*classes.ids.tolist(), *classes.ignore}
    ignore = tuple(id for id in dataset.classes.ignore if id not in known_ids)
    return _with_classes(dataset, replace(classes, ignore=classes.ignore + ignore))


def _with_classes(dataset: Dataset, classes: ClassMap) -> Dataset:
    """The data set with other classes; palettes of masks must not contradict their colours."""
    colors = ColorCode.of_classes(classes, palettes="check")

    def changed(sample: Sample) -> Sample:
        labels = sample.labels
        if isinstance(labels, MaskFile):
            return replace(sample, labels=replace(labels, classes=classes, colors=colors))
        if isinstance(labels, Background):
            return replace(sample, labels=replace(labels, classes=classes))
        return sample

    return replace(dataset, samples=tuple(map(changed, dataset.samples)), classes=classes)
