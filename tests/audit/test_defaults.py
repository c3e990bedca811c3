"""The numbers that hold where nobody asks for others: documents and reports state them."""

from __future__ import annotations

import inspect
from dataclasses import asdict

from mobileprune.audit import accuracy, auc, compare, epsilon, exposure, intervals, statistics
from mobileprune.audit.limits import RULES
from mobileprune.audit.verdict import SEVERITY, Policy

DEFAULTS = {"confidence": 0.95, "alpha": 0.05, "power": 0.8, "fpr": 0.01, "delta": 0.0, "auc_margin": 0.02, "k": 10}


def test_every_function_has_the_same_levels() -> None:
    modules = (statistics, compare, exposure, intervals)
    functions = [f for module in modules for f in vars(module).values() if inspect.isfunction(f)]
    seen = set()
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            if name in DEFAULTS and parameter.default is not inspect.Parameter.empty:
                assert parameter.default == DEFAULTS[name], (function.__name__, name)
                seen.add(name)
    assert seen == set(DEFAULTS)


def test_the_policy_that_nobody_chose() -> None:
    expected = {"max_auc": 0.6, "max_canary_auc": 0.6, "auc_margin": 0.02, "tpr_margin": 0.02, "alpha": 0.05}
    assert asdict(Policy()) == expected
    assert sorted(SEVERITY, key=SEVERITY.__getitem__) == ["pass", "inconclusive", "fail"]


def test_the_fewest_examples_and_the_fractions_of_pairs() -> None:
    assert (accuracy.SMALLEST_CLASS, auc.SMALLEST_DELONG) == (5, 10)
    assert epsilon.FRACTIONS == (1.0, 0.25, 0.05)


def test_shares_are_at_most_1() -> None:
    shares = {name for name, rule in RULES.items() if rule.largest == 1}
    assert shares == {
        *("accuracy.min_test", "accuracy.max_drop", "added.max_auc", "added.max_canary_auc"),
        "parity.min_top1_agreement",
    }
