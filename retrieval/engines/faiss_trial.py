"""A factory string of the user's, tried on a few rows before the work whose vectors it should hold."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from retrieval.engines.faiss_types import last_line, load_faiss, make_index
from retrieval.errors import ConfigError

#: Rows that are added and searched.
_ROWS = 512
#: Links of a graph's node: FAISS ends the process at fewer.
_LEAST_LINKS, _MOST_LINKS = 4, 512
_GRAPH = re.compile(r"HNSW(\d+)")
_LISTS = re.compile(r"IVF(\d+)")
_CURE = "correct index.factory, or leave it empty to have it chosen"


def try_factory(factory: str, width: int) -> None:
    """Raise ConfigError where an index of this type does not train, grow twice and search.

    ``width`` is that of the vectors. Lists are tried as four: how many rows train them shows later.
    """
    if len(factory) > 200:
        raise ConfigError(f"index.factory has {len(factory):,} characters, at most 200 make sense; {_CURE}")
    for what, found, least, most in (
        ("links", _GRAPH.findall(factory), _LEAST_LINKS, _MOST_LINKS),
        ("lists", _LISTS.findall(factory), 1, 2**24),
    ):
        for digits in found:
            if len(digits) > 9 or not least <= int(digits) <= most:
                raise ConfigError(f"{factory!r} has {digits} {what}, expected {least} to {most:,}; {_CURE}")
    faiss = load_faiss()
    rows = np.random.default_rng(0).standard_normal((_ROWS, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    tried = _LISTS.sub("IVF4", factory)
    try:
        index = make_index(faiss, tried, width, rows)
    except ConfigError as error:
        if "training points" in str(error.__cause__):  # the bank has more rows than this
            return
        raise ConfigError(str(error).replace(tried, factory)) from error
    _fill_and_ask(index, factory, rows)


def _fill_and_ask(index: Any, factory: str, rows: Any) -> None:
    try:
        for half in (rows[: _ROWS // 2], rows[_ROWS // 2 :]):
            index.add(half)
        index.search(rows[:2], 3)
    except (RuntimeError, MemoryError) as error:
        what = f"an index of the FAISS type {factory!r} cannot be filled and searched here"
        raise ConfigError(f"{what} ({last_line(error)}); {_CURE}") from error
