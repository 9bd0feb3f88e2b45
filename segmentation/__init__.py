"""Neighbours -> masks -> score: segment photos with an index, and measure how well that goes."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from segmentation.description import Description
    from segmentation.scoring.evaluator import EvaluationReport, evaluate
    from segmentation.segmenter import Segmentation, Segmenter

__all__ = ["Description", "EvaluationReport", "Segmentation", "Segmenter", "evaluate"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Description": "segmentation.description",
        "EvaluationReport": "segmentation.scoring.evaluator",
        "Segmentation": "segmentation.segmenter",
        "Segmenter": "segmentation.segmenter",
        "evaluate": "segmentation.scoring.evaluator",
    },
)
