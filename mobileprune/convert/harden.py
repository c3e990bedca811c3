"""Outputs that say less: a last layer of the graph between the logits and whoever asks (``HARDENINGS``).

A head maps logits z (N, K) float32 to scores (N, K) float32 whose softmax is the hardened probability vector:
runtimes, attacks and apps treat hardened and plain outputs alike. With p = softmax(z) and label t = argmax z:

    temperature:T   softmax(z / T)
    round:D         p rounded to D decimals, half to even; where the label would not be the one largest value, it
                    gets the largest plus one step of 10^-D (so no row is all zero); scaled to sum to 1
    topk:k          p_j for the k largest, the mean of the others for each of them; classes that tie with the
                    (k+1)-th largest count among the others, the label never
    label-only      1 at the label, 0 elsewhere

A probability of 0 appears as :data:`ZERO`. Of equal logits argmax takes the first, and the scores have the same
argmax as the logits, always: rounding must not change what an app shows. Scores depend on the logits through p alone:
a constant added to all logits, which softmax hides, stays hidden.

It is a layer, not a lock: whoever holds the file can cut it off and has the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError, unknown

NONE = "none"
ZERO = 1e-12
"""The mass of a probability that is 0, before scaling: its logarithm has to be finite."""
GAP = 1e-6
"""How far the label's score lies above the common score of ``topk`` at least."""


class Head(nn.Module):
    """Logits (N, K) -> scores (N, K); ``value`` is the number behind the colon."""

    steps: ClassVar[bool] = True
    """Whether scores jump at certain logits."""
    classes: Tensor

    def __init__(self, num_classes: int, value: float) -> None:
        super().__init__()
        self.num_classes, self.value = num_classes, value
        self.register_buffer("classes", torch.arange(num_classes))

    def is_label(self, logits: Tensor) -> Tensor:
        """(N, K) bool, True at the first of the largest logits."""
        return self.classes == logits.argmax(dim=1, keepdim=True)


class Temperature(Head):
    steps = False

    def forward(self, logits: Tensor) -> Tensor:
        # The maximum is taken off first: the division could make neighbouring numbers equal, and so the label another.
        return (logits - logits.amax(dim=1, keepdim=True)) / self.value


class Round(Head):
    def forward(self, logits: Tensor) -> Tensor:
        is_label, most = self.is_label(logits), 10.0**self.value
        steps = torch.round(torch.softmax(logits, dim=1) * most)  # whole numbers up to 10^6, exact in float32
        others = torch.where(is_label, -1.0, steps).amax(dim=1, keepdim=True)
        steps = torch.where(is_label, torch.maximum(steps, others + 1), steps)
        return torch.log((steps / most).clamp(min=ZERO))


class TopK(Head):
    """The common score is ref + log mean exp(z - ref) over the others, ref their largest: it cannot underflow."""

    def forward(self, logits: Tensor) -> Tensor:
        z = logits - logits.amax(dim=1, keepdim=True)
        ref = z.topk(int(self.value) + 1, dim=1).values[:, -1:]
        kept = (z > ref) | self.is_label(logits)
        mass = torch.where(kept, 0.0, torch.exp(z - ref)).sum(dim=1, keepdim=True)
        count = torch.where(kept, 0.0, 1.0).sum(dim=1, keepdim=True)
        common = (ref + torch.log(mass / count)).clamp(max=-GAP)
        return torch.where(kept, z, common)


class LabelOnly(Head):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.where(self.is_label(logits), 0.0, math.log(ZERO))


@dataclass(frozen=True)
class Hardening:
    """A kind of hardening: its head and the number in [low, high] that it takes, if any; audits show the ``caveat``."""

    head: type[Head]
    number: Callable[[str], float] | None
    low: float
    high: float
    caveat: str


HARDENINGS: dict[str, Hardening] = {
    "temperature": Hardening(
        Temperature, float, 0.01, 1000, "scores can be scaled back by whoever knows or guesses the temperature"
    ),
    "round": Hardening(Round, int, 0, 6, "the decimals that are left can still be compared"),
    "topk": Hardening(TopK, int, 1, 10**6, "the largest probabilities, which attacks use most, are as they were"),
    "label-only": Hardening(
        LabelOnly, None, 0, 0, "attacks that need labels only remain: the gap attack, and many queries an image"
    ),
}


def hardening(spec: str) -> tuple[Hardening, float] | None:
    """The kind and its number from ``NAME`` or ``NAME:NUMBER``, None for "none"; UsageError says what is wrong."""
    name, colon, text = spec.partition(":")
    if spec == NONE:
        return None
    if name not in HARDENINGS:
        raise unknown("hardening", name, [NONE, *HARDENINGS])
    kind = HARDENINGS[name]
    if kind.number is None:
        if colon:
            raise UsageError(f"--harden {spec}: {name} takes no number; write {name}")
        return kind, 0.0
    try:
        value = kind.number(text)
    except ValueError:
        value = math.nan
    if not kind.low <= value <= kind.high:  # nor NaN
        word = "a whole number" if kind.number is int else "a number"
        raise UsageError(f"--harden {spec}: write {name}:N with {word} N in [{kind.low:g}, {kind.high:g}]")
    return kind, value


def head(spec: str, num_classes: int) -> Head | None:
    """The layer from logits to scores, None for "none"; UsageError if ``spec`` cannot work on ``num_classes``."""
    found = hardening(spec)
    if found is None:
        return None
    kind, value = found
    if kind.head is TopK and value > num_classes - 2:
        largest = f"choose at most topk:{num_classes - 2}, or" if num_classes > 2 else "choose"
        raise UsageError(
            f"--harden {spec} hides nothing of {num_classes} classes: what is left can be computed from their sum; "
            f"{largest} round or label-only"
        )
    return kind.head(num_classes, value)


def harden(model: nn.Module, spec: str, num_classes: int) -> nn.Module:
    """``model`` (logits) followed by the head of ``spec`` (scores), in eval mode; the model itself for "none"."""
    last = head(spec, num_classes)
    return model if last is None else nn.Sequential(model, last).eval()
