"""The command as tests run it, and the data that they give it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from segmentation.cli import app

#: A random ViT of two patches a side: what is said is tested here, not how good it is.
TINY = """
backbone: {model: test_vit, weights: random}
image: {size: [64, 64]}
bank: {max_patches: null}
objective: {support_size: 16}
index: {engine: exact}
transfer: {k: 3}
runtime: {device: cpu}
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(result: Result) -> str:
    """The one line that an error of ours leaves on stderr."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def write_photos(folder: Path, *, count: int = 3, size: tuple[int, int] = (48, 70)) -> Path:
    """A plain data set: left half class 0 and dark, right half class 1 and bright."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        mask = np.zeros(size, dtype=np.uint8)
        mask[:, size[1] // 2 :] = 1
        photo = generator.integers(0, 80, size=(*size, 3)) + 150 * mask[..., None]
        Image.fromarray(photo.astype(np.uint8)).save(folder / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"photo{number}.png")
    classes = {"classes": [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}], "ignore": [255]}
    (folder / "classes.json").write_text(json.dumps(classes))
    return folder
