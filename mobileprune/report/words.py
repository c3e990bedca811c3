"""The report in plain words: is it safe to ship, what did it cost, what was not tested?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mobileprune.attacks import ATTACKS
from mobileprune.attacks.queries import VARIANTS
from mobileprune.audit.verdict import GROUPS
from mobileprune.report.cells import Cell, at
from mobileprune.report.tables import SUBJECT, ratio

SAFE = {
    "pass": "Yes, within what was tested.",
    "fail": "No, not by this policy.",
    "inconclusive": "This audit cannot tell.",
}
ANSWERS = {"pass": "Yes, within what was tested", "fail": "No", "inconclusive": "It cannot be said"}
ASKED = {
    "deployment": "Did conversion and export keep leakage where it was?",
    "ceiling": "Is leakage over all members under the ceiling?",
    "canary_ceiling": "Is leakage on canaries (wrongly labelled members) under the ceiling?",
}
WHO = {
    "ceiling": ("Members are told from non-members in ", " of 100 pairs (guessing: 50, limit: "),
    "canary_ceiling": ("Canaries, members with a wrong label, are told apart in ", " of 100 pairs (limit: "),
}
Parts = tuple[str, ...]
"""A sentence in pieces: those that are cells know where their number stands."""
OPTIONS = {
    "references": "--references 16",
    "queries": "--queries 20",
    "versions": "--versions PATH",
    "access": "--access file",
}
NOT_TRIED = {
    "references": (
        "attackers with reference models",
        "attackers who train reference models (LiRA, RMIA), stronger than the attacks here: " + OPTIONS["references"],
    ),
    "queries": (
        "attackers who vary the image",
        "attackers who ask about changed copies of an image: " + OPTIONS["queries"],
    ),
    "versions": (
        "attackers with several versions",
        "attackers who hold several versions of the model: " + OPTIONS["versions"],
    ),
    "access": (
        "attackers who read the weights",
        "attackers who read the weights out of the file: " + OPTIONS["access"],
    ),
}
"""In short, and with the option that has it tried."""
UNTRIED = {"references": 0, "queries": 1, "versions": 0}
NEEDED = {"references": {"references"}, "queries": {*VARIANTS}, "versions": {"versions"}, "access": {"gradients"}}
"""What attacks need that only this option gives."""
OTHERS = "other hardware and runtimes than the machine named below"
CLEARLY = 1.1
"""A ratio that one digit shows to be none."""
SAME = 0.05
"""Points of accuracy: less is no change to report."""


def not_tried(effort: dict[str, Any], skipped: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """What the attacker of this audit did not try, or could not for the reason in ``skipped``; in short and in full."""
    for name, (short, full) in NOT_TRIED.items():
        if _untried(name, effort):
            yield short, full
            continue
        attacks = [attack for attack, found in ATTACKS.items() if NEEDED[name] & {*found.needs}]
        if skipped and all(attack in skipped for attack in attacks):
            yield short, f"{short}, who were asked for: {skipped[attacks[0]]}"


def _untried(name: str, effort: Mapping[str, Any]) -> bool:
    return bool(effort["access"] != "file" if name == "access" else effort[name] == UNTRIED[name])


def would_run(attack: str, effort: Mapping[str, Any], kind: str = "artifact") -> str:
    """The options that an ``attack`` which was not run lacks; "" where none helps.

    ``kind`` of a model that is no artifact: of those only more queries can be asked, and of a table none.
    """
    lacks = [name for name in OPTIONS if NEEDED[name] & {*ATTACKS[attack].needs} and _untried(name, effort)]
    taken = {"artifact": {*OPTIONS}, "table": set()}.get(kind, {"queries"})
    return " ".join(OPTIONS[name] for name in lacks) if taken.issuperset(lacks) else ""


def not_tested(effort: dict[str, Any], skipped: Mapping[str, str] | None = None) -> list[str]:
    """In full: what the attacker did not try, and where the file did not run."""
    return [*(words for _, words in not_tried(effort, skipped)), OTHERS]


def in_plain_words(finding: dict[str, Any], index: int) -> Parts:
    """One finding for somebody who does not know what an AUC is: it is the share of pairs that are told apart."""
    value, limit = finding["estimate"]["value"], finding["limit"]
    place = ("audit", "verdict", "findings", index)
    if value is not None and finding["question"] in WHO:
        before, after = WHO[finding["question"]]
        return (before, at(f"{100 * value:.0f}", *place, "estimate", "value"), f"{after}{100 * limit:.0f}).")
    if finding["question"] == "deployment" and finding["verdict"] == "pass":
        return ("Conversion and export added less leakage than the margin of ", at(f"{limit:g}", *place, "limit"), ".")
    return (finding["sentence"],)


def size_text(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count >= 2**20 else f"{count / 1024:,.1f} KiB"


def costs(value: dict[str, Any]) -> Iterator[tuple[str, Parts]]:
    """What became of accuracy, size, speed and leakage against the dense model, as (what, sentence)."""
    subjects, bench = value["audit"]["subjects"], value["bench"]
    both = {name: subjects[name] for name in ("artifact", "dense") if name in subjects}
    if "test" in both["artifact"]["accuracy"]:
        shown = [at(f"{s['accuracy']['test']:.1%}", *SUBJECT, n, "accuracy", "test") for n, s in both.items()]
        yield "Accuracy", _against(shown, _points([s["accuracy"]["test"] for s in both.values()]))
    yield "File", _size(bench)
    yield "Speed", _speed(bench)
    yield "Loading", _loading(bench)
    for group, words in GROUPS.items():
        found = {n: best["auc"]["value"] for n, s in both.items() if (best := s["strongest"].get(group))}
        if found and None not in found.values():
            shown = [at(f"{auc:.2f}", *SUBJECT, name, "strongest", group, "auc") for name, auc in found.items()]
            yield "Leakage" if group == "all" else f"  {words}", ("AUC ", *_against(shown, ""))


def _against(shown: list[Cell], change: str) -> Parts:
    """Ours, and in brackets the dense model's where there is one."""
    ours, *dense = shown
    return (ours, f"{change} (dense: ", dense[0], ")") if dense else (ours,)


