"""The space of allowed models: sites, budget and target. ``project`` is the one projection that all methods use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mobileprune.config import PruneConfig
from mobileprune.errors import UsageError
from mobileprune.pruning import budgets
from mobileprune.pruning.masks import Masks, PruneScope, prunable
from mobileprune.pruning.patterns import BY_CHANNEL, Site, densest, sites

Scores = Mapping[str, Tensor]
"""Site -> (units,) float32: what stays is best."""


@dataclass(frozen=True)
class SpaceOptions:
    """As the fields of PruneConfig of these names."""

    sparsity: float = 0.9
    pattern: str = "unstructured"
    channel_ratio: float | None = None
    round_to: int = 8
    budget: str = "uniform"
    keep_dense: str = "none"

    def __post_init__(self) -> None:
        if self.channel_ratio is not None and self.pattern not in BY_CHANNEL:
            raise UsageError(
                f"--channel-ratio is for --pattern {' or '.join(BY_CHANNEL)}, not {self.pattern}; give --sparsity"
            )
        least = round(1 - densest(self.pattern), 6)  # as the message says it: what it asks for is then taken
        if self.sparsity < least:
            raise UsageError(
                f"--pattern {self.pattern} keeps at most {densest(self.pattern):.0%} of the weights: "
                f"give --sparsity {least:g} or more"
            )

    @classmethod
    def of(cls, config: PruneConfig) -> SpaceOptions:
        return cls(**{item.name: getattr(config, item.name) for item in fields(cls)})


@dataclass(frozen=True)
class Space:
    """``ratio``: share of units to drop in the end. ``layers``: weights over which sparsity is counted -> their sizes.

    ``left_dense``: weight name -> why the pattern does not touch it. ``sparsity``: what whole channels must reach where
    it depends on their scores how many have to go; ``ratio`` is then what the weights' own sizes ask for.
    """

    sites: tuple[Site, ...]
    layers: Mapping[str, int]
    left_dense: dict[str, str]
    budget: str
    ratio: float
    globs: Mapping[str, float] = field(default_factory=dict)
    sparsity: float | None = None

    @classmethod
    def of(cls, model: nn.Module, options: SpaceOptions, example: Tensor) -> Space:
        """The space for ``model``; ``example`` (N, C, H, W) is one input. UsageError where it would be empty."""
        find = sites(options.pattern)
        weights = prunable(model, options.keep_dense)
        scope = PruneScope(weights, example, options.round_to)
        found, dense = find(model, scope)
        if not found:
            raise UsageError(f"--pattern {options.pattern} fits no layer of this model: {dense}; use another pattern")
        by_channel = options.pattern in BY_CHANNEL
        globs = {} if options.budget in budgets.SHARED else budgets.read_file(Path(options.budget))
        layers = {name: weight.numel() for name, weight in weights.items() if name not in dense or by_channel}
        ratio = options.sparsity if options.channel_ratio is None else options.channel_ratio
        space = cls(tuple(found), layers, dense, options.budget, ratio, globs)
        if not by_channel or options.channel_ratio is not None:
            return space
        fitting = space._ratio_for(options.sparsity, space._scores(dict(model.named_parameters())))
        return replace(space, ratio=fitting, sparsity=options.sparsity if options.budget == "global" else None)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Everything whose values decide."""
        return tuple(dict.fromkeys(name for site in self.sites for name in site.parameters))

    def project(self, values: Mapping[str, Tensor], done: float = 1.0) -> Masks:
        """The support of the projection of ``values``: the best units within the budget. Ties go by position.

        ``done``: how far a schedule has come, from 0 (nothing is dropped) to 1.
        """
        return self.choose(self._scores(values), done)

    def choose(self, scores: Scores, done: float = 1.0) -> Masks:
        """The masks that keep the best of ``scores``, site -> (units,) float32."""
        ratio = self.ratio if self.sparsity is None else self._ratio_for(self.sparsity, scores)
        return self._best(scores, ratio, done)

    @torch.no_grad()
    def _scores(self, values: Mapping[str, Tensor]) -> Scores:
        return {site.name: site.scores(values).cpu() for site in self.sites}

    def _best(self, scores: Scores, ratio: float, done: float = 1.0) -> Masks:
        counts, masks = self._kept(scores, ratio, done), Masks()
        for site in self.sites:
            kept = torch.zeros(site.units, dtype=torch.bool)
            order = torch.sort(scores[site.name], descending=True, stable=True).indices
            kept[order[: counts[site.name]]] = True
            _intersect(masks, site.masks(kept))
        return masks

    def _kept(self, scores: Scores, ratio: float, done: float) -> budgets.Kept:
        if self.globs:
            kept = budgets.from_globs(self.sites, ratio, self.globs, done)
        elif self.budget == "global":
            kept = budgets.by_score(self.sites, scores, ratio * done)
        else:
            kept = (budgets.erk if self.budget == "erk" else budgets.uniform)(self.sites, ratio * done)
        return budgets.rounded(self.sites, kept)

    def _ratio_for(self, sparsity: float, scores: Scores) -> float:
        """The smallest share of channels (to 1/256) whose removal, worst first, zeroes ``sparsity`` of the weights."""
        low, high = 0, 256
        while low < high:
            middle = (low + high) // 2
            masks = self._best(scores, middle / 256)
            zeros = sum(int((~masks[name]).sum()) for name in self.layers if name in masks)
            if zeros >= sparsity * sum(self.layers.values()):
                high = middle
            else:
                low = middle + 1
        if low > 255:
            raise UsageError(
                f"--sparsity {sparsity:g}: even one channel a layer (or --round-to of them), and what has to stay "
                "dense, are more than that; lower it"
            )
        return low / 256


def _intersect(masks: Masks, more: Masks) -> None:
    for name, mask in more.items():
        masks[name] = masks[name] & mask if name in masks else mask
