"""Neighbours -> masks -> score: segment photos with an index, and measure how well that goes."""

from segmentation.evaluate import EvaluationReport, evaluate
from segmentation.segmenter import Segmentation, Segmenter

__all__ = ["EvaluationReport", "Segmentation", "Segmenter", "evaluate"]