def _points(shares: list[float]) -> str:
    points = 100 * (shares[0] - shares[-1])
    return f", {abs(points):.1f} points {'higher' if points > 0 else 'lower'}" if abs(points) >= SAME else ""


def _size(bench: dict[str, Any]) -> Parts:
    sizes = [bench[name]["size_bytes"] for name in ("artifact", "baseline") if bench[name]]
    names = ("artifact", "baseline")
    shown = [at(size_text(size), "bench", name, "size_bytes") for name, size in zip(names, sizes, strict=False)]
    ratio_of = max(sizes) / max(min(sizes), 1)
    word = "smaller" if sizes[0] < sizes[-1] else "larger"
    return _against(shown, f", {ratio_of:.1f} times {word}" if sizes[0] != sizes[-1] else "")


def _loading(bench: dict[str, Any]) -> Parts:
    names = [name for name in ("artifact", "baseline") if bench[name]]
    return _against([at(f"{bench[name]['load_ms']:.3g} ms", "bench", name, "load_ms") for name in names], "")


def _speed(bench: dict[str, Any]) -> Parts:
    """Against dense, where that was timed beside it on a machine that had nothing else to do."""
    latency = at(f"{bench['artifact']['latency_ms']['p50']:.3g} ms", "bench", "artifact", "latency_ms", "p50")
    speed = bench["speedup"]
    if not speed:
        return (latency, " an image")
    interval = at(ratio(speed), "bench", "speedup")
    if not bench["valid"]:
        return (at("not known", "bench", "note"), ": the machine was busy")
    if speed["low"] <= 1 <= speed["high"]:
        return ("as fast as dense (", interval, ")")
    if speed["low"] > 1:
        return (f"{_times(speed['value'])} as fast as dense (", interval, ")")
    return (f"takes {_times(1 / speed['value'])} as long as dense (", interval, ")")


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio >= CLEARLY else f"{ratio:.2f} times"
