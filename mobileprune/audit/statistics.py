"""The audit's statistics under one name; see the modules for formulas and sources."""

from __future__ import annotations

from mobileprune.audit.accuracy import balanced_accuracy
from mobileprune.audit.auc import auc, delong_covariance, paired_auc_difference
from mobileprune.audit.epsilon import EpsilonBound, epsilon_lower_bound, one_run, pair_guesses
from mobileprune.audit.exposure import Exposed, Exposure, breakdown, exposure, most_exposed
from mobileprune.audit.intervals import Estimate, clopper_pearson, smallest_detectable_auc
from mobileprune.audit.power import (
    Power,
    pairs_needed,
    power_of,
    smallest_detectable_tpr,
    tpr_p_value,
)
from mobileprune.audit.rates import paired_tpr_difference, ppv, tpr_at_fpr
from mobileprune.audit.roc import roc_band, roc_points
from mobileprune.audit.selection import Strongest, highest_auc, strongest

__all__ = [
    "EpsilonBound",
    "Estimate",
    "Exposed",
    "Exposure",
    "Power",
    "Strongest",
    "auc",
    "balanced_accuracy",
    "breakdown",
    "clopper_pearson",
    "delong_covariance",
    "epsilon_lower_bound",
    "exposure",
    "highest_auc",
    "most_exposed",
    "one_run",
    "pair_guesses",
    "paired_auc_difference",
    "paired_tpr_difference",
    "pairs_needed",
    "power_of",
    "ppv",
    "roc_band",
    "roc_points",
    "smallest_detectable_auc",
    "smallest_detectable_tpr",
    "strongest",
    "tpr_at_fpr",
    "tpr_p_value",
]
