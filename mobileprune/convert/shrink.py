"""Pattern "channel", last step: masked channels are taken out. A smaller dense network is left, for any runtime."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mobileprune.errors import CheckpointError, UsageError
from mobileprune.models.resize import RemovedChannels
from mobileprune.pruning.channels import WAY_OUT, Channels, agree, cut
from mobileprune.pruning.depgraph import NotMaskable
from mobileprune.pruning.masks import Masks
from mobileprune.pruning.patterns import Site


def shrink(model: nn.Module, sites: Sequence[Site], masks: Masks, x: Tensor) -> tuple[nn.Module, RemovedChannels]:
    """``model``, to which ``masks`` are applied already, without the channels that they drop; and which these are.

    A copy in eval mode; ``model`` itself where no channel goes, as with sites of any other pattern. UsageError unless
    its logits for ``x`` (N, C, H, W) are those of the masked network, to 1e-5 of the largest.
    """
    gone: dict[str, set[int]] = {}
    roots = [site for site in sites if isinstance(site, Channels)]
    for site in roots:
        for name, channels in site.removed(masks).items():
            gone.setdefault(name, set()).update(channels)
    if not any(gone.values()):
        return model, {}
    what = f"--pattern channel: {type(model).__name__} with its channels removed"
    with torch.no_grad():
        expected = model.eval()(x)
        try:
            smaller = cut(model, x[:2], {site.name: gone[site.name] for site in roots})
            actual = smaller(x)
        except (CheckpointError, NotMaskable) as error:
            raise UsageError(f"{what} does not work ({error}); {WAY_OUT}") from error
    if not agree(actual, expected):
        gap = float((actual - expected).abs().max() / expected.abs().max())
        raise UsageError(f"{what} gives other logits than with them masked (by {gap:.1e} of the largest); {WAY_OUT}")
    return smaller, {name: sorted(channels) for name, channels in gone.items() if channels}


def compose(before: RemovedChannels, now: RemovedChannels, model: nn.Module) -> RemovedChannels:
    """What is gone of the original when ``model``, which lacks the channels ``before``, loses ``now`` of its own.

    ``now`` counts the channels of ``model``; the result those of the original, as ``before`` does.
    """
    after = {name: set(channels) for name, channels in before.items()}
    for name, channels in now.items():
        gone = after.setdefault(name, set())
        left = [c for c in range(len(model.get_parameter(name)) + len(gone)) if c not in gone]
        after[name] = gone | {left[c] for c in channels}
    return {name: sorted(channels) for name, channels in after.items()}
