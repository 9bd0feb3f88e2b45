"""Layouts whose labels are what a labelling tool or a benchmark wrote: one file a format."""

from __future__ import annotations

from indexer.datasets.base import Layout
from indexer.datasets.tools import (
    ade20k,
    cityscapes,
    coco,
    cvat,
    label_studio,
    label_studio_png,
    labelme,
    yolo,
)

#: Folders of two kinds of pictures that only look like plain ones; tried before those.
BENCHMARKS: tuple[Layout, ...] = (cityscapes.LAYOUT, ade20k.LAYOUT, coco.PANOPTIC)

#: Tried after all folders of masks.
TOOLS: tuple[Layout, ...] = (
    coco.INSTANCES,
    coco.STUFF,
    cvat.LAYOUT,
    label_studio_png.LAYOUT,
    label_studio.LAYOUT,
    labelme.LAYOUT,
    yolo.LAYOUT,
)
