"""Specifications of defences: what they mean, what is refused, and in which stage each one works."""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mobileprune
from mobileprune.defenses import DEFENSES, Situation, check, defend, parse
from mobileprune.defenses.dpsgd import DpSgd
from mobileprune.defenses.early_stopping import EarlyStopping
from mobileprune.defenses.minmax import MinMax
from mobileprune.defenses.ppb import Ppb
from mobileprune.defenses.smoothing import ConfidencePenalty, LabelSmoothing, RelaxLoss
from mobileprune.errors import ConfigError, UsageError
from mobileprune.training import Examples

HOOKS = {
    "minmax": MinMax,
    "dpsgd": DpSgd,
    "ppb": Ppb,
    "early-stopping": EarlyStopping,
    "label-smoothing": LabelSmoothing,
    "confidence-penalty": ConfidencePenalty,
    "relaxloss": RelaxLoss,
}
PACKAGE = Path(mobileprune.__file__).parent
STAGES = ("training", "pruning", "retraining")


def situation() -> Situation:
    members, reference = (Examples(torch.full((4, 2), value), torch.arange(4) % 2) for value in (1.0, 2.0))
    return Situation(members, reference, 2, 0, nn.Linear(2, 2))


def test_a_name_alone_has_the_default_strength() -> None:
    assert parse("none") == {}
    for name, defense in DEFENSES.items():
        assert parse(name) == {name: defense.default}
        assert defense.low <= defense.default <= defense.high
    assert parse("minmax:1+ppb") == {"minmax": 1.0, "ppb": 4.0}


chosen = st.dictionaries(st.sampled_from(sorted(DEFENSES)), st.floats(0, 1), max_size=4)


@settings(max_examples=100)
@given(chosen)
def test_what_is_written_is_what_is_read(shares: dict[str, float]) -> None:
    strengths = {n: DEFENSES[n].low + share * (DEFENSES[n].high - DEFENSES[n].low) for n, share in shares.items()}
    assert parse("+".join(f"{name}:{x!r}" for name, x in strengths.items()) or "none") == strengths


