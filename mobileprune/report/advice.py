"""How an inconclusive answer becomes a conclusive one, in a sentence from the numbers at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mobileprune.config import MOST_CANARIES, MOST_TEST

COUNTED = {"all": ("members", "held_out"), "canaries": ("canary_members", "canary_held_out")}
WORDS = {"all": ("members", "non-members"), "canaries": ("canaries among the members", "among the non-members")}

MORE_OF_BOTH = "take data that state more of both"


def advice(finding: Mapping[str, Any], data: Mapping[str, Any], power: Mapping[str, Any]) -> str:
    """Of a finding of the verdict on ``data``, with the ``power`` of its sample, as an audit has them.

    "" where more examples are not what it lacks.
    """
    more, counts = finding["more"], data["counts"]
    if more is None:
        return ""
    if more["times"] is None and (small := _too_small(finding, power[more["group"]]["smallest_auc"])):
        return f"The sample is too small: {small}; {_any_more(more['group'], data)}."
    if more["times"] is None:
        return "No number of examples would decide it: the estimate lies at the limit, as far as this sample can tell."
    group, times = more["group"], more["times"]
    now = [counts[name] for name in COUNTED[group]]
    wanted = [about(times * count) for count in now]
    inside, outside = (f"{count:,} {words}" for count, words in zip(wanted, WORDS[group], strict=True))
    stay = f"would decide it, were the estimate to stay where it is (now {now[0]:,} and {now[1]:,})"
    return f"About {inside} and {outside} {stay}: {_way(group, wanted[0], data)}."


def about(count: float) -> int:
    """Two digits, rounded up.

    >>> about(2312.4), about(61), about(7)
    (2400, 61, 7)
    """
    unit: int = 10 ** max(0, math.floor(math.log10(max(count, 1))) - 1)
    return math.ceil(count / unit) * unit


def _too_small(finding: Mapping[str, Any], smallest: float | None) -> str:
    """Why a leak at the limit would not have been seen; "" if it would. A limit on a difference has no such leak."""
    if finding["question"] == "deployment":
        return ""
    if smallest is None:
        return "no leak could have been shown in it"
    if smallest > (limit := finding["limit"]):
        return f"the smallest leak that could have been shown in it, AUC {smallest:.3f}, is above the limit {limit:.3f}"
    return ""


def _any_more(group: str, data: Mapping[str, Any]) -> str:
    if data["membership"] == "stated":
        return MORE_OF_BOTH
    return f"export anew with more --members{' or --canaries' if group == 'canaries' else ''}"


def _way(group: str, wanted: int, data: Mapping[str, Any]) -> str:
    """Which options add examples: members and canaries are drawn before training, so it is another model."""
    if data["membership"] == "stated":
        return MORE_OF_BOTH
    counts = data["counts"]
    if group == "all":
        return f"export anew with --members {wanted}{_if_there(wanted, counts)}"
    share = math.ceil(100 * wanted / counts["members"]) / 100
    if share <= MOST_CANARIES:
        return f"export anew with --canaries {share:g}"
    members = math.ceil(wanted / MOST_CANARIES)
    return f"export anew with --canaries {MOST_CANARIES:g} --members {members}{_if_there(members, counts)}"


def _if_there(members: int, counts: Mapping[str, int]) -> str:
    """Members take as many held-out images, and two are left for reference and test."""
    known, needed = sum(counts[name] for name in ("members", "held_out", "reference", "test")), 2 * members + 2
    there = f" (the data have {known:,} distinct ones)" if counts["test"] < MOST_TEST else ""  # else others are left
    return f", which takes {needed:,} images{there}" if needed > known else ""
