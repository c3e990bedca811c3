"""The three-valued verdict: did conversion and export add leakage, and is the artifact under the ceiling?

Every question is decided by one rule over its comparisons. *Pass* if each one-sided upper bound at
alpha is below its limit: an intersection-union test, which needs no correction. *Fail* if any
one-sided lower bound exceeds its limit, at alpha divided by the number of comparisons (Bonferroni),
because the strongest of several is taken. Otherwise *inconclusive*. A ceiling is held against every
attack's scores and against their reverse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mobileprune.attacks import Group, Scores
from mobileprune.audit.compare import Comparison, Metric, against_ceiling, against_source
from mobileprune.audit.intervals import Estimate, not_resolvable
from mobileprune.audit.more import More, more_needed
from mobileprune.audit.power import Power, power_of
from mobileprune.errors import ConfigError

Outcome = Literal["pass", "fail", "inconclusive"]
Question = Literal["deployment", "ceiling", "canary_ceiling"]
SEVERITY: dict[Outcome, int] = {"pass": 0, "inconclusive": 1, "fail": 2}
EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 3, "inconclusive": 4}
CAVEAT = "A black-box attack is a lower bound on leakage: a stronger attack may find more."
QUESTIONS: dict[Question, str] = {
    "deployment": "leakage added by conversion and export",
    "ceiling": "leakage over all members",
    "canary_ceiling": "leakage on canaries",
}
GROUPS: dict[str, str] = {"all": "all members", "canaries": "canaries"}
METRICS: dict[Metric, str] = {"auc": "AUC", "tpr_at_1pct_fpr": "TPR at 1% FPR"}


@dataclass(frozen=True)
class Policy:
    """Limits chosen before the audit; ConfigError lists everything that is wrong with them."""

    max_auc: float = 0.60
    max_canary_auc: float = 0.60
    auc_margin: float = 0.02
    tpr_margin: float = 0.02
    alpha: float = 0.05

    def __post_init__(self) -> None:
        problems = []
        for name in ("max_auc", "max_canary_auc"):
            if not 0.5 <= getattr(self, name) <= 1:
                problems.append(f"{name} must lie in 0.5..1, got {getattr(self, name)}")
        for name in ("auc_margin", "tpr_margin"):
            if not 0 < getattr(self, name) < 1:
                problems.append(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0 < self.alpha < 0.5:
            problems.append(f"alpha must lie between 0 and 0.5, got {self.alpha}")
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Finding:
    """The answer to one question and the comparison that decided it (``attack`` None: there was none).

    ``estimate.high`` is the one-sided upper bound that a pass needs below ``limit``, ``estimate.low``
    the one-sided lower bound that a fail needs above it. ``more``: the examples that an inconclusive answer lacks,
    where it lacks nothing else.
    """

    question: Question
    verdict: Outcome
    estimate: Estimate
    limit: float
    attack: str | None
    group: Group
    metric: Metric
    sentence: str
    more: More | None = None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        return self.estimate.low, self.estimate.high

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "bounds": list(self.bounds)}


@dataclass(frozen=True)
class Verdict:
    """The worst of the findings (fail > inconclusive > pass) and what the sample could have shown.

    ``power`` per group: after Bonferroni over the attacks, at the policy's alpha and margin.
    """

    overall: Outcome
    findings: tuple[Finding, ...]
    power: dict[Group, Power]
    policy: Policy
    sentence: str
    caveat: str = CAVEAT

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.overall]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "overall": self.overall,
            "exit_code": self.exit_code,
            "sentence": self.sentence,
            "caveat": self.caveat,
            "findings": [finding.to_dict() for finding in self.findings],
            "power": {group: found.to_dict() for group, found in self.power.items()},
            "policy": asdict(self.policy),
        }


def judge(
    artifact: Scores, source: Scores | None, policy: Policy, *, deployed: bool = True, unsure: str | None = None
) -> Verdict:
    """The verdict on the attacks' scores of the artifact; without ``source`` the deployment question stays open, and it
    is not asked of a model that was not ``deployed`` by us.

    ``unsure``: why what was found may be no measure of the model, such as that it is not certain who is a member. Then
    no attack can prove anything harmless, so what would pass is inconclusive; what fails still fails.
    """
    alpha = policy.alpha
    findings: list[Finding] = []
    if deployed and source is None:
        findings = [_undecided("deployment", "all", policy.auc_margin, "the source was not available")]
    elif source is not None:
        margins = {"auc_margin": policy.auc_margin, "tpr_margin": policy.tpr_margin}
        findings = [_decide("deployment", against_source(artifact, source, alpha=alpha, **margins))]
    parts = artifact.groups()
    findings.append(_decide("ceiling", against_ceiling(artifact, "all", limit=policy.max_auc, alpha=alpha)))
    if "canaries" in parts:
        limit = policy.max_canary_auc
        compared = against_ceiling(parts["canaries"], "canaries", limit=limit, alpha=alpha)
        findings.append(_decide("canary_ceiling", compared))
    elif artifact.canary.any():
        reason = "fewer than 2 canaries among the members or the non-members"
        findings.append(_undecided("canary_ceiling", "canaries", policy.max_canary_auc, reason))
    if unsure:
        findings = [f if f.verdict == "fail" else _undecided(f.question, f.group, f.limit, unsure) for f in findings]
    overall = max((finding.verdict for finding in findings), key=SEVERITY.__getitem__)
    power = {group: power_of(part, auc_margin=policy.auc_margin, alpha=alpha) for group, part in parts.items()}
    reasons = " ".join(finding.sentence for finding in findings if finding.verdict == overall)
    return Verdict(overall, tuple(findings), power, policy, f"{overall.capitalize()}. {reasons}")


def _decide(question: Question, compared: Sequence[Comparison]) -> Finding:
    def excess(bound: float | None, comparison: Comparison, unknown: float) -> float:
        return unknown if bound is None else bound - comparison.limit

    strongest = max(compared, key=lambda c: excess(c.estimate.low, c, -math.inf))
    loosest = max(compared, key=lambda c: excess(c.estimate.high, c, math.inf))
    verdict: Outcome
    if excess(strongest.estimate.low, strongest, -math.inf) > 0:
        verdict, shown = "fail", strongest
    else:
        verdict, shown = "pass" if excess(loosest.estimate.high, loosest, math.inf) < 0 else "inconclusive", loosest
    low, high = shown.estimate.low, shown.estimate.high
    if low is None or high is None:
        return _undecided(question, shown.group, shown.limit, shown.estimate.note or "no estimate", shown)
    where = f"{METRICS[shown.metric]} of {shown.attack}, {shown.group}"
    words = {
        "pass": f"is below the limit in every attack tried (upper bound {high:.3f} < {shown.limit:.3f}: {where})",
        "fail": f"is above the limit (lower bound {low:.3f} > {shown.limit:.3f}: {where})",
        "inconclusive": f"may lie on either side of the limit {shown.limit:.3f} ({low:.3f} to {high:.3f}: {where})",
    }
    sentence = f"{QUESTIONS[question].capitalize()} {words[verdict]}."
    more = more_needed(compared) if verdict == "inconclusive" else None
    return Finding(
        question, verdict, shown.estimate, shown.limit, shown.attack, shown.group, shown.metric, sentence, more
    )


def _undecided(question: Question, group: Group, limit: float, reason: str, shown: Comparison | None = None) -> Finding:
    estimate = shown.estimate if shown else not_resolvable(reason, confidence=0.0, method="none")
    metric = shown.metric if shown else "auc"
    sentence = f"It cannot be said whether {QUESTIONS[question]} keeps to the limit {limit:.3f}: {reason}."
    return Finding(question, "inconclusive", estimate, limit, shown.attack if shown else None, group, metric, sentence)
