"""Small masks with what is hard to export, and how to read polygons back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.classes import ClassInfo, ClassMap
from segmentation.export import FORMATS, Exporter, ExportSettings, Format, LabelledPhoto, choose_classes

Mask = npt.NDArray[np.int32]

CLASSES = ClassMap(
    (
        ClassInfo(0, "background", (0, 0, 0)),
        ClassInfo(3, "Gemüse", (60, 160, 60)),
        ClassInfo(7, 'Straße, "breit" & naß', (128, 64, 128)),
    ),
    ignore=(255,),
)
#: Class columns: 1 has a ring with a hole in which it stands once more, 2 two far parts, one of which
#: hangs together by a corner only, and one pixel in the photo's last corner.
SCENE: Mask = np.array(
    [[".12".index(letter) for letter in row] for row in (
        "11111..2..",
        "1...1.2...",
        "1.1.1.22..",
        "1...1.....",
        "11111.....",
        "...2......",
        "..222....2",
    )],
    dtype=np.int32,
)  # fmt: skip
EMPTY: Mask = np.zeros((4, 5), dtype=np.int32)


def settings(tolerance: float = 0.0) -> ExportSettings:
    return ExportSettings(CLASSES, choose_classes(CLASSES), tolerance)


def photo(name: str, columns: Mask, made: ExportSettings, folder: Path = Path("photos")) -> LabelledPhoto:
    """A photo whose confidence is 0.5 in the left half and 1 in the right."""
    confidence = np.ones(columns.shape, dtype=np.float32)
    confidence[:, : columns.shape[1] // 2] = 0.5
    stem = Path(name).with_suffix("").as_posix()
    mask = made.classes.ids[columns].astype(np.uint8)
    return LabelledPhoto(folder / name, name, stem, mask, columns, confidence, made)


def format_named(name: str) -> Format:
    return next(format for format in FORMATS if format.name == name)


def export(
    out: Path, name: str, masks: dict[str, Mask], *, tolerance: float = 0.0, folder: Path = Path("photos")
) -> None:
    """Write masks, by the names of their photos, in one format."""
    made = settings(tolerance)
    with Exporter(out, [format_named(name)], made, names=list(masks)) as exporter:
        for photo_name, columns in masks.items():
            exporter.add(photo(photo_name, columns, made, folder))


def random_masks() -> dict[str, Mask]:
    """Photos of noise and of blobs, of odd sizes, with the scene and one without any region."""
    generator = np.random.default_rng(3)
    sizes = [(1, 1), (1, 7), (9, 1), (12, 17), (31, 23), (40, 40)]
    noise = {f"noise{n}.jpg": generator.integers(0, 3, size) for n, size in enumerate(sizes)}
    sparse = {f"full{n}.png": (generator.random(size) < 0.8).astype(int) for n, size in enumerate(sizes)}
    masks = {"sub/scene.JPG": SCENE, "empty.png": EMPTY, **noise, **sparse}
    return {name: mask.astype(np.int32) for name, mask in masks.items()}


def inside(lines: Iterable[Sequence[Sequence[float]]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W) the pixels whose centres lie inside closed lines of (x, y), by the even-odd rule."""
    y, x = (centre + 0.5 for centre in np.indices(shape))
    odd = np.zeros(shape, dtype=bool)
    for line in lines:
        for (x0, y0), (x1, y1) in zip(line, [*line[1:], line[0]], strict=True):
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return odd
