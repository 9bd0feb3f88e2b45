"""Reading one sample of a data set."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from indexer.datasets import Dataset, Sample
from indexer.recipe import Recipe
from retrieval.errors import TextError


class Reads(Protocol):
    """Anything that reads inputs, as extractors do."""

    def read(self, source: Any) -> Any:
        """One input; raises DataError."""


def read_sample(extractor: Reads, sample: Sample) -> Any:
    """A sample's input; raises DataError, which names the table and the line of a text that stands in one."""
    try:
        return extractor.read(sample.source)
    except TextError as error:
        if sample.text is None:
            raise
        raise TextError(f"{sample.labels.name}: {error}") from error


def read_labelled(
    recipe: Recipe, dataset: Dataset, sample: Sample
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """An image (H, W, 3) and its class columns (H, W), -1 unlabelled, as the memory's protocol sees them.

    ``hummingbird`` takes unlabelled pixels for the first class. Raises DataError for a bad image or mask.
    """
    image, columns = dataset.read(sample)
    if recipe.bank.protocol == "hummingbird":
        columns = np.maximum(columns, 0)
    return image, columns
