"""What an artifact has to keep to, and which of those that do is chosen.

An artifact counts if it keeps to every limit itself, and the means over its seeds do so too: else the luckiest of many
seeds would be picked. Leakage is held against its limit by the largest upper bound of all attacks, as in the verdict of
an audit; all else by the number that was measured. What was not measured, or timed on a busy machine, does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mobileprune.errors import ConfigError, unknown
from mobileprune.option import option, problems_of

PREFERENCES = {
    "size": "size_bytes",
    "latency": "latency_ms",
    "auc": "auc",
    "canary-auc": "canary_auc",
    "accuracy": "test_accuracy",
}
"""What ``--prefer`` takes -> the mean that it looks at."""


@dataclass(frozen=True)
class Limits:
    """Those that are None are not asked for; ConfigError lists everything that is wrong with the others."""

    max_accuracy_drop: float | None = option(None, "percentage points below the dense baseline", low=0, high=100)
    max_latency_ms: float | None = option(None, "of one image, median", low=0)
    max_bytes: float | None = option(None, "size of the file", low=0)
    max_auc: float | None = option(None, "AUC over all members, upper bound over all attacks", low=0.5, high=1)
    max_canary_auc: float | None = option(None, "AUC over the canaries, likewise", low=0.5, high=1)

    def __post_init__(self) -> None:
        problems = list(problems_of(self, fields(self), spelt=str))
        if problems:
            raise ConfigError(problems)

    @classmethod
    def of(cls, values: Mapping[str, Any], **more: Any) -> Limits:
        """From names and numbers, ``more`` laid over them."""
        known = [item.name for item in fields(cls)]
        problems = [str(unknown("limit", name, known)) for name in values if name not in known]
        if problems:
            raise ConfigError(problems)
        return cls(**{**values, **more})

    def to_dict(self) -> dict[str, float]:
        """Those that are asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}
