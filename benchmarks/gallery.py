"""The worst masks of one recipe beside what another makes of the same photos, as a small picture.

    python -m benchmarks.gallery DATA BEFORE.index BEFORE.yaml AFTER.index AFTER.yaml [--split val]
        [--images 24] [--shown 6] [--picture docs/worst.png]

Of evenly spaced photos of the split those with the lowest mIoU before are shown, the worst first. A row has
the mask before, the mask after, and where both differ from the truth: what was mended, what stayed wrong, and
what became wrong. Photos and labelled masks are not drawn, so that pictures can be kept where these may not.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.bank import spaced
from indexer.datasets import Dataset, Sample, load_dataset
from indexer.recipe import load_recipe
from retrieval.errors import MyceliaError
from segmentation.drawing.masks import color_columns
from segmentation.drawing.panels import panels
from segmentation.drawing.pictures import Picture, save_image
from segmentation.scoring.metrics import confusion_matrix, iou_per_class, mean_present
from segmentation.segmenter import Segmenter

Columns = npt.NDArray[np.int32]

#: Right in both; mended; wrong in both; became wrong; not labelled.
KINDS = {
    "right": (232, 232, 228),
    "mended": (60, 150, 90),
    "still wrong": (190, 60, 60),
    "newly wrong": (235, 160, 50),
}
UNLABELLED = (255, 255, 255)
HEIGHT = 150


@dataclass(frozen=True)
class Case:
    """A photo's truth and its two masks, (H, W) class columns."""

    id: str
    truth: Columns
    before: Columns
    after: Columns


def image_miou(truth: Columns, found: Columns, classes: int) -> float:
    """mIoU over the classes that truth or mask have, 0..1."""
    return mean_present(iou_per_class(confusion_matrix(truth, found, classes)))


def difference(case: Case) -> Picture:
    """Where the masks are right and wrong, in the colours of :data:`KINDS`."""
    right, mended, wrong, new = (np.array(color, dtype=np.uint8) for color in KINDS.values())
    before, after = ((found == case.truth)[..., None] for found in (case.before, case.after))
    drawn = np.where(before, np.where(after, right, new), np.where(after, mended, wrong))
    drawn[case.truth < 0] = UNLABELLED
    return drawn


def masks_of(index: Path, recipe_file: str, samples: list[Sample]) -> list[Columns]:
    """The masks of an index under a recipe's settings of images and transfer."""
    recipe = load_recipe(recipe_file)
    with Segmenter.open(
        index,
        runtime=recipe.runtime,
        transfer=recipe.transfer,
        shifts=recipe.image.shifts,
        flip=recipe.image.flip,
    ) as segmenter:
        photos = ((i, sample.image) for i, sample in enumerate(samples))
        return [found.columns for _, found in segmenter.segment_many(photos)]


def gallery(cases: list[Case], dataset: Dataset) -> Picture:
    """One row for each case."""
    count, rows = len(dataset.classes), []
    for case in cases:
        scores = [100 * image_miou(case.truth, found, count) for found in (case.before, case.after)]
        parts = [
            (f"{case.id}: {scores[0]:.0f} mIoU", color_columns(case.before, dataset.classes)),
            (f"after: {scores[1]:.0f} mIoU", color_columns(case.after, dataset.classes)),
            ("mended (green), wrong (red), new (orange)", difference(case)),
        ]
        rows.append(panels(parts, height=HEIGHT))
    width = max(row.shape[1] for row in rows)
    filled = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), mode="edge") for row in rows]
    return np.concatenate(filled)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path, help="a data set with masks")
    for name in ("before", "after"):
        made.add_argument(f"{name}_index", type=Path)
        made.add_argument(f"{name}_recipe", help="settings of masks")
    made.add_argument("--split", default="val")
    made.add_argument("--images", type=int, default=24, help="photos to choose from, evenly spaced")
    made.add_argument("--shown", type=int, default=6, help="of these, the worst")
    made.add_argument("--picture", type=Path, default=Path("docs/worst.png"), help="the picture to write")
    return made


def main() -> None:
    """Segment twice, choose, draw."""
    arguments = parser().parse_args()
    try:
        dataset = spaced(load_dataset(arguments.data, split=arguments.split), arguments.images)
        samples = list(dataset.samples)
        before = masks_of(arguments.before_index, arguments.before_recipe, samples)
        after = masks_of(arguments.after_index, arguments.after_recipe, samples)
        truths = [dataset.read_mask(sample) for sample in samples]
    except MyceliaError as error:
        sys.exit(f"error: {error}")
    cases = [Case(sample.id, *masks) for sample, *masks in zip(samples, truths, before, after, strict=True)]
    cases.sort(key=lambda case: image_miou(case.truth, case.before, len(dataset.classes)))
    # few colours: a quarter of the bytes
    picture = Image.fromarray(gallery(cases[: arguments.shown], dataset))
    save_image(arguments.picture, picture.quantize(64, dither=Image.Dither.NONE), "PNG", optimize=True)


if __name__ == "__main__":
    main()
