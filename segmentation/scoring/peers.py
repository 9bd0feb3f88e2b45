"""What the peers' score needs beside its metric: masks at the model's input, and a memory like theirs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.images import Geometry
from indexer.recipe import Recipe
from retrieval.classes import UNLABELLED


def protocol_note(recipe: Recipe, protocol: str) -> str | None:
    """A sentence where the peers' number is asked of an index that is not built as theirs; else None."""
    if protocol != "hummingbird" or recipe.bank.protocol == "hummingbird":
        return None
    return (
        f"the index was built with bank.protocol={recipe.bank.protocol}, which leaves ignored pixels out of "
        "it, where the peers' memory has them as the first class: to compare the hummingbird score with "
        "published ones, build an index with bank.protocol=hummingbird"
    )


def truth_at_input(columns: npt.NDArray[np.int32], geometry: Geometry) -> npt.NDArray[np.int32]:
    """A mask as the model's input shows it, nearest neighbour: (H0, W0) -> (H, W) int32, padding -1.

    Input row i takes source row ``floor(i * H0 / H)`` of the seen box, columns likewise: the peers' resize,
    torch's ``interpolate(mode="nearest")``, and as there the scale is float32.
    """
    picks = []
    for axis in (0, 1):
        start, stop, content = geometry.box[axis], geometry.box[axis + 2], geometry.content[axis]
        scale = np.float32(stop - start) / np.float32(content)
        places = start + np.arange(content, dtype=np.float32) * scale
        picks.append(np.clip(np.floor(places).astype(np.int64), 0, geometry.source[axis] - 1))
    seen = np.full(geometry.size, UNLABELLED, dtype=np.int32)
    seen[: geometry.content[0], : geometry.content[1]] = columns[np.ix_(*picks)]
    return seen
