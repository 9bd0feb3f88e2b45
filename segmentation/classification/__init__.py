"""Classes of whole images by retrieval: each memory image votes with its own classes."""

from typing import TYPE_CHECKING

from retrieval.lazy import lazy_exports

if TYPE_CHECKING:
    from segmentation.classification.classifier import Classification, Classifier
    from segmentation.classification.evaluate import evaluate_classes
    from segmentation.classification.matches import Match
    from segmentation.classification.scores import ClassificationReport

__all__ = ["Classification", "ClassificationReport", "Classifier", "Match", "evaluate_classes"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Classification": "segmentation.classification.classifier",
        "ClassificationReport": "segmentation.classification.scores",
        "Classifier": "segmentation.classification.classifier",
        "Match": "segmentation.classification.matches",
        "evaluate_classes": "segmentation.classification.evaluate",
    },
)
