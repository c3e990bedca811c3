"""The black-box attack network of Nasr et al., fitted on the references."""

from __future__ import annotations

import numpy as np

from mobileprune.attacks.base import Attack, log_probabilities
from mobileprune.attacks.evidence import Evidence, Floats
from mobileprune.attacks.shadow_classifier import SMALLEST_LOG_P, learned, one_hot, refuses

HIDDEN = (1024, 512, 64, 256, 64)


def score(evidence: Evidence) -> Floats:
    """P(member | log p, one-hot y) by a ReLU network with hidden layers 1024, 512, 64, 256, 64, trained with Adam.

    What differs from the paper: there p passes 1024, 512, 64 and y passes 512, 64 on their own before both meet in
    256, 64; scikit-learn's network has no branches, so here both enter together and the branch of p is theirs. Inputs
    are log p, not p, which rounds to 0 and 1 in a trained model. It is fitted on references, not on part of the
    target's own members.
    """
    return learned(evidence, features, HIDDEN, most=10_000, epochs=3)


def features(answers: Evidence) -> Floats:
    """(N, 2 K)"""
    log_p = np.maximum(log_probabilities(answers.logits)[0], SMALLEST_LOG_P)
    return np.hstack([log_p, one_hot(answers.labels, log_p.shape[1])])


NASR = Attack("nasr", "probabilities", score, "after Nasr et al., arXiv 1807.05852", ("references",), refuses)
