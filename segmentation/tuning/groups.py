"""Which images belong together (a sequence, a patient), and which of them are segmented."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError

#: Characters of a rule.
MOST_RULE = 1000


def group_names(ids: Sequence[str], rule: str | None) -> list[str]:
    """The group of each image id: every image alone (None), the id's first letters, or what a regex finds.

    ``rule`` is a number of letters (``"6"``) or a regular expression that is searched for in the id;
    its first bracket, or all that it matched, names the group. Raises ConfigError for a rule that
    is neither, that does not match some id, or that leaves fewer than two groups.
    """
    if rule is not None and len(rule) > MOST_RULE:
        raise ConfigError(f"--group has {len(rule):,} characters; a rule has at most {MOST_RULE}")
    if rule is None:
        names = list(ids)
    elif rule.isdecimal():  # an id has fewer letters than the longest number
        names = [id[: int(rule)] for id in ids]
    else:
        names = _matches(ids, rule)
    if len(set(names)) < 2:
        what = "image" if rule is None else f"group (--group {rule})"
        raise ConfigError(
            f"tuning leaves one {what} out at a time, but there is only one: {names[0]!r}; "
            + ("add labelled images" if rule is None else "give a rule that tells the images apart")
        )
    return names


def _matches(ids: Sequence[str], rule: str) -> list[str]:
    try:
        pattern = re.compile(rule)
    except (re.error, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"--group {rule!r} is no regular expression: {error}") from error
    names = []
    for id in ids:
        found = pattern.search(id)
        name = None if found is None else found.group(1 if pattern.groups else 0)
        if not name:
            raise ConfigError(
                f"--group {rule!r} finds no group in the image id {id!r}; give a regular expression that "
                "matches every id, or a number of letters"
            )
        names.append(name)
    return names


def group_codes(names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Names as numbers from 0, in the order of their first appearance: (n,) int64."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def choose_queries(codes: npt.NDArray[np.int64], limit: int) -> list[int]:
    """At most ``limit`` images, evenly spaced over the groups and within them: sorted positions.

    A group is chosen from in proportion to its size. Raises ConfigError for a limit below 2.
    """
    if limit < 2:
        raise ConfigError(f"--images {limit} is too few to choose by; give at least 2, better 30 or more")
    order = np.argsort(codes, kind="stable")
    at = (np.arange(min(limit, len(order))) + 0.5) * len(order) / min(limit, len(order))
    return sorted(int(i) for i in order[at.astype(np.int64)])
