"""Describing whole images, texts or recordings for the memory bank: each gives one row, with its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.bank.describe import empty_part, join_parts, record_of, thumb_of, write_thumb
from indexer.bank.jobs import BankJob
from indexer.bank.parts import Part
from indexer.bank.reading import read_sample
from indexer.datasets import Dataset
from indexer.datasets.keys import SampleKeys
from indexer.datasets.whole import whole_columns
from indexer.features.whole.base import WholeExtractor
from retrieval.errors import DataError
from retrieval.progress import Task


def describe_whole(
    extractor: WholeExtractor[Any],
    dataset: Dataset,
    jobs: Sequence[BankJob],
    thumbs: Path,
    *,
    skip_bad: bool,
    task: Task,
) -> Part:
    """One row for each job's input; thumbnails, of what can be seen, are written to ``thumbs``.

    Raises DataError for a bad input or label unless ``skip_bad``.
    """
    found = [empty_part(extractor.similarity.width, len(dataset.classes))]
    skipped: dict[str, str] = {}
    sources: list[SampleKeys] = []
    size = extractor.recipe.runtime.batch_size
    for start in range(0, len(jobs), size):
        contents, labels, records = [], [], []
        for job in jobs[start : start + size]:
            # before it is read: what is replaced meanwhile is noticed when the build goes on
            sources.append(job.sample.keys())
            try:
                content = read_sample(extractor, job.sample)
                label = label_of(whole_columns(job.sample.labels), len(dataset.classes))
            except DataError as error:
                if not skip_bad:
                    raise
                skipped[job.sample.id] = str(error)
                thumb_of(job, thumbs).unlink(missing_ok=True)
            else:
                contents.append(content)
                labels.append(label)
                record = record_of(job, sources[-1], extractor.extent(content), patches=1)
                records.append(replace(record, excerpt=extractor.excerpt(content)))
                picture = extractor.picture(content)
                if picture is not None:
                    write_thumb(picture, thumb_of(job, thumbs))
            task.advance()
        if contents:
            vectors = extractor.extract(contents).numpy().astype(np.float16)
            patches = np.array([[record.number, 0, 0] for record in records], dtype=np.int32)
            found.append(Part(vectors, np.stack(labels), patches, records, {}, []))
    return join_parts(found, skipped, sources)


def label_of(columns: Sequence[int], classes: int) -> npt.NDArray[np.uint8]:
    """The label of an image with the given class columns, evenly: (C,) uint8."""
    label = np.zeros(classes, dtype=np.uint8)
    label[list(columns)] = max(1, round(255 / len(columns)))
    return label
