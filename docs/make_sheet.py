"""Makes ``docs/similar.png``: a drawn scene, and the memory scenes that are most like it.

    python docs/make_sheet.py

The scenes are drawn by ``make_picture.py``; what happens to them is what ``mycelia similar --picture`` does.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from indexer import build_index, load_dataset, load_recipe
from indexer.recipe import Recipe
from segmentation.classification.classifier import Classifier
from segmentation.classification.sheet import similarity_sheet

sys.path.insert(0, str(Path(__file__).parent))
from make_picture import MEMORY, QUERY, Scene, draw_scene

OUT = Path(__file__).parent / "similar.png"
#: Memory scenes of each class, and how many are shown.
EACH, SHOWN = 8, 8
#: Colours of cars.
PAINT = ((190, 45, 40), (45, 85, 165), (210, 180, 60), (70, 70, 75), (220, 220, 222), (60, 120, 80))


def random_scene(kind: str, seed: int) -> Scene:
    """A scene of a class: ``car``, ``houses``, ``trees`` or ``field``."""
    draw = np.random.default_rng([seed, *kind.encode()])
    base = (MEMORY, QUERY)[seed % 2]
    scene = replace(
        base,
        houses=(),
        trees=(),
        cars=(),
        clouds=tuple((float(x), float(draw.uniform(0.08, 0.2))) for x in draw.uniform(0.1, 0.9, 2)),
        light=float(draw.uniform(0.75, 1.05)),
        seed=seed,
    )
    if kind == "car":
        color = PAINT[int(draw.integers(len(PAINT)))]
        place = (
            float(draw.uniform(0.3, 0.65)),
            float(draw.uniform(0.74, 0.9)),
            float(draw.uniform(0.2, 0.32)),
        )
        return replace(scene, cars=((*place, color),))
    if kind == "houses":
        lefts = (float(draw.uniform(0.02, 0.2)), float(draw.uniform(0.6, 0.7)))
        walls = tuple((x, float(draw.uniform(0.2, 0.4)), x + 0.28, 0.62) for x in lefts)
        return replace(scene, houses=walls)
    if kind == "trees":
        places = zip(draw.uniform(0.08, 0.92, 5), draw.uniform(0.62, 0.85, 5), strict=True)
        return replace(scene, trees=tuple((float(x), float(y), 0.45) for x, y in places))
    return replace(scene, road=[(0.5, 0.5)] * 4)


def make_sheet(out: Path, recipe: Recipe) -> Path:
    """Build a memory of scenes, ask it about a new one, and write the sheet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("car", "houses", "trees", "field"):
            (folder / "scenes" / kind).mkdir(parents=True)
            for seed in range(EACH):
                photo, _ = draw_scene(random_scene(kind, seed))
                Image.fromarray(photo).save(folder / "scenes" / kind / f"{seed + 1}.png")
        asked, _ = draw_scene(random_scene("car", 100))
        build_index(load_dataset(folder / "scenes", format="classes"), folder / "scenes.index", recipe=recipe)
        with Classifier.open(folder / "scenes.index") as classifier:
            best = classifier.classify(asked).best
            title = f"new scene: {best.name}, {100 * best.share:.0f} % of the vote"
            sheet = similarity_sheet(asked, title, classifier.similar(asked, SHOWN))
    out.write_bytes(_small(sheet))
    return out


def _small(sheet: npt.NDArray[np.uint8]) -> bytes:
    """As a PNG of few colours: it lies in the repository."""
    picture = Image.fromarray(sheet)
    picture = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


if __name__ == "__main__":
    chosen = load_recipe("offline.yaml", ["objective.kind=kl", "backbone.block=-1", "transfer.k=8"])
    print(make_sheet(OUT, chosen))
