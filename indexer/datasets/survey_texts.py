"""What is odd in texts: those without a word, those that come twice, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.datasets.base import Sample
from indexer.datasets.oddities import Problem
from indexer.texts import read_text_file
from retrieval.errors import TextError


def look_at_texts(samples: Sequence[Sample]) -> tuple[tuple[int, int, int] | None, list[Problem]]:
    """Words in the shortest, the median and the longest text (None without one), and what is odd."""
    problems: list[Problem] = []
    seen: dict[str, Sample] = {}
    lengths = []
    for sample in samples:
        try:
            text = read_text_file(sample.image) if sample.text is None else sample.text
        except TextError as error:
            problems.append(("text", sample.id, str(error)))
            continue
        words = text.split()
        if not words:
            problems.append(("empty", sample.id, f"{sample.id} ({sample.labels.name}) has no word"))
            continue
        lengths.append(len(words))
        twin = seen.setdefault(" ".join(words).casefold(), sample)
        if twin is not sample and twin.labels.key().sha256 != sample.labels.key().sha256:
            problems.append(("labels", sample.id, f"{sample.id} is the text of {twin.id} with another class"))
        elif twin is not sample:
            problems.append(("twice", sample.id, f"{sample.id} is the same text as {twin.id}"))
    if not lengths:
        return None, problems
    lengths.sort()
    return (lengths[0], lengths[len(lengths) // 2], lengths[-1]), problems
