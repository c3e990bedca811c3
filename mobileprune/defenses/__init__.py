"""Defences against membership inference by name: ``DEFENSES``. They plug into the one training loop.

A specification joins names with ``+`` and gives a strength after ``:``, as in ``minmax:1+early-stopping``. Each
defence works in the stages that it names: "training" of the dense model, "pruning" (ADMM, gradual), "retraining".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from mobileprune.defenses.distill import distilled
from mobileprune.defenses.dpsgd import DpSgd
from mobileprune.defenses.early_stopping import EarlyStopping
from mobileprune.defenses.minmax import MinMax
from mobileprune.defenses.ppb import Ppb
from mobileprune.defenses.smoothing import ConfidencePenalty, LabelSmoothing, RelaxLoss
from mobileprune.errors import ConfigError, UsageError, unknown
from mobileprune.training import Examples, Hook

NONE = "none"
ALWAYS = ("training", "pruning", "retraining")
AFTER_PRUNING = ("training", "retraining")
NOT_DENSE = ("pruning", "retraining")


@dataclass(frozen=True)
class Situation:
    """What a defence may use. ``dense``: the model before pruning, None while that is being trained.

    ``crossfitted``: gives the members with labels from models that have not seen them, by the number of folds.
    """

    members: Examples
    reference: Examples
    num_classes: int
    seed: int
    dense: nn.Module | None = None
    crossfitted: Callable[[int], Examples] | None = None


@dataclass(frozen=True)
class Defense:
    """``strength``: its name and default; ``low`` and ``high`` bound it. One of ``hook`` and ``material`` is given.

    ``hook``: joins the loop. ``material``: what is trained on in place of the members.
    """

    strength: str
    default: float
    low: float
    high: float
    stages: tuple[str, ...] = ALWAYS
    hook: Callable[[Situation, float], Hook] | None = None
    material: Callable[[Situation, float], Examples] | None = None


@dataclass(frozen=True)
class Plan:
    """``examples`` to train on, with ``hooks``."""

    examples: Examples
    hooks: Sequence[Hook]


DEFENSES: dict[str, Defense] = {
    "minmax": Defense(
        "lambda", 1.0, 0.0, 1000.0, hook=lambda s, x: MinMax(s.members, s.reference, s.num_classes, lam=x, seed=s.seed)
    ),
    "ppb": Defense("alpha", 4.0, 0.0, 1000.0, hook=lambda s, x: Ppb(x)),
    "early-stopping": Defense(
        "patience in epochs", 5.0, 1.0, 1e4, AFTER_PRUNING, hook=lambda s, x: EarlyStopping(s.reference, round(x))
    ),
    "label-smoothing": Defense("share", 0.1, 0.0, 1.0, hook=lambda s, x: LabelSmoothing(x)),
    "confidence-penalty": Defense("beta", 0.1, 0.0, 1000.0, hook=lambda s, x: ConfidencePenalty(x)),
    "relaxloss": Defense("level", 1.0, 0.0, 100.0, hook=lambda s, x: RelaxLoss(x)),
    "dpsgd": Defense("epsilon", 8.0, 0.01, 1e4, ("training",), hook=lambda s, x: DpSgd(x)),
    "distill": Defense(
        "temperature", 1.0, 0.05, 100.0, NOT_DENSE, material=lambda s, x: distilled(s.dense, s.reference, x)
    ),
    "crossfit": Defense("number of folds", 5.0, 2.0, 100.0, material=lambda s, x: _crossfitted(s, round(x))),
}
"""What each does stands in its module; ``crossfit`` is in mobileprune.pipeline, because it trains models."""

NEED_LABELS = {"minmax", "relaxloss", "dpsgd"}
"""Defences that look at the label of each example."""


def parse(spec: str) -> dict[str, float]:
    """``"minmax:1+ppb"`` -> {"minmax": 1.0, "ppb": 4.0}; UsageError for what is unknown or out of range."""
    found: dict[str, float] = {}
    for part in spec.split("+") if spec != NONE else []:
        name, colon, text = part.partition(":")
        if name not in DEFENSES:
            raise unknown("defence", name, [NONE, *DEFENSES])
        defense = DEFENSES[name]
        try:
            strength = float(text) if colon else defense.default
        except ValueError:
            strength = float("nan")
        if not defense.low <= strength <= defense.high:
            raise ConfigError(
                [f"defence {part!r}: the {defense.strength} must be a number in [{defense.low:g}, {defense.high:g}]"]
            )
        if name in found:
            raise UsageError(f"defence {spec!r} names {name} twice")
        found[name] = strength
    return found


def _crossfitted(situation: Situation, folds: int) -> Examples:
    if situation.crossfitted is None:
        raise UsageError("crossfit needs a way to train other models; use it through train, prune or export")
    return situation.crossfitted(folds)


def defend(spec: str, stage: str, situation: Situation) -> Plan:
    """The defences of ``spec`` that work in ``stage``."""
    chosen = {name: strength for name, strength in parse(spec).items() if stage in DEFENSES[name].stages}
    hooks = [hook(situation, x) for name, x in chosen.items() if (hook := DEFENSES[name].hook)]
    other = [material(situation, x) for name, x in chosen.items() if (material := DEFENSES[name].material)]
    return Plan(other[0] if other else situation.members, hooks)


def check(spec: str, stages: Sequence[str], option: str) -> None:
    """UsageError unless every defence of ``spec`` can work in one of ``stages`` and they suit each other."""
    chosen = parse(spec)
    for name in chosen:
        if not set(DEFENSES[name].stages) & set(stages):
            works, there = " and ".join(DEFENSES[name].stages), " and ".join(stages) or "no training"
            raise UsageError(f"{option} {name} works during {works}, but here is {there}; leave it out")
    replacing = [name for name in chosen if DEFENSES[name].material]
    if len(replacing) > 1 or (replacing and set(chosen) & NEED_LABELS):
        raise UsageError(f"{option} {spec!r}: {replacing[0]} trains on other labels than the members'; drop one")
    if "dpsgd" in chosen and len(chosen) > 1:
        raise UsageError(f"{option} {spec!r}: what else the objective depends on would escape dpsgd's noise; drop one")
