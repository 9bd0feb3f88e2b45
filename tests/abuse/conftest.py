"""A small world of scenes, as the tests of the segmenter have it."""

from __future__ import annotations

from ..segmentation.conftest import scene, world

__all__ = ["scene", "world"]
