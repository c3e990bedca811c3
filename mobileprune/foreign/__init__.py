"""Attacks on what we did not make: a function, a model file without a manifest, or a table of a model's outputs."""

from __future__ import annotations

from mobileprune.foreign.answers import KINDS
from mobileprune.foreign.examine import ForeignModel, examine
from mobileprune.foreign.result import ForeignResult, result

__all__ = ["KINDS", "ForeignModel", "ForeignResult", "examine", "result"]
