"""What ``import segmentation`` promises."""

from __future__ import annotations

import segmentation


def test_exported_names_are_there() -> None:
    assert sorted(segmentation.__all__) == segmentation.__all__
    assert all(getattr(segmentation, name).__doc__ for name in segmentation.__all__)
    assert {"Segmenter", "evaluate", "Classifier", "evaluate_classes"} <= set(segmentation.__all__)
