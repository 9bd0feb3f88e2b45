"""Neighbours -> masks or classes -> score: segment or classify photos with an index, and measure how well."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from segmentation.classification.classifier import Classification, Classifier
    from segmentation.classification.evaluate import evaluate_classes
    from segmentation.classification.scores import ClassificationReport
    from segmentation.description import Description
    from segmentation.scoring.evaluator import EvaluationReport, evaluate
    from segmentation.segmenter import Segmentation, Segmenter

__all__ = [
    "Classification",
    "ClassificationReport",
    "Classifier",
    "Description",
    "EvaluationReport",
    "Segmentation",
    "Segmenter",
    "evaluate",
    "evaluate_classes",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Classification": "segmentation.classification.classifier",
        "ClassificationReport": "segmentation.classification.scores",
        "Classifier": "segmentation.classification.classifier",
        "Description": "segmentation.description",
        "EvaluationReport": "segmentation.scoring.evaluator",
        "Segmentation": "segmentation.segmenter",
        "Segmenter": "segmentation.segmenter",
        "evaluate": "segmentation.scoring.evaluator",
        "evaluate_classes": "segmentation.classification.evaluate",
    },
)
