"""Metrics of anomaly detection: per-region overlap and the area under the ROC curve."""

from evaluation.metrics.aupro import SortedPixels, aupro, pro_curve, sort_pixels
from evaluation.metrics.auroc import auroc, auroc_of_sorted
from evaluation.metrics.curves import roc_curve, thin
from evaluation.metrics.interval import auroc_interval

__all__ = [
    "SortedPixels",
    "aupro",
    "auroc",
    "auroc_interval",
    "auroc_of_sorted",
    "pro_curve",
    "roc_curve",
    "sort_pixels",
    "thin",
]
