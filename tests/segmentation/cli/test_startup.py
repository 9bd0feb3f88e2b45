"""What the command loads before it works: nothing that it can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .command import write_photos

#: What takes long to load, and what of torch is for training and compiling alone.
SLOW = ("torch", "torchvision", "timm", "cv2", "matplotlib", "faiss", "scipy", "pandas", "huggingface_hub")

ASKED = """
import sys
from segmentation.cli import main
try:
    main()
finally:
    print("LOADED", *sorted(sys.modules))
"""


def loaded_by(*arguments: object) -> set[str]:
    """Modules that a process has loaded at the end of a command."""
    command = [sys.executable, "-c", ASKED, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in found.stdout.splitlines() if line.startswith("LOADED "))
    return set(line.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["--version"]])
def test_help_loads_no_numbers(arguments: list[str]) -> None:
    loaded = loaded_by(*arguments)
    assert "segmentation.cli.segment" in loaded
    assert loaded & {*SLOW, "numpy", "PIL", "yaml", "rich.console"} == set()


def test_a_look_into_an_index_loads_no_model(index: Path) -> None:
    for options in ([], ["--json"]):
        loaded = loaded_by("index", "info", index, *options)
        assert "retrieval.store.manifest" in loaded
        assert loaded & {*SLOW, "PIL", "indexer.recipe"} == set()


def test_photos_are_segmented_without_what_scores_and_compiles(index: Path, tmp_path: Path) -> None:
    loaded = loaded_by(
        "segment", index, write_photos(tmp_path / "photos", count=1), "--out", tmp_path / "out"
    )
    assert {"torch", "timm"} <= loaded
    assert loaded & {"torch._dynamo", "sympy", "scipy", "matplotlib", "faiss", "pandas", "onnx"} == set()
