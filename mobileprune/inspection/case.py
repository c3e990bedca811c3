"""What is to be explained: a network as it would be, or is, in a file, counted before any work starts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.shrink import shrink
from mobileprune.export.target import STOCK
from mobileprune.inspection.contents import Contents, Layer
from mobileprune.pruning import Space, SpaceOptions
from mobileprune.pruning.masks import apply_masks, prunable


@dataclass(frozen=True)
class Network:
    """``layers`` as they are stored; ``dense_weights`` and ``dense_macs``: before channels were taken out.

    ``pattern``: of the zeros, None where nothing was pruned or nobody knows. ``counted``: zeros are those of weights
    that exist, not what pruning is going to make.
    """

    layers: tuple[Layer, ...]
    macs: int | None
    dense_weights: int
    dense_macs: int | None
    pattern: str | None
    counted: bool

    @property
    def weights(self) -> int:
        return sum(layer.total for layer in self.layers)

    @property
    def zeros(self) -> int:
        return sum(layer.zeros for layer in self.layers)

    @property
    def share(self) -> float:
        """Of zeros among the weights that are left."""
        return self.zeros / max(self.weights, 1)

    @property
    def removed(self) -> int:
        return self.dense_weights - self.weights

    @property
    def zero_macs(self) -> int | None:
        return None if self.macs is None else sum(layer.zero_macs or 0 for layer in self.layers)

    @property
    def zero_channels(self) -> int:
        return sum(layer.zero_channels or 0 for layer in self.layers)


@dataclass(frozen=True)
class Case:
    """A network for a target; ``form``: of that target, or "auto"; ``kernels``: whose compute layers with zeros."""

    network: Network
    target: str
    precision: str
    form: str
    kernels: str = STOCK


def found(contents: Contents, sparsity: Mapping[str, Any], pattern: str | None) -> Network:
    """The network in a file or model folder; ``sparsity`` is what that records, {} where there is no record.

    A layer that lost channels has fewer weights than are recorded, and each of them costs as much as before.
    """
    recorded = {name: int(layer["total"]) for name, layer in sparsity.get("layers", {}).items()}
    layers, macs = contents.layers, contents.macs
    lost = {x.name: recorded.get(x.name, x.total) - x.total for x in layers}
    extra = sum(lost[x.name] * ((x.macs or 0) // max(x.total, 1)) for x in layers)
    dense_weights = sum(x.total + lost[x.name] for x in layers)
    return Network(layers, macs, dense_weights, None if macs is None else macs + extra, pattern, counted=True)


def planned(model: nn.Module, options: SpaceOptions, x: Tensor) -> Network:
    """What pruning is going to leave of ``model`` for inputs like ``x`` (N, C, H, W), with the weights it has now.

    UsageError as :meth:`Space.of`. Where the budget is global, other weights have other zeros in each layer.
    """
    before = layers_of(model, x)
    space = Space.of(model, options, x)
    pruned = copy.deepcopy(model).eval()
    masks = space.project({name: pruned.get_parameter(name).detach() for name in space.parameters})
    apply_masks(pruned, masks)
    smaller, _ = shrink(pruned, space.sites, masks, x)
    after = layers_of(smaller, x)
    dense_weights = sum(layer.total for layer in before.layers)
    return Network(after.layers, after.macs, dense_weights, before.macs, options.pattern, counted=False)


def layers_of(model: nn.Module, x: Tensor) -> Contents:
    """The layers as they are exported, and all MACs for one image of ``x`` (N, C, H, W)."""
    from torch.utils.flop_counter import FlopCounterMode

    folded = fold_bn(model)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        folded(x[:1])
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    layers = []
    for name, weight in prunable(folded).items():
        path = name.rpartition(".")[0]
        rows = weight.detach().flatten(1)
        layers.append(
            Layer(
                name,
                tuple(weight.shape),
                weight.numel() - int(rows.count_nonzero()),
                int((~rows.any(1)).sum()),
                flops.get(f"{type(folded).__name__}.{path}" if path else "Global", 0) // 2,
            )
        )
    return Contents(tuple(layers), macs=counter.get_total_flops() // 2)
