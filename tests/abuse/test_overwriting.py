"""--json and --picture replace what a command wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.drawing.pictures import is_our_picture, write_image

from ..segmentation.cli.command import TINY, error_of, run, write_photos


@pytest.mark.parametrize("name", ["a.png", "b.jpg"])
def test_a_picture_of_ours_is_known_again(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    assert not is_our_picture(tmp_path / name)
    write_image(tmp_path / name, pixels)
    assert is_our_picture(tmp_path / name)


def test_foreign_files_stay(tmp_path: Path) -> None:
    data = write_photos(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(TINY)
    index, photo = tmp_path / "i", data / "images" / "photo0.png"
    assert run("index", "build", data, "--config", tmp_path / "tiny.yaml", "--out", index).exit_code == 0
    commands = [
        ("evaluate", index, data, "--json"),
        ("evaluate", index, data, "--picture"),
        ("search", index, photo, "--at", "3,4", "--picture"),
        ("inspect", data, "--picture"),
    ]
    for number, command in enumerate(commands):
        for foreign in (photo, data / "classes.json", tmp_path / "tiny.yaml"):
            before = foreign.read_bytes()
            assert "no command of Mycelia wrote it" in error_of(run(*command, foreign))
            assert foreign.read_bytes() == before
        own = tmp_path / f"{number}.{'json' if command[-1] == '--json' else 'png'}"
        own.touch()  # an empty one is nobody's
        for _ in range(2):
            result = run(*command, own)
            assert result.exit_code == 0, result.output
