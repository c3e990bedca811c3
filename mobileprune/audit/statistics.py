"""The audit's statistics under one name; see the modules for formulas and sources."""

from __future__ import annotations

from mobileprune.audit.accuracy import balanced_accuracy
from mobileprune.audit.auc import auc, delong_covariance, paired_auc_difference
from mobileprune.audit.intervals import Estimate, clopper_pearson, smallest_detectable_auc
from mobileprune.audit.rates import paired_tpr_difference, ppv, tpr_at_fpr
from mobileprune.audit.roc import roc_points

__all__ = [
    "Estimate",
    "auc",
    "balanced_accuracy",
    "clopper_pearson",
    "delong_covariance",
    "paired_auc_difference",
    "paired_tpr_difference",
    "ppv",
    "roc_points",
    "smallest_detectable_auc",
    "tpr_at_fpr",
]
