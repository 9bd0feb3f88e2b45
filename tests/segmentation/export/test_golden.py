"""What is written stays as it was, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .make_golden import GOLDEN, write


def test_formats_write_what_they_wrote(tmp_path: Path) -> None:
    write(tmp_path)
    golden = sorted(path.relative_to(GOLDEN) for path in GOLDEN.rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()) == golden
    assert len(golden) == 16
    for name in golden:
        if name.suffix == ".png":  # Pillow's compression may change
            with Image.open(tmp_path / name) as ours, Image.open(GOLDEN / name) as known:
                assert ours.mode == known.mode == "P" and ours.getpalette() == known.getpalette()
                assert np.array_equal(np.asarray(ours), np.asarray(known))
        else:
            assert (tmp_path / name).read_text("utf-8") == (GOLDEN / name).read_text("utf-8"), name
