"""Class shares that differ from the memory's: what neighbours say, corrected for how common classes are.

Source: *Adjusting the Outputs of a Classifier to New a Priori Probabilities* (Saerens, Latinne, Decaestecker;
Neural Computation 2002), equation 2.4, with new priors that are stated, not estimated (no EM).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.yaml_text import MOST_BYTES, parse_yaml
from retrieval.classes import ClassMap
from retrieval.errors import ConfigError
from retrieval.index import PatchIndex
from retrieval.json_text import ParseError, read_limited

#: How far shares of all classes may be from a sum of 1.
_SLACK = 0.01


def prior_ratio(index: PatchIndex, prior: Mapping[str, float] | str | None) -> npt.NDArray[np.float32] | None:
    """Prior of the photos over prior of the memory, (C,) float32; None where ``prior`` is None.

    ``prior`` maps class names to shares in 0..1, or names a YAML or JSON file that does. Classes that it does
    not name get what is left of 1, in the memory's proportions. Raises ConfigError for a file that is no such
    mapping, an unknown class, shares that do not add up, and a class that the memory has no label of.
    """
    if prior is None:
        return None
    stated = _read(prior) if isinstance(prior, str) else prior
    memory = memory_prior(index)
    target = target_prior(stated, memory, index.classes)
    ratio = np.zeros(len(memory))
    np.divide(target, memory, out=ratio, where=memory > 0)
    return ratio.astype(np.float32)


def memory_prior(index: PatchIndex) -> npt.NDArray[np.float64]:
    """The class shares of a memory, (C,) summing to 1: its rows' labels, each scaled to sum 1.

    A row that stands for w patches counts w times, as it does in a vote.
    """
    mass = np.zeros(len(index.classes))
    for rows in index.stream():
        labels = rows.labels.astype(np.float64)
        labels /= np.maximum(labels.sum(axis=1, keepdims=True), 1)
        mass += labels.sum(axis=0) if rows.multiplicity is None else rows.multiplicity @ labels
    prior: npt.NDArray[np.float64] = mass / max(float(mass.sum()), np.finfo(np.float64).tiny)
    return prior


def target_prior(
    stated: Mapping[str, float], memory: npt.NDArray[np.float64], classes: ClassMap
) -> npt.NDArray[np.float64]:
    """The stated shares with the classes left out filled in from the memory's (C,): (C,) summing to 1.

    Raises ConfigError as :func:`prior_ratio`.
    """
    unknown = [name for name in stated if name not in classes.names]
    if unknown:
        known = ", ".join(classes.names)
        raise ConfigError(f"transfer.prior names the class {unknown[0]!r}, but the index has {known}")
    bad = [name for name, share in stated.items() if not 0 <= share <= 1]
    if bad:
        raise ConfigError(f"transfer.prior gives {bad[0]} the share {stated[bad[0]]}; shares lie in 0..1")
    named = np.array([name in stated for name in classes.names])
    target = np.array([stated.get(name, 0.0) for name in classes.names])
    missing = [name for name, n in zip(classes.names, (target > 0) & (memory == 0), strict=True) if n]
    if missing:
        raise ConfigError(
            f"transfer.prior expects {missing[0]}, but the memory has no label of it; add images that show it"
        )
    rest, others = 1.0 - float(target.sum()), float(memory[~named].sum())
    if rest < -_SLACK or (others == 0 and rest > _SLACK):
        raise ConfigError(
            f"the shares of transfer.prior sum to {target.sum():.3f}; they should sum to 1, "
            "or to less where classes are left out"
        )
    if others > 0:
        target[~named] = max(rest, 0.0) * memory[~named] / others
    shares: npt.NDArray[np.float64] = target / target.sum()
    return shares


def reweighted(shares: npt.NDArray[np.float32], ratio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``share_c ratio_c`` over their sum: distributions (..., C) -> (..., C) float32, or all zeros."""
    weighted = shares * ratio
    total = weighted.sum(axis=-1, keepdims=True)
    np.divide(weighted, total, out=weighted, where=total > 0)
    return weighted


def _read(path: str) -> Mapping[str, float]:
    try:
        data: Any = parse_yaml(read_limited(Path(path), most=MOST_BYTES))
    except (OSError, ParseError) as error:
        raise ConfigError(
            f"transfer.prior={path}: cannot be read: {error}; "
            "give {class: share} or a YAML or JSON file of it"
        ) from error
    numbers = isinstance(data, dict) and all(
        isinstance(share, int | float) and not isinstance(share, bool) for share in data.values()
    )
    if not numbers:
        raise ConfigError(f"transfer.prior={path}: expected a mapping of class names to shares in 0..1")
    return {str(name): float(share) for name, share in data.items()}
