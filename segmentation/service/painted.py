"""Labels that came with a request: a painted mask, as what the memory bank is made of."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from indexer.bank.describe import THUMB_SIZE
from indexer.bank.sampling import (
    choose_patches,
    generator_for,
    patch_labels,
    patches_per_image,
    soft_labels,
)
from indexer.datasets.keys import SourceKey
from indexer.datasets.masks import color_of_id
from indexer.images import PatchGrid
from indexer.recipe import Recipe
from retrieval.classes import ClassInfo, ClassMap
from retrieval.edit.add import NewImage
from retrieval.edit.classes import join_classes
from retrieval.store.records import ImageRecord
from segmentation.description import Description

#: Share of a patch's pixels that must be painted for it to be learnt, where any patch has so many.
_PAINTED = 0.25


@dataclass(frozen=True)
class PaintedLabels:
    """A :class:`indexer.datasets.labels.LabelSource` of class columns (H, W) int32, -1 unpainted."""

    columns: npt.NDArray[np.int32]
    name: str = "the painted mask"

    def read(self) -> npt.NDArray[np.int32]:
        """The columns."""
        return self.columns

    def check(self) -> None:
        """Nothing: they are there."""

    def key(self, known: SourceKey | None = None) -> SourceKey:
        """Of the pixels."""
        return SourceKey.of_bytes(self.name, self.columns.tobytes())


def with_classes(known: ClassMap, names: list[str]) -> ClassMap:
    """The known classes, and then those of ``names`` that are new, with free ids and colours of their own."""
    fresh = [name for name in dict.fromkeys(names) if name not in known.names]
    first = max((info.id for info in known.classes), default=-1) + 1
    infos = tuple(ClassInfo(first + i, name, color_of_id(first + i)) for i, name in enumerate(fresh))
    return join_classes(known, ClassMap(infos), where="the request", new_ids=True).classes


def rows_of_description(
    description: Description,
    columns: npt.NDArray[np.int32],
    record: ImageRecord,
    *,
    recipe: Recipe,
    classes: int,
    images: int,
) -> NewImage | None:
    """The rows that a described photo gives with class columns (H, W), -1 unpainted; no model is asked.

    As many patches as an image of a build of ``images`` images, of those that are painted. None where the
    photo's patches lie otherwise than the memory's: it has to be described again.
    """
    grid = description.views[0].grid
    if not isinstance(grid, PatchGrid) or grid.shifts != recipe.bank.shifts:
        return None
    counts = patch_labels(columns, grid.geometry, grid.patch_size, classes=classes, shifts=grid.shifts)
    counts = _well_painted(counts, columns, grid)
    tokens = grid.shape[0] * grid.shape[1] // grid.shifts**2
    limit = patches_per_image(recipe.bank, images=images, tokens=tokens)
    kept = choose_patches(counts, limit, generator_for(recipe.seed, "patches", record.id, 0))
    rows, cols = np.divmod(kept, grid.shape[1])
    vectors = description.views[0].vectors[kept].astype(np.float16).astype(np.float32)
    places = np.stack([rows, cols], axis=1).astype(np.int32)
    return NewImage(record, vectors, soft_labels(counts[kept]), places)


def _well_painted(
    counts: npt.NDArray[np.int64], columns: npt.NDArray[np.int32], grid: PatchGrid
) -> npt.NDArray[np.int64]:
    """The counts (T, C) without patches that a stroke only touches, unless it touches all that it paints."""
    pixels = patch_labels(
        np.zeros_like(columns), grid.geometry, grid.patch_size, classes=1, shifts=grid.shifts
    )[:, 0]
    share = counts.sum(axis=1) / np.maximum(pixels, 1)
    enough = share >= min(_PAINTED, float(share.max(initial=0.0)))
    return np.where(enough[:, None], counts, 0)


def thumbnail_of(photo: npt.NDArray[np.uint8]) -> bytes:
    """A small JPEG of a photo (H, W, 3), as builds write them."""
    thumb = Image.fromarray(photo)
    thumb.thumbnail((THUMB_SIZE, THUMB_SIZE))
    encoded = io.BytesIO()
    thumb.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()
