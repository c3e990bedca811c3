"""What the configuration alone cannot know is wrong with it, said before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobileprune import defenses
from mobileprune.config import OWNERS, Config, flag
from mobileprune.convert.harden import hardening
from mobileprune.errors import UsageError
from mobileprune.export import target
from mobileprune.pipeline.prune import check as check_pruning


def check_options(config: Config, options: Mapping[str, Any]) -> None:
    """UsageError for names that are in no registry, and for ``options`` that do not go together."""
    if {"sparsity", "channel_ratio"} <= options.keys():
        raise UsageError("--sparsity and --channel-ratio say the same thing in two ways; give one of them")
    hardening(config.export.harden)
    target(config.export.target).check(config.export.precision, config.export.sparse_format, config.export.kernels)
    if config.train.checkpoint and config.train.train_defense != defenses.NONE:
        raise UsageError("--train-defense has no effect on weights that come from --checkpoint; leave one of them out")
    defenses.check(config.train.train_defense, ("training",), "--train-defense")
    check_pruning(config)


def check_given(source: str, options: Mapping[str, Any], *, pruning: bool) -> None:
    """UsageError for ``options`` that could not have an effect on the trained model ``source``."""
    allowed = {"model", "lr", "batch_size", "augment"} if pruning else {"model"}
    idle = [o for o in options if OWNERS.get(o) == "train" and o not in allowed]
    if idle:
        raise UsageError(
            f"{source} is trained already: {', '.join(map(flag, idle))} would have no effect; leave it out"
        )
