"""Which share of the masks' pixels each class takes, said before a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmentation.cli.console import say

if TYPE_CHECKING:
    from indexer.datasets import Dataset

#: Classes that are listed, the largest first.
_LISTED = 20


def say_shares(dataset: Dataset) -> None:
    """Say what share of the pixels each class and "unlabelled" take, over a sample of the masks."""
    from indexer.datasets.pixel_shares import pixel_shares

    found = pixel_shares(dataset)
    if not found.read:
        return
    ordered = sorted(zip(dataset.classes.names, found.shares, strict=True), key=lambda item: -item[1])
    parts = [f"{name} {_percent(share)}" for name, share in ordered[:_LISTED]]
    if len(ordered) > _LISTED:
        parts.append(
            f"{len(ordered) - _LISTED} more {_percent(sum(share for _, share in ordered[_LISTED:]))}"
        )
    parts.append(f"unlabelled {_percent(found.unlabelled)}")
    seen = f"all {found.total}" if found.read == found.total else f"a sample of {found.read} of {found.total}"
    say(f"pixels ({seen} masks): {', '.join(parts)}")


def _percent(share: float) -> str:
    if share == 0:
        return "0 %"
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