@pytest.mark.parametrize("name", DEFENSES)
def test_both_bounds_are_allowed_and_nothing_beyond(name: str) -> None:
    defense = DEFENSES[name]
    assert parse(f"{name}:{defense.low!r}+{'ppb' if name != 'ppb' else 'minmax'}")[name] == defense.low
    assert parse(f"{name}:{defense.high!r}") == {name: defense.high}
    for wrong in (defense.low - 1e-6, defense.high * 1.001, "nan", "inf", "-inf", "", "x", "1:2", "1,5"):
        with pytest.raises(ConfigError) as refused:
            parse(f"{name}:{wrong}")
        rule = f"the {defense.strength} must be a number in [{defense.low:g}, {defense.high:g}]"
        assert str(refused.value) == f"defence '{name}:{wrong}': {rule}"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("minmx:1", "unknown defence 'minmx': did you mean 'minmax'? choose from "),
        ("", "unknown defence ''"),
        ("ppb+", "unknown defence ''"),
        ("none+ppb", "unknown defence 'none'"),
        ("ppb, minmax", "unknown defence 'ppb, minmax'"),
        ("ppb:1+minmax+ppb:1", "names ppb twice"),
    ],
)
def test_other_specifications_are_refused(spec: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(spec)
    assert words in str(refused.value)
    if "choose" in str(refused.value):
        assert all(name in str(refused.value) for name in ["none", *DEFENSES])


@pytest.mark.parametrize("name", DEFENSES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_defence_works_in_the_stages_that_it_names_and_no_others(name: str, stage: str) -> None:
    if name == "dpsgd":
        pytest.importorskip("opacus", reason="the extra dp is not installed")
    given = situation()
    labelled = Examples(given.members.x, torch.tensor([[0.5, 0.5]] * 4))
    plan = defend(name, stage, replace(given, crossfitted=lambda folds: labelled))
    works = stage in DEFENSES[name].stages
    assert [type(hook) for hook in plan.hooks] == ([HOOKS[name]] if works and name in HOOKS else [])
    if name in HOOKS or not works:
        assert plan.examples is given.members
    assert set(DEFENSES[name].stages) <= set(STAGES)


def test_every_defence_is_a_hook_or_material() -> None:
    for name, defense in DEFENSES.items():
        assert (defense.hook is None) != (defense.material is None), name
        assert defense.strength, name
        assert defense.stages, name


def test_strengths_and_data_reach_the_hooks_in_the_order_of_the_specification() -> None:
    given = situation()
    spec = "relaxloss:0.3+minmax:2+ppb:5+early-stopping:7+label-smoothing:0.2+confidence-penalty:0.4"
    relax, game, ppb, stop, smooth, penalty = defend(spec, "training", given).hooks
    assert (relax.level, game.lam, ppb.alpha, stop.patience, smooth.share, penalty.beta) == (0.3, 2, 5, 7, 0.2, 0.4)
    assert (game.members, game.reference, stop.reference) == (given.members, given.reference, given.reference)


def test_material_takes_the_place_of_the_members() -> None:
    given = situation()
    plan = defend("distill+ppb", "retraining", given)
    assert plan.examples.x is given.reference.x
    assert [type(hook) for hook in plan.hooks] == [Ppb]
    asked = []
    made = replace(given, crossfitted=lambda folds: asked.append(folds) or given.reference)
    assert defend("crossfit:4", "training", made).examples is given.reference
    assert asked == [4]
    with pytest.raises(UsageError, match="crossfit needs a way to train other models"):
        defend("crossfit", "training", given)


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defence_without_a_stage_to_work_in_is_refused(name: str) -> None:
    check(name, STAGES, "--defense")
    others = [stage for stage in STAGES if stage not in DEFENSES[name].stages]
    works = " and ".join(DEFENSES[name].stages)
    for stages in (others, []):
        there = " and ".join(stages) or "no training"
        if set(stages) == set(STAGES):
            continue
        with pytest.raises(UsageError) as refused:
            check(name, stages, "--defense")
        assert str(refused.value) == f"--defense {name} works during {works}, but here is {there}; leave it out"


@pytest.mark.parametrize(
    ("spec", "stages"),
    [
        ("none", []),
        ("early-stopping", ["pruning", "retraining"]),
        ("minmax+ppb+label-smoothing+confidence-penalty+relaxloss", ["training"]),
        ("distill+ppb+early-stopping", ["retraining"]),
        ("crossfit:3+ppb", ["training"]),
    ],
)
def test_what_suits_each_other_is_allowed(spec: str, stages: list[str]) -> None:
    check(spec, stages, "--defense")


@pytest.mark.parametrize("other", ["minmax", "relaxloss", "crossfit"])
def test_distill_never_meets_a_member_so_what_needs_them_is_refused(other: str) -> None:
    for spec in (f"distill+{other}", f"{other}:2+ppb+distill:2"):
        with pytest.raises(UsageError, match="trains on other labels than the members'; drop one"):
            check(spec, STAGES, "--defense")


@pytest.mark.parametrize("other", sorted(set(DEFENSES) - {"dpsgd"}))
def test_dpsgd_stands_alone(other: str) -> None:
    with pytest.raises(UsageError, match="drop one"):
        check(f"{other}+dpsgd:3", STAGES, "--train-defense")


def test_without_opacus_dpsgd_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(UsageError, match=r"dpsgd needs Opacus: pip install 'mobileprune\[dp\]'") as refused:
        defend("dpsgd", "training", situation())
    assert refused.value.exit_code == 2


def test_every_extra_that_a_message_names_exists() -> None:
    named = {
        extra for file in PACKAGE.rglob("*.py") for extra in re.findall(r"'mobileprune\[(\w+)\]'", file.read_text())
    }
    values = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    assert {"dp"} <= named <= values["project"]["optional-dependencies"].keys()
