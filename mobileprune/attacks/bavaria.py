"""BaVarIA: LiRA whose means and variances are uncertain, as they are with few references (arXiv 2603.11799).

A reconstruction from the abstract of Brännvall 2026: the normal-inverse-gamma prior, the Student-t predictive online
and the Gaussian with stabilised variance are the paper's; how the prior is set is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobileprune.attacks.base import Attack
from mobileprune.attacks.evidence import Evidence, Floats
from mobileprune.attacks.reference_statistics import Moments, cdf_log_odds, confidences, too_few

START = (0.0, 0.1, 2.0, 0.2)
BOUNDS = ((-10.0, 10.0), (1e-3, 1e3), (0.6, 1e2), (1e-6, 1e3))
"""(mu, kappa, alpha, beta) in units of the spread of the examples' means. With alpha > 1/2 a variance of an example has
a prior of at least 1.2 degrees of freedom; at 100 all variances are as good as equal."""


@dataclass(frozen=True)
class Prior:
    """sigma_i^2 ~ inverse gamma(alpha, beta), mu_i | sigma_i^2 ~ N(mu, sigma_i^2 / kappa), over examples i."""

    mu: float
    kappa: float
    alpha: float
    beta: float

    def posterior(self, side: Moments) -> tuple[Floats, Floats, Floats, Floats]:
        """mu, kappa, alpha and beta of each example after its ``side.count`` values; each (N,). Conjugate update."""
        kappa: Floats = self.kappa + side.count.astype(np.float64)
        alpha: Floats = self.alpha + side.count / 2
        mu: Floats = (self.kappa * self.mu + side.count * side.mean) / kappa
        away = self.kappa * side.count / kappa * (side.mean - self.mu) ** 2
        return mu, kappa, alpha, self.beta + (side.squares + away) / 2

    def log_evidence(self, side: Moments) -> float:
        """log p(all values | prior), the examples being independent, up to a constant."""
        from scipy.special import gammaln

        _, kappa, alpha, beta = self.posterior(side)
        of_examples = (
            np.log(self.kappa / kappa) / 2
            + self.alpha * np.log(self.beta)
            - alpha * np.log(beta)
            + gammaln(alpha)
            - gammaln(self.alpha)
        )
        return float(of_examples.sum())

    def gradient(self, side: Moments) -> Floats:
        """Of the log evidence by (mu, log kappa, log alpha, log beta); (4,)."""
        from scipy.special import digamma

        _, kappa, alpha, beta = self.posterior(side)
        precision, away, weight = alpha / beta, side.mean - self.mu, side.count / kappa
        by_mu = precision * self.kappa * weight * away
        by_kappa = (1 / self.kappa - 1 / kappa - precision * (weight * away) ** 2) / 2
        by_alpha = np.log(self.beta / beta) + digamma(alpha) - digamma(self.alpha)
        by_beta = self.alpha / self.beta - precision
        sums = np.array([by_mu.sum(), by_kappa.sum(), by_alpha.sum(), by_beta.sum()])
        found: Floats = sums * [1.0, self.kappa, self.alpha, self.beta]
        return found

    def predictive(self, side: Moments) -> tuple[Floats, Floats, Floats]:
        """Degrees of freedom, location and scale of the Student-t that the next value of each example has; (N,)."""
        mu, kappa, alpha, beta = self.posterior(side)
        return 2 * alpha, mu, np.sqrt(beta * (kappa + 1) / (alpha * kappa))


def fit(side: Moments) -> Prior:
    """Empirical Bayes: the prior under which the values of *all* examples are most probable (type II likelihood).

    Found by L-BFGS-B in (mu, log kappa, log alpha, log beta) from a fixed start, so that it is deterministic. Where no
    example has two values they cannot tell variance within examples from variance between; the start decides.
    """
    from scipy.optimize import minimize

    values = side.mean[side.count > 0]
    centre = float(values.mean()) if len(values) else 0.0
    unit = (float(values.std()) if len(values) else 0.0) or side.pooled_variance() ** 0.5
    scaled = Moments(side.count, (side.mean - centre) / unit, side.squares / unit**2)

    def loss(x: Floats) -> tuple[float, Floats]:
        prior, examples = Prior(float(x[0]), *np.exp(x[1:]).tolist()), max(len(values), 1)
        return -prior.log_evidence(scaled) / examples, -prior.gradient(scaled) / examples

    start = np.array([START[0], *np.log(START[1:])])
    bounds = [BOUNDS[0], *(tuple(np.log(pair)) for pair in BOUNDS[1:])]
    x = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-8}).x
    kappa, alpha, beta = np.exp(x[1:]).tolist()
    return Prior(centre + unit * float(x[0]), kappa, alpha, unit**2 * beta)


def online(evidence: Evidence) -> Floats:
    """log t(phi; in) - log t(phi; out), t the Student-t predictive densities of each example; (N,).

    phi is the logit confidence; each side has a prior of its own.
    """
    from scipy.stats import t

    phi, *sides = confidences(evidence)
    log_in, log_out = (
        t.logpdf(phi, df, loc, scale) for df, loc, scale in (fit(side).predictive(side) for side in sides)
    )
    ratio: Floats = log_in - log_out
    return ratio


def offline(evidence: Evidence) -> Floats:
    """One-sided as offline LiRA: log-odds of Phi((phi - mu_out) / sigma_out), both predictive; (N,)."""
    phi, _, outside = confidences(evidence)
    _, location, scale = fit(outside).predictive(outside)
    return cdf_log_odds((phi - location) / scale)


SOURCE = "Brännvall, arXiv 2603.11799"
BAVARIA = Attack("bavaria", "logits", online, SOURCE, ("references",), too_few(inside=1, outside=1))
BAVARIA_OFFLINE = Attack("bavaria_offline", "logits", offline, SOURCE, ("references",), too_few(inside=0, outside=1))
