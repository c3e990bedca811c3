"""Verdicts: calibrated without a leak, find a planted one, and answer each question by its rule."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mobileprune.attacks import ATTACKS, Evidence, Outputs, Scores, score
from mobileprune.audit.compare import Comparison, against_ceiling, measure
from mobileprune.audit.more import more_needed
from mobileprune.audit.power import power_of
from mobileprune.audit.statistics import Estimate
from mobileprune.audit.verdict import CAVEAT, EXIT_CODES, Policy, Verdict, _decide
from mobileprune.audit.verdict import judge as judge_scores
from mobileprune.errors import ConfigError, DataError


def outputs(
    m: int, n: int, *, leak: float = 0.0, canaries: int = 0, canary_leak: float = 0.0, seed: int = 0
) -> Outputs:
    """Noisy logits of 4 classes; the true class gains 1, and ``leak`` more on members."""
    rng = np.random.default_rng(seed)
    sides = []
    for size, gain, canary_gain in ((m, leak, canary_leak), (n, 0.0, 0.0)):
        labels, groups = rng.integers(4, size=size), np.arange(size) < canaries
        logits = rng.normal(0, 1, (size, 4))
        logits[np.arange(size), labels] += 1 + gain + canary_gain * groups
        sides.append((logits, labels, groups))
    logits, labels, canary = map(np.concatenate, zip(*sides, strict=True))
    return Outputs(Evidence(logits, labels), np.arange(m + n) < m, canary)


def scores(found: Outputs) -> Scores:
    return score(found, ATTACKS)


def judge(artifact: Outputs, source: Outputs | None, policy: Policy) -> Verdict:
    return judge_scores(scores(artifact), source and scores(source), policy)


def changed(source: Outputs, change: np.ndarray) -> Outputs:
    """``change`` (N, 4) added to the logits."""
    return replace(source, evidence=replace(source.evidence, logits=source.evidence.logits + change))


def with_margin(source: Outputs, margin: float) -> Outputs:
    """An export whose outputs favour the true class of members."""
    return changed(source, margin * np.outer(source.member, np.ones(4)) * np.eye(4)[source.evidence.labels])


def by_question(verdict) -> dict:
    return {finding.question: finding for finding in verdict.findings}


def test_without_a_leak_a_fail_is_as_rare_as_stated() -> None:
    policy = Policy(max_auc=0.5)
    fails = sum(
        by_question(judge(outputs(60, 60, seed=seed), None, policy))["ceiling"].verdict == "fail" for seed in range(200)
    )
    assert fails <= 17  # at most 10 expected, standard deviation 3.1


def test_at_the_limit_a_pass_is_as_rare_as_stated() -> None:
    passes = 0
    truth = float(
        np.mean(
            [
                c.estimate.value
                for c in against_ceiling(scores(outputs(9000, 9000, leak=0.6)), "all", limit=0.6, alpha=0.05)
                if c.attack == "loss"
            ]
        )
    )
    for seed in range(200):
        verdict = judge(outputs(60, 60, leak=0.6, seed=1000 + seed), None, Policy(max_auc=truth))
        passes += by_question(verdict)["ceiling"].verdict == "pass"
    assert passes <= 17


def test_a_planted_leak_is_found_and_its_absence_passes() -> None:
    leaky = judge(outputs(400, 400, leak=1.5), None, Policy())
    assert by_question(leaky)["ceiling"].verdict == "fail"
    assert (leaky.overall, leaky.exit_code) == ("fail", 3)
    assert by_question(judge(outputs(800, 800), None, Policy()))["ceiling"].verdict == "pass"


def test_scores_that_rank_members_last_are_a_leak_too() -> None:
    backwards = judge(outputs(400, 400, leak=-1.5), None, Policy())
    found = by_question(backwards)["ceiling"]
    assert (found.verdict, found.attack) == ("fail", "reversed loss")
    assert found.estimate.value > 0.6


def test_a_leak_of_canaries_only_is_found() -> None:
    found = by_question(judge(outputs(1200, 1200, canaries=80, canary_leak=3.0), None, Policy()))
    assert found["ceiling"].verdict == "pass"
    assert found["canary_ceiling"].verdict == "fail"
    assert found["canary_ceiling"].group == "canaries"


def test_a_small_sample_is_inconclusive() -> None:
    verdict = judge(outputs(20, 20), outputs(20, 20), Policy())
    assert (verdict.overall, verdict.exit_code) == ("inconclusive", 4)
    assert by_question(verdict)["deployment"].verdict == "pass"
    assert verdict.power["all"].smallest_auc > 0.7


def test_identical_outputs_pass_deployment() -> None:
    source = outputs(500, 500, leak=0.3, canaries=20)
    finding = by_question(judge(source, source, Policy()))["deployment"]
    assert finding.verdict == "pass"
    assert finding.bounds == (0.0, 0.0)
    assert finding.sentence.startswith(
        "Leakage added by conversion and export is below the limit in every attack tried"
    )


def test_a_neutral_export_passes_deployment() -> None:
    source, rng = outputs(900, 900, leak=0.3, canaries=60), np.random.default_rng(1)
    noisy = changed(source, rng.normal(0, 5e-7, (1800, 4)))
    assert by_question(judge(noisy, source, Policy()))["deployment"].verdict == "pass"


def test_an_export_that_favours_members_fails_deployment() -> None:
    source = outputs(500, 500)
    finding = by_question(judge(with_margin(source, 0.5), source, Policy()))["deployment"]
    assert finding.verdict == "fail"
    assert finding.estimate.low > finding.limit
    assert by_question(judge(source, with_margin(source, 0.5), Policy()))["deployment"].verdict == "pass"


def test_a_leak_on_canaries_alone_fails_deployment() -> None:
    source = outputs(500, 500, canaries=50)
    leak = 4 * np.eye(4)[source.evidence.labels]
    leak[50:] = 0
    finding = by_question(judge(changed(source, leak), source, Policy()))["deployment"]
    assert finding.verdict == "fail"
    assert finding.group == "canaries"


def test_without_the_source_deployment_stays_open() -> None:
    finding = by_question(judge(outputs(300, 300), None, Policy()))["deployment"]
    assert finding.verdict == "inconclusive"
    assert finding.estimate.value is None
    assert "source was not available" in finding.estimate.note
    assert "source was not available" in finding.sentence


def test_other_examples_are_refused() -> None:
    with pytest.raises(DataError, match="labels differ"):
        judge(outputs(50, 50), outputs(50, 50, seed=1), Policy())


@pytest.mark.parametrize(
    ("intervals", "expected", "attack"),
    [
        ([(0.50, 0.55), (0.51, 0.59)], "pass", "1"),
        ([(0.50, 0.55), (0.51, 0.60)], "inconclusive", "1"),
        ([(0.60, 0.70), (0.51, 0.59)], "inconclusive", "0"),
        ([(0.61, 0.70), (0.51, 0.90)], "fail", "0"),
        ([(None, None), (0.51, 0.59)], "inconclusive", "0"),
        ([(None, None), (0.61, 0.70)], "fail", "1"),
    ],
)
def test_the_rule(intervals: list, expected: str, attack: str) -> None:
    compared = [
        Comparison(str(i), "all", "auc", Estimate(low, low, high, 0.9, "test"), 0.6)
        for i, (low, high) in enumerate(intervals)
    ]
    finding = _decide("ceiling", compared)
    assert (finding.verdict, finding.attack) == (expected, attack)
    lacks_only_examples = expected == "inconclusive" and None not in finding.bounds
    assert finding.more == (more_needed(compared) if lacks_only_examples else None)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (1, 1), (2, 3), (13, 200)])
@pytest.mark.parametrize("canaries", [0, 1, 2])
def test_everything_is_plain_json_at_any_size(sizes: tuple[int, int], canaries: int) -> None:
    found = outputs(*sizes, canaries=canaries)
    verdict = judge(found, with_margin(found, 0.1), Policy())
    text = json.dumps(verdict.to_dict(), allow_nan=False)
    assert json.loads(text)["caveat"] == CAVEAT
    measured = {g: {a: m.to_dict() for a, m in attacks.items()} for g, attacks in measure(scores(found)).items()}
    json.dumps(measured, allow_nan=False)
    assert all(list(attacks) == list(scores(found).by_attack) for attacks in measured.values())
    assert EXIT_CODES == {"pass": 0, "fail": 3, "inconclusive": 4}


def test_measure_reports_the_groups() -> None:
    measured = measure(scores(outputs(150, 120, canaries=30)))
    assert list(measured) == ["all", "canaries"]
    loss = measured["all"]["loss"]
    assert (loss.members, loss.nonmembers, loss.access) == (150, 120, "top-k")
    assert loss.tpr_at_1pct_fpr.value is not None
    assert loss.tpr_at_01pct_fpr.value is None
    assert "per class" in measured["all"]["modified_entropy"].balanced_accuracy.method
    assert measured["canaries"]["gap"].members == 30


def test_policy_lists_all_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        Policy(max_auc=0.4, max_canary_auc=float("nan"), auc_margin=0.0, tpr_margin=2.0, alpha=0.5)
    assert len(caught.value.problems) == 5


def test_a_model_that_was_not_deployed_by_us_is_not_asked_what_deployment_added() -> None:
    found = scores(outputs(60, 60))
    assert [f.question for f in judge_scores(found, None, Policy(), deployed=False).findings] == ["ceiling"]
    assert [f.question for f in judge_scores(found, None, Policy()).findings] == ["deployment", "ceiling"]
    with_source = judge_scores(found, found, Policy(), deployed=False)
    assert [f.question for f in with_source.findings] == ["deployment", "ceiling"]


def test_too_few_canaries_leave_their_ceiling_open() -> None:
    policy = Policy(max_canary_auc=0.7)
    assert "canary_ceiling" not in by_question(judge(outputs(60, 60), None, policy))
    finding = by_question(judge(outputs(60, 60, canaries=1), None, policy))["canary_ceiling"]
    assert (finding.verdict, finding.group, finding.limit, finding.attack) == ("inconclusive", "canaries", 0.7, None)
    assert "fewer than 2 canaries among the members or the non-members" in finding.sentence
    assert (finding.estimate.method, finding.estimate.confidence) == ("none", 0.0)
    assert finding.estimate.note == "not resolvable: fewer than 2 canaries among the members or the non-members"


def test_each_question_has_its_own_limit_of_the_policy() -> None:
    policy = Policy(max_auc=0.7, max_canary_auc=0.8, auc_margin=0.03, tpr_margin=0.04)
    source = outputs(400, 400, canaries=150)
    found = by_question(judge(source, source, policy))
    assert {question: (f.limit, f.group) for question, f in found.items()} == {
        "deployment": (0.03, "all"),
        "ceiling": (0.7, "all"),
        "canary_ceiling": (0.8, "canaries"),
    }
    assert by_question(judge(source, None, policy))["deployment"].limit == 0.03
    raised = by_question(judge(with_margin(source, 4.0), source, replace(policy, auc_margin=0.99)))["deployment"]
    assert (raised.metric, raised.limit) == ("tpr_at_1pct_fpr", 0.04)
    assert "TPR at 1% FPR of" in raised.sentence


def test_where_membership_is_unsure_nothing_passes_and_what_fails_still_fails() -> None:
    for leak in (0.0, 2.0):
        source = scores(outputs(900, 900, leak=leak))
        sure = by_question(judge_scores(source, source, Policy()))
        unsure = by_question(judge_scores(source, source, Policy(), unsure="nobody wrote it down"))
        assert (sure["deployment"].verdict, unsure["deployment"].verdict) == ("pass", "inconclusive")
        ceiling = unsure["ceiling"]
        assert (sure["ceiling"].verdict, ceiling.verdict) == (("fail",) * 2 if leak else ("pass", "inconclusive"))
        assert leak or (ceiling.limit, ceiling.group, ceiling.estimate.value) == (0.6, "all", None)
        assert leak or ceiling.sentence.endswith("keeps to the limit 0.600: nobody wrote it down.")


def test_the_sentence_gives_the_reasons_of_the_outcome_and_no_others() -> None:
    source = outputs(400, 400, leak=1.5)
    verdict = judge(source, source, Policy())
    passed, failed = verdict.findings
    assert (passed.verdict, failed.verdict) == ("pass", "fail")
    assert verdict.sentence == f"Fail. {failed.sentence}"
    shown = failed.estimate
    assert failed.sentence == (
        f"Leakage over all members is above the limit (lower bound {shown.low:.3f} > 0.600: "
        f"AUC of {failed.attack}, all)."
    )
    assert (failed.metric, failed.bounds) == ("auc", (shown.low, shown.high))
    two = judge(source, None, Policy(max_auc=0.99))
    assert two.sentence == f"Inconclusive. {two.findings[0].sentence}"


def test_what_decided_is_shown_even_where_it_is_not_resolvable() -> None:
    unknown = Estimate(None, None, None, 0.9, "test", "not resolvable: too few")
    compared = [Comparison("a", "canaries", "tpr_at_1pct_fpr", unknown, 0.3)]
    finding = _decide("deployment", compared)
    assert (finding.estimate, finding.attack, finding.group) == (unknown, "a", "canaries")
    assert (finding.metric, finding.limit, finding.verdict) == ("tpr_at_1pct_fpr", 0.3, "inconclusive")
    assert finding.sentence.endswith(
        "leakage added by conversion and export keeps to the limit 0.300: not resolvable: too few."
    )


def test_the_power_is_that_of_each_group() -> None:
    found = scores(outputs(300, 300, canaries=40))
    policy = Policy(alpha=0.02, auc_margin=0.07)
    verdict = judge_scores(found, None, policy)
    assert verdict.power == {
        group: power_of(part, auc_margin=0.07, alpha=0.02) for group, part in found.groups().items()
    }
    assert (verdict.policy, verdict.caveat) == (policy, CAVEAT)
    assert verdict.to_dict()["power"]["canaries"] == verdict.power["canaries"].to_dict()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        *((name, (0.5, 1.0), (0.49, 1.01)) for name in ("max_auc", "max_canary_auc")),
        *((name, (0.001, 0.999), (0.0, 1.0, -0.1, 1.5)) for name in ("auc_margin", "tpr_margin")),
        ("alpha", (0.001, 0.499), (0.0, 0.5, -0.1)),
    ],
)
def test_a_policy_may_go_as_far_as_it_says(name: str, good: tuple[float, ...], bad: tuple[float, ...]) -> None:
    for value in good:
        assert getattr(Policy(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ConfigError, match=f"{name} must lie"):
            Policy(**{name: value})
