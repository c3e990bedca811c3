"""LiRA: is the confidence that of a model trained on the example, or of one that was not? (arXiv 2112.03570)"""

from __future__ import annotations

from functools import partial

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats
from mobileprune.attacks.reference_statistics import Moments, cdf_log_odds, confidences, too_few

SOURCE = "Carlini et al., arXiv 2112.03570"


def online(evidence: Evidence, *, fixed: bool) -> Floats:
    """log N(phi; mu_in, sigma_in^2) - log N(phi; mu_out, sigma_out^2), Algorithm 1; (N,).

    phi: logit confidence. The means are those of each example's own references. ``fixed``: one sigma_in and one
    sigma_out for all examples, else each example's own; see :func:`_sigma`.
    """
    phi, inside, outside = confidences(evidence)
    sigma_in, sigma_out = _sigma(inside, fixed), _sigma(outside, fixed)
    z_in, z_out = (phi - inside.mean) / sigma_in, (phi - outside.mean) / sigma_out
    ratio: Floats = (z_out**2 - z_in**2) / 2 + np.log(sigma_out / sigma_in)
    return ratio


def offline(evidence: Evidence, *, fixed: bool) -> Floats:
    """One-sided: how far phi lies above what models give that were not trained on the example, equation 4; (N,).

    The paper's P(Z <= phi), Z ~ N(mu_out, sigma_out^2), as log-odds: the same order, without ties in the tails. It
    increases with phi. The two-sided density of public code would call an example a member that the model knows
    *less* than models which never saw it.
    """
    phi, _, outside = confidences(evidence)
    return cdf_log_odds((phi - outside.mean) / _sigma(outside, fixed))


def _sigma(side: Moments, fixed: bool) -> Floats:
    """Standard deviations (N,) of a side, in or out.

    Fixed: the pooled deviation of the references' phi from their own example's mean, with sum (n_i - 1) degrees of
    freedom. Not the deviation of all phi about one common mean, which public code has: that one measures how the
    examples differ. Only where no example has two references of this side can nothing else be had.
    Per example: with n_i - 1 degrees of freedom, and a floor where references agree exactly.
    """
    variance = np.full(len(side.mean), side.pooled_variance()) if fixed else side.variance()
    sigma: Floats = np.sqrt(variance)
    return sigma


LIRA_ONLINE = Attack(
    "lira_online",
    "logits",
    partial(online, fixed=False),
    f"{SOURCE}, Algorithm 1",
    ("references",),
    too_few(inside=2, outside=2),
)
LIRA_ONLINE_FIXED = Attack(
    "lira_online_fixed",
    "logits",
    partial(online, fixed=True),
    f"{SOURCE}, Algorithm 1",
    ("references",),
    too_few(inside=1, outside=1),
)
LIRA_OFFLINE = Attack(
    "lira_offline",
    "logits",
    partial(offline, fixed=False),
    f"{SOURCE}, equation 4",
    ("references",),
    too_few(inside=0, outside=2),
)
LIRA_OFFLINE_FIXED = Attack(
    "lira_offline_fixed",
    "logits",
    partial(offline, fixed=True),
    f"{SOURCE}, equation 4",
    ("references",),
    too_few(inside=0, outside=1),
)
