"""Shares of pixels over a sample of masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer.datasets import load_dataset
from indexer.datasets.pixel_shares import pixel_shares, spread


def test_shares_of_classes_and_unlabelled(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for number, values in enumerate(([[0, 0, 7, 255]], [[0, 0, 0, 0]], None)):
        Image.new("RGB", (4, 1)).save(tmp_path / "images" / f"{number}.png")
        mask = tmp_path / "masks" / f"{number}.png"
        if values is None:
            mask.write_bytes(b"broken")
        else:
            Image.fromarray(np.array(values, np.uint8)).save(mask)
    classes = [{"id": 7, "name": "x"}, {"id": 0, "name": "y"}, {"id": 9, "name": "z"}]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes}))
    found = pixel_shares(load_dataset(tmp_path))
    assert found.shares == (1 / 8, 6 / 8, 0)
    assert found.unlabelled == 1 / 8
    assert found.images == (1, 2, 0)
    assert (found.read, found.total) == (2, 3)
    assert pixel_shares(load_dataset(tmp_path), limit=1).read == 1


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [(3, 5, [0, 1, 2]), (10, 1, [0]), (10, 2, [0, 9]), (11, 3, [0, 5, 10]), (0, 5, [])],
)
def test_spread(count: int, limit: int, expected: list[int]) -> None:
    assert spread(count, limit) == expected
