"""Pruning methods by name: ``METHODS``. Every method finds masks; hard pruning and retraining are shared."""

from __future__ import annotations

from mobileprune.errors import unknown
from mobileprune.pruning.base import Method, PruneRecipe, PruneTask, prune
from mobileprune.pruning.magnitude import magnitude
from mobileprune.pruning.mia import mia

METHODS: dict[str, Method] = {"mia": mia, "magnitude": magnitude}


def method(name: str) -> Method:
    if name not in METHODS:
        raise unknown("pruning method", name, METHODS)
    return METHODS[name]


__all__ = ["METHODS", "Method", "PruneRecipe", "PruneTask", "method", "prune"]
