"""Write the golden exports again, after a change of a format that was meant.

python -m tests.segmentation.export.make_golden
"""

from __future__ import annotations

from pathlib import Path

from segmentation.export import FORMATS

from .scenes import EMPTY, SCENE, export

GOLDEN = Path(__file__).parent / "golden"


def write(out: Path) -> None:
    """The scene and an empty photo in every format, each in a folder of its own."""
    for format in FORMATS:
        export(
            out / format.name, format.name, {"ä/scene.jpg": SCENE, "empty.png": EMPTY}, folder=out / "photos"
        )


if __name__ == "__main__":
    write(GOLDEN)
