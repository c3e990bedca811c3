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
        if self.sparsity < 1 - densest(self.pattern):
            raise UsageError(
                f"--pattern {self.pattern} keeps at most {densest(self.pattern):.0%} of the weights: "
                f"give --sparsity {1 - densest(self.pattern):g} or more"
            )

    @classmethod
    def of(cls, config: PruneConfig) -> SpaceOptions:
        return cls(**{item.name: getattr(config, item.name) for item in fields(cls)})


@dataclass(frozen=True)
class Space:
    """``ratio``: share of units to drop in the end. ``layers``: the weights over which sparsity is counted.

    ``left_dense``: weight name -> why the pattern does not touch it.
    """

    sites: tuple[Site, ...]
    layers: tuple[str, ...]
    left_dense: dict[str, str]
    budget: str
    ratio: float
    globs: Mapping[str, float] = field(default_factory=dict)

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
        layers = tuple(name for name in weights if name not in dense or by_channel)
        ratio = options.sparsity if options.channel_ratio is None else options.channel_ratio
        space = cls(tuple(found), layers, dense, options.budget, ratio, globs)
        if by_channel and options.channel_ratio is None:
            space = space._with_ratio(space._ratio_for(options.sparsity, dict(model.named_parameters())))
        return space

    @property
    def parameters(self) -> tuple[str, ...]:
        """Everything whose values decide."""
        return tuple(dict.fromkeys(name for site in self.sites for name in site.parameters))

    @torch.no_grad()
    def project(self, values: Mapping[str, Tensor], ratio: float | None = None) -> Masks:
        """The support of the projection of ``values``: the best units within the budget. Ties go by position.

        ``ratio``: share of units to drop now, for schedules; the final one by default.
        """
        scores = {site.name: site.scores(values).cpu() for site in self.sites}
        return self.choose(scores, self.ratio if ratio is None else ratio)

    def choose(self, scores: Mapping[str, Tensor], ratio: float) -> Masks:
        """The masks that keep the best of ``scores``, site -> (units,) float32, and drop ``ratio`` of all units."""
        counts, masks = self._kept(scores, ratio), Masks()
        for site in self.sites:
            kept = torch.zeros(site.units, dtype=torch.bool)
            order = torch.sort(scores[site.name], descending=True, stable=True).indices
            kept[order[: counts[site.name]]] = True
            _intersect(masks, site.masks(kept))
        return masks

    def _kept(self, scores: Mapping[str, Tensor], ratio: float) -> budgets.Kept:
        if self.globs:
            kept = budgets.from_globs(self.sites, ratio, self.globs, self.ratio)
        elif self.budget == "global":
            kept = budgets.by_score(self.sites, scores, ratio)
        else:
            kept = (budgets.erk if self.budget == "erk" else budgets.uniform)(self.sites, ratio)
        return budgets.rounded(self.sites, kept)

    def _with_ratio(self, ratio: float) -> Space:
        return replace(self, ratio=ratio)

    def _ratio_for(self, sparsity: float, weights: Mapping[str, Tensor]) -> float:
        """The smallest share of channels (to 1/256) whose removal zeroes ``sparsity`` of the weights."""
        low, high = 0, 256
        while low < high:
            middle = (low + high) // 2
            masks = self._with_ratio(middle / 256).project(weights)
            zeros = sum(int((~masks[name]).sum()) for name in self.layers if name in masks)
            if zeros >= sparsity * sum(weights[name].numel() for name in self.layers):
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
