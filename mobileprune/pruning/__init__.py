"""Pruning methods by name: ``METHODS``. Every method finds masks; hard pruning and retraining are shared."""

from __future__ import annotations

from mobileprune.errors import unknown
from mobileprune.pruning.admm import admm
from mobileprune.pruning.base import Method, PruneRecipe, PruneTask, prune
from mobileprune.pruning.magnitude import gradual, magnitude
from mobileprune.pruning.random import random
from mobileprune.pruning.space import Space, SpaceOptions
from mobileprune.pruning.taylor import taylor, taylor_reference

METHODS: dict[str, Method] = {
    "mia": admm,  # the paper's name for ADMM with an adversary; the adversary is a defence, minmax
    "admm": admm,
    "magnitude": magnitude,
    "gradual": gradual,
    "taylor": taylor,
    "taylor-reference": taylor_reference,
    "random": random,
}
DATA_FREE = ("magnitude", "random")
"""Methods that choose masks without looking at any image."""
SEARCHING = ("mia", "admm", "gradual")
"""Methods with a training stage of their own before the cut."""


def method(name: str) -> Method:
    if name not in METHODS:
        raise unknown("pruning method", name, METHODS)
    return METHODS[name]


__all__ = [
    "DATA_FREE",
    "METHODS",
    "SEARCHING",
    "Method",
    "PruneRecipe",
    "PruneTask",
    "Space",
    "SpaceOptions",
    "method",
    "prune",
]
