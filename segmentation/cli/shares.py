"""Which share of the masks' pixels each class takes, said before a build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmentation.cli.console import count_of, say

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
    present = [(name, share) for name, share in ordered if share > 0]
    parts = [f"{name} {_percent(share)}" for name, share in present[:_LISTED]]
    if len(present) > _LISTED:
        rest = sum(share for _, share in present[_LISTED:])
        parts.append(f"{len(present) - _LISTED} more {_percent(rest)}")
    if len(present) < len(ordered):
        missing = [name for name, share in ordered if share == 0]
        parts.append(f"{missing[0] if len(missing) == 1 else f'{len(missing)} other classes'} 0 %")
    parts.append(f"unlabelled {_percent(found.unlabelled)}")
    of = count_of(found.total, "mask")
    seen = f"from {of}" if found.read == found.total else f"from a sample of {found.read} of {of}"
    say(f"pixels ({seen}): {', '.join(parts)}")


def _percent(share: float) -> str:
    if share == 0:
        return "0 %"
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
