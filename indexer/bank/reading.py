"""Reading one sample of a data set."""

from __future__ import annotations

from typing import Any, Protocol

from indexer.datasets import Sample
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
