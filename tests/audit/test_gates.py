"""Gates: every limit, its three outcomes, and a policy file with everything wrong."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobileprune.audit.gates import Gates, from_dict, read, worst
from mobileprune.audit.limits import RULES
from mobileprune.audit.verdict import Policy
from mobileprune.errors import ConfigError


def auc(value: float) -> dict[str, Any]:
    """With an interval of 0.03 below and 0.04 above: that of a difference of two is 0.05 to either side."""
    return {"auc": {"value": value, "low": value - 0.03, "high": value + 0.04, "note": None}}


VALUES: dict[str, Any] = {
    "audit": {
        "effort": {"versions": 0},
        "subjects": {
            "dense": {"accuracy": {"test": 0.9}, "strongest": {"all": auc(0.6), "canaries": auc(0.8)}},
            "artifact": {"accuracy": {"test": 0.88}, "strongest": {"all": auc(0.66), "canaries": auc(0.9)}},
        },
    },
    "manifest": {"size_bytes": 1000, "parity": {"max_difference": 1e-5, "top1_agreement": 0.99}},
    "bench": {
        "artifact": {"size_bytes": 1000, "deflated_bytes": 800, "latency_ms": {"p50": 2.0}},
        "baseline": {"size_bytes": 4000, "deflated_bytes": 3900, "latency_ms": {"p50": 3.0}},
        "speedup": {"value": 1.5, "low": 1.3, "high": 1.7},
        "valid": True,
        "note": "",
    },
}
CASES = {
    "accuracy.min_test": (0.88, 0.8801),
    "accuracy.max_drop": (0.02, 0.0199),
    "added.max_auc": (0.11, 0.0099),
    "added.max_canary_auc": (0.15, 0.0499),
    "size.max_bytes": (1000, 999),
    "size.max_deflated_bytes": (800, 799),
    "size.max_ratio": (0.25, 0.2499),
    "latency.max_p50_ms": (2.0, 1.99),
    "latency.min_speedup": (1.3, 1.71),
    "parity.max_difference": (1e-5, 9e-6),
    "parity.min_top1_agreement": (0.99, 0.991),
}
"""Name -> a limit that is just kept, and one that is just not."""


def outcome(name: str, limit: float, values: dict[str, Any] = VALUES) -> str:
    (gate,) = Gates(limits={name: limit}).check(values)
    assert (gate.name, gate.limit) == (name, limit)
    return gate.outcome


def test_every_rule_has_a_case_and_ends_where_its_limit_is() -> None:
    assert CASES.keys() == RULES.keys()
    for name, (kept, broken) in CASES.items():
        assert outcome(name, kept) == "pass", name
        assert outcome(name, broken) == "fail", name


@settings(max_examples=80)
@given(st.floats(0.1, 5), st.floats(0, 1), st.floats(0, 1), st.floats(0, 8))
@example(1.0, 0.0, 0.0, 1.0)
@example(1.0, 0.5, 0.5, 1.5)
def test_a_speed_up_is_judged_by_its_interval(low: float, below: float, above: float, limit: float) -> None:
    value, high = low + below, low + below + above
    values = copy.deepcopy(VALUES)
    values["bench"]["speedup"] = {"value": value, "low": low, "high": high}
    expected = "pass" if low >= limit else "fail" if high < limit else "inconclusive"
    assert outcome("latency.min_speedup", limit, values) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.0099, "fail"), (0.01, "inconclusive"), (0.1099, "inconclusive"), (0.11, "pass")]
)
def test_what_was_added_is_judged_by_its_interval(limit: float, expected: str) -> None:
    """0.66 [0.63, 0.70] less 0.60 [0.57, 0.64]: 0.06 [0.01, 0.11]."""
    assert outcome("added.max_auc", limit) == expected


def test_what_was_added_is_not_told_where_the_file_alone_was_attacked_with_other_versions() -> None:
    values = {**VALUES, "audit": {**VALUES["audit"], "effort": {"versions": 1}}}
    (gate,) = Gates(limits={"added.max_auc": 1}).check(values)
    assert (gate.outcome, gate.value) == ("inconclusive", None)
    assert "--versions" in gate.sentence


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda subjects: subjects.pop("dense"), "the dense baseline is not in the run store"),
        (lambda subjects: subjects["dense"]["strongest"].pop("canaries"), "there are too few canaries"),
        (
            lambda subjects: subjects["artifact"]["strongest"]["canaries"]["auc"].update(
                value=None, low=None, high=None, note="not resolvable: too few"
            ),
            "not resolvable: too few",
        ),
    ],
)
def test_what_was_added_needs_both_sides(change: Any, why: str) -> None:
    values = copy.deepcopy(VALUES)
    change(values["audit"]["subjects"])
    (gate,) = Gates(limits={"added.max_canary_auc": 1}).check(values)
    assert (gate.outcome, gate.value) == ("inconclusive", None)
    assert gate.sentence.endswith(f": {why}.")


@pytest.mark.parametrize(("members", "expected"), [(0.36, "inconclusive"), (0.43, "inconclusive"), (0.434, "pass")])
def test_nothing_is_held_against_a_baseline_that_guesses(members: float, expected: str) -> None:
    values = copy.deepcopy(VALUES)
    dense = values["audit"]["subjects"]["dense"]
    dense["accuracy"]["members"], dense["most_frequent"] = members, 1 / 3
    against = [name for name in RULES if name.startswith("added.") or name == "accuracy.max_drop"]
    for gate in Gates(limits=dict.fromkeys(against, 0.5)).check(values):
        assert gate.outcome == expected, gate
        if expected == "inconclusive":
            assert gate.value is None
            assert gate.sentence.endswith(
                f": the dense baseline has learned nothing: it is right on {members:.1%} of its members, of whom 33.3% "
                "have the most frequent class."
            )
    assert [gate.outcome for gate in Gates(limits={"accuracy.min_test": 0.5}).check(values)] == ["pass"]


MISSING = {
    "a busy machine": (("latency.max_p50_ms", "latency.min_speedup"), {"valid": False, "note": "others worked"}),
    "no baseline": (("latency.min_speedup", "size.max_ratio"), {"baseline": None, "speedup": None}),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_cannot_be_said_is_inconclusive(case: str) -> None:
    names, changes = MISSING[case]
    values = {**VALUES, "bench": {**VALUES["bench"], **changes}}
    for name in RULES:
        assert outcome(name, CASES[name][0], values) == ("inconclusive" if name in names else "pass"), name


def test_without_the_baseline_it_is_said_to_be_missing() -> None:
    subjects = {"artifact": VALUES["audit"]["subjects"]["artifact"]}
    values = {**VALUES, "audit": {"subjects": subjects}, "bench": {**VALUES["bench"], "baseline": None}}
    against = ("accuracy.max_drop", "added.max_auc", "size.max_ratio", "latency.min_speedup")
    for gate in Gates(limits=dict.fromkeys(against, 0.5)).check(values):
        assert gate.sentence.endswith(": the dense baseline is not in the run store."), gate


def test_what_was_not_measured_is_inconclusive_and_has_no_value() -> None:
    bare = {"audit": {"subjects": {"artifact": {"accuracy": {}}}}}
    for gate in Gates(limits={name: kept for name, (kept, _) in CASES.items()}).check(bare):
        assert (gate.outcome, gate.value) == ("inconclusive", None), gate
        assert gate.sentence.startswith("It cannot be said whether ")
    unbenched = {key: VALUES[key] for key in ("audit", "manifest")}
    for name, rule in RULES.items():
        assert (outcome(name, CASES[name][0], unbenched) == "inconclusive") == rule.bench, name
        assert Gates(limits={name: 0.5}).needs_bench == rule.bench


def test_one_limit_over_a_benchmark_is_enough_to_need_it() -> None:
    assert Gates(limits={"size.max_bytes": 5, "latency.max_p50_ms": 5}).needs_bench
    assert not Gates(limits={"size.max_bytes": 5, "accuracy.min_test": 0.5}).needs_bench
    assert not Gates().needs_bench


def test_a_sentence_says_what_was_found_and_what_was_asked() -> None:
    limits = {"size.max_bytes": 1234567.0, "latency.min_speedup": 1.5}
    size, speed = Gates(limits=limits).check({**VALUES, "manifest": {"size_bytes": 7654321}})
    assert size.sentence == "File size in bytes is 7,654,321, must be at most 1,234,567."
    assert speed.sentence == "Speed-up over the dense baseline is 1.5 [1.3, 1.7], must be at least 1.5."
    assert (size.outcome, speed.outcome) == ("fail", "inconclusive")
    added = Gates(limits={"added.max_auc": 0.1, "added.max_canary_auc": 0.1}).check(VALUES)
    assert [gate.sentence for gate in added] == [
        "AUC over all members, above that of the dense baseline, is 0.060 [0.010, 0.110], must be at most 0.100.",
        "AUC over canaries, above that of the dense baseline, is 0.100 [0.050, 0.150], must be at most 0.100.",
    ]


def test_the_worst_outcome_counts() -> None:
    assert worst([]) == worst(["pass"]) == "pass"
    assert worst(["pass", "inconclusive", "pass"]) == "inconclusive"
    assert worst(["fail", "inconclusive"]) == "fail"


def test_a_policy_file(tmp_path: Any) -> None:
    text = "[leakage]\nmax_auc = 0.7\nalpha = 0.01\n[size]\nmax_bytes = 5\n[accuracy]\n"
    (tmp_path / "p.toml").write_text(text)
    gates = read(tmp_path / "p.toml", alpha=0.1)
    assert gates == Gates(Policy(max_auc=0.7, alpha=0.1), {"size.max_bytes": 5})
    assert from_dict({}) == Gates()
    assert from_dict({"leakage": asdict(Policy())}) == Gates()


def test_every_problem_of_a_policy_file_at_once(tmp_path: Any) -> None:
    (tmp_path / "p.toml").write_text(
        "top = 1\n[leakage]\nmax_auc = 0.2\nmax_auk = 1\n[size]\nmax_byte = 1\nmax_bytes = -1\nmax_ratio = inf\n"
        '[latncy]\nmax_p50_ms = 3\n[accuracy]\nmin_test = 1.5\nmax_drop = "2%"\n[parity]\nmax_difference = true\n'
    )
    with pytest.raises(ConfigError) as info:
        read(tmp_path / "p.toml")
    expected = [
        "unknown section 'top'",
        "max_auc must lie in 0.5..1, got 0.2",
        "unknown limit 'leakage.max_auk': did you mean 'leakage.max_auc'",
        "unknown limit 'size.max_byte': did you mean 'size.max_bytes'",
        "size.max_bytes must be finite and at least 0, got -1",
        "size.max_ratio must be finite and at least 0, got inf",
        "unknown section 'latncy': did you mean 'latency'",
        r"accuracy.min_test must be in \[0, 1\], got 1.5",
        "accuracy.max_drop: '2%' is not a number",
        "parity.max_difference: True is not a number",
    ]
    assert len(info.value.problems) == len(expected)
    for words in expected:
        assert any(re.search(words, problem) for problem in info.value.problems), words
    assert all(problem.startswith(f"--policy {tmp_path / 'p.toml'}: ") for problem in info.value.problems)


@pytest.mark.parametrize("content", [b"[leakage\n", b"\xff", b"a = " + b"[" * 5000, b"#" * (2**20 + 1), None])
def test_files_that_are_no_policy(tmp_path: Any, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "p.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"--policy .*p\.toml: "):
        read(tmp_path / "p.toml")


def test_limits_made_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown limit 'max_bytes': did you mean 'size\.max_bytes'"):
        Gates(limits={"max_bytes": 1})
    with pytest.raises(ConfigError, match="must be finite and at least 0, got nan"):
        Gates(limits={"size.max_bytes": float("nan")})
    with pytest.raises(ConfigError, match=r"must be finite and at least 0, got 10{39}$"):
        Gates(limits={"size.max_bytes": 10**400})
    with pytest.raises(ConfigError, match=r"must be in \[0, 1\], got 10{39}$"):
        Gates(limits={"accuracy.min_test": 10**400})


def test_a_limit_may_be_all_that_there_is() -> None:
    for name, rule in RULES.items():
        assert outcome(name, 0.0) in ("pass", "fail")
        if rule.largest == 1:
            assert outcome(name, 1.0) in ("pass", "fail")
            with pytest.raises(ConfigError, match=r"must be in \[0, 1\]"):
                Gates(limits={name: 1.001})


def test_a_gate_states_the_number_that_was_held_against_it() -> None:
    found = {gate.name: gate.value for gate in Gates(limits=dict.fromkeys(RULES, 0.5)).check(VALUES)}
    assert found == {
        "accuracy.min_test": 0.88,
        "accuracy.max_drop": 0.02,
        "added.max_auc": 0.06,
        "added.max_canary_auc": 0.1,
        "size.max_bytes": 1000,
        "size.max_deflated_bytes": 800,
        "size.max_ratio": 0.25,
        "latency.max_p50_ms": 2.0,
        "latency.min_speedup": 1.5,
        "parity.max_difference": 1e-5,
        "parity.min_top1_agreement": 0.99,
    }


def test_a_policy_file_may_be_as_large_as_said_and_have_any_letters(tmp_path: Any) -> None:
    text = "# Größe\n[size]\nmax_bytes = 5\n#"
    (tmp_path / "p.toml").write_text(text + "." * (2**20 - len(text.encode())), encoding="utf-8")
    assert (tmp_path / "p.toml").stat().st_size == 2**20
    assert read(tmp_path / "p.toml").limits == {"size.max_bytes": 5}


def test_a_number_where_a_section_should_be_is_called_so() -> None:
    with pytest.raises(ConfigError) as info:
        from_dict({"size": 3, "sise": 3})
    assert info.value.problems[0] == "size must be a section with its limits, got 3"
    assert "unknown section 'sise': did you mean 'size'" in info.value.problems[1]
