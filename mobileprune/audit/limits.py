"""What a policy file can limit beside leakage: ``RULES``, each with the way to its number in a report's values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mobileprune.audit.intervals import mover_difference
from mobileprune.audit.skill import guesses, in_words

Values = Mapping[str, Any]
"""``audit``, ``manifest`` and ``bench`` as ``report.json`` has them, as far as they are known."""


NO_BASELINE = "the dense baseline is not in the run store"


class NotMeasured(Exception):
    """Why there is no number."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval; a plain one is an interval of its own."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rule:
    """A limit in [0, ``largest``], from above if ``most``. ``measure`` raises NotMeasured; ``bench``: it needs one."""

    words: str
    most: bool
    measure: Callable[[Values], Measured]
    form: str = ",.4g"
    largest: float = math.inf
    bench: bool = False


def _plain(value: float) -> Measured:
    return Measured(value, value, value)


def _accuracy(values: Values, subject: str) -> float:
    subjects = values["audit"]["subjects"]
    if subject not in subjects:
        raise NotMeasured(NO_BASELINE)
    found = subjects[subject]["accuracy"].get("test")
    if found is None:
        raise NotMeasured("there are no test images")
    return float(found)


def _learned(dense: Mapping[str, Any]) -> None:
    """NotMeasured where the dense baseline is no model to hold another against; reports of old do not tell."""
    accuracy, most = dense["accuracy"].get("members"), dense.get("most_frequent")
    if accuracy is not None and most is not None and guesses(accuracy, most):
        raise NotMeasured(f"the dense baseline has learned nothing: it is {in_words(accuracy, most)}")


def _drop(values: Values) -> Measured:
    if "dense" in values["audit"]["subjects"]:
        _learned(values["audit"]["subjects"]["dense"])
    difference = _accuracy(values, "dense") - _accuracy(values, "artifact")
    return _plain(round(difference, 12))  # 0.90 - 0.88 is not above 0.02


def _added(values: Values, group: str) -> Measured:
    """AUC of the file's strongest attack above that of the dense baseline's."""
    subjects, found = values["audit"]["subjects"], []
    if "dense" not in subjects:
        raise NotMeasured(NO_BASELINE)
    if values["audit"]["effort"]["versions"]:
        raise NotMeasured("the file was attacked with --versions, and the dense baseline without them")
    _learned(subjects["dense"])
    for name in ("artifact", "dense"):
        if group not in subjects[name]["strongest"]:
            raise NotMeasured("there are too few canaries")
        auc = subjects[name]["strongest"][group]["auc"]
        if None in (edges := (auc["value"], auc["low"], auc["high"])):
            raise NotMeasured(auc["note"])
        found.append(edges)
    return Measured(*(round(number, 12) for number in mover_difference(*found)))


def _costs(values: Values, side: str = "artifact") -> Mapping[str, Any]:
    """Of the file, or of the dense baseline."""
    bench = values.get("bench")
    if not bench:
        raise NotMeasured("it was not measured")
    if bench.get(side) is None:
        raise NotMeasured(NO_BASELINE)
    found: Mapping[str, Any] = bench[side]
    return found


def _size(values: Values) -> Measured:
    known = values.get("manifest") or _costs(values)
    return _plain(known["size_bytes"])


def _ratio(values: Values) -> Measured:
    return _plain(_costs(values)["size_bytes"] / _costs(values, "baseline")["size_bytes"])


def _timed(values: Values) -> Mapping[str, Any]:
    costs, bench = _costs(values), values["bench"]
    if "latency_ms" not in costs:
        raise NotMeasured("it was not measured")
    if not bench["valid"]:
        raise NotMeasured(f"the timing is not valid: {bench['note']}")
    return costs


def _p50(values: Values) -> Measured:
    return _plain(_timed(values)["latency_ms"]["p50"])


def _speedup(values: Values) -> Measured:
    _timed(values)
    _costs(values, "baseline")
    found = values["bench"]["speedup"]
    return Measured(found["value"], found["low"], found["high"])


def _parity(values: Values, key: str) -> Measured:
    if not values.get("manifest"):
        raise NotMeasured("there is no PyTorch model to hold it against")
    return _plain(values["manifest"]["parity"][key])


RULES: dict[str, Rule] = {
    "accuracy.min_test": Rule("test accuracy", False, lambda v: _plain(_accuracy(v, "artifact")), largest=1),
    "accuracy.max_drop": Rule("loss of test accuracy against the dense baseline", True, _drop, largest=1),
    "added.max_auc": Rule(
        "AUC over all members, above that of the dense baseline,", True, lambda v: _added(v, "all"), ".3f", largest=1
    ),
    "added.max_canary_auc": Rule(
        "AUC over canaries, above that of the dense baseline,", True, lambda v: _added(v, "canaries"), ".3f", largest=1
    ),
    "size.max_bytes": Rule("file size in bytes", True, _size, ",.0f"),
    "size.max_deflated_bytes": Rule(
        "deflated file size in bytes", True, lambda v: _plain(_costs(v)["deflated_bytes"]), ",.0f", bench=True
    ),
    "size.max_ratio": Rule("file size as a share of the dense baseline's", True, _ratio, bench=True),
    "latency.max_p50_ms": Rule("median latency in ms", True, _p50, bench=True),
    "latency.min_speedup": Rule("speed-up over the dense baseline", False, _speedup, bench=True),
    "parity.max_difference": Rule(
        "largest difference to the PyTorch model", True, lambda v: _parity(v, "max_difference")
    ),
    "parity.min_top1_agreement": Rule(
        "share of inputs on which file and PyTorch model agree",
        False,
        lambda v: _parity(v, "top1_agreement"),
        largest=1,
    ),
}
"""``section.name`` in the policy file -> its rule."""
