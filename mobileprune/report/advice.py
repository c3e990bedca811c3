"""How an inconclusive answer becomes a conclusive one, in a sentence from the numbers at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mobileprune.config import MOST_CANARIES

COUNTED = {"all": ("members", "held_out"), "canaries": ("canary_members", "canary_held_out")}
WORDS = {"all": ("members", "non-members"), "canaries": ("canaries among the members", "among the non-members")}


def advice(finding: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Of a finding of the verdict on ``data`` as an audit has both; "" where more examples are not what it lacks."""
    more, counts = finding["more"], data["counts"]
    if more is None:
        return ""
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


def _way(group: str, wanted: int, data: Mapping[str, Any]) -> str:
    """Which options add examples: members and canaries are drawn before training, so it is another model."""
    if data["membership"] == "stated":
        return "take data that state more of both"
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
    return f", which takes {needed:,} images" if needed > known else ""
