"""What decides whether two builds may fill one collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from retrieval import Manifest
from retrieval.engines.qdrant.payload import bank_fingerprint


@pytest.mark.parametrize(
    ("recipe", "same"),
    [
        ({"image": {"fit": "pad", "shifts": 2, "flip": True}, "transfer": {"k": 9}}, True),
        ({"image": {"fit": "pad"}}, True),
        ({"image": {"fit": "pad", "scale": None, "overlap": 0.5}}, True),
        ({"image": {"fit": "pad", "scale": 1.5}}, False),
        ({"image": {"fit": "stretch"}}, False),
        ({"image": {"fit": "pad"}, "seed": 1}, False),
    ],
)
def test_how_photos_are_asked_about_tells_no_builds_apart(
    manifest: Callable[..., Manifest], recipe: dict[str, Any], same: bool
) -> None:
    one = replace(manifest(), recipe={"image": {"fit": "pad", "shifts": 1, "flip": False}})
    assert (bank_fingerprint(replace(one, recipe=recipe)) == bank_fingerprint(one)) is same
