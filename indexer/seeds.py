"""Random streams that depend on a seed and on names, and on no order of anything."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_for(seed: int, *names: str | int) -> np.random.Generator:
    """A generator whose stream is a function of the seed and the names alone."""
    text = "\x1f".join(str(name) for name in (seed, *names))
    digest = hashlib.sha256(text.encode(errors="backslashreplace")).digest()  # a file's name need not be text
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
