r"""Patterns: which weights go together, as *sites* made of *units*.

A site is a place that gets a budget: a layer, or a group of layers whose channels are coupled. It consists of
units that are kept or dropped as a whole: weights, blocks, filters, channels. Every method works with every
pattern through three things: the score of each unit, how many may stay, and the mask that a choice means.

    score(u) = sqrt(mean of v^2 over the weights of u)        v: weights, or saliencies (taylor)

For units of one size this orders as the norm does, so keeping the largest is the Euclidean projection onto
"at most l units"; where sizes differ (a last block with fewer rows) it weighs a unit per weight.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError
from mobileprune.pruning.channels import channel_sites, last_layer
from mobileprune.pruning.masks import Masks, PruneScope

N_OF_M = re.compile(r"([1-9]\d?):([1-9]\d?)")


class Site(Protocol):
    """``parameters``: whose values decide. ``shape``: of the weight that names it. ``capacity``: most units to keep."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> tuple[str, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def units(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def multiple(self) -> int:
        """Kept units come in multiples of this, where there are that many; 0: even none may stay."""
        ...

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        """(units,) float32; -1 for a unit that the pattern rules out."""
        ...

    def masks(self, kept: Tensor) -> Masks:
        """``kept`` (units,) bool -> the mask of every parameter that the site touches."""
        ...


@dataclass(frozen=True)
class Weights:
    """Unstructured: every weight is a unit."""

    name: str
    shape: tuple[int, ...]
    multiple = 0

    @property
    def parameters(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def units(self) -> int:
        return math.prod(self.shape)

    @property
    def capacity(self) -> int:
        return self.units

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        return values[self.name].abs().flatten()

    def masks(self, kept: Tensor) -> Masks:
        return {self.name: kept.view(self.shape)}


@dataclass(frozen=True)
class Blocks(Weights):
    """``rows`` successive output channels at one input position; the last block may have fewer rows."""

    rows: int

    @property
    def units(self) -> int:
        return math.ceil(self.shape[0] / self.rows) * math.prod(self.shape[1:])

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        squares = [block.square().mean(0) for block in values[self.name].split(self.rows)]
        return torch.stack(squares).sqrt().flatten()

    def masks(self, kept: Tensor) -> Masks:
        blocks = kept.view(math.ceil(self.shape[0] / self.rows), *self.shape[1:])
        return {self.name: blocks.repeat_interleave(self.rows, 0)[: self.shape[0]]}


@dataclass(frozen=True)
class NOfM(Weights):
    """At most ``n`` of every ``m`` successive input channels; units are weights."""

    n: int
    m: int

    @property
    def capacity(self) -> int:
        return self.units * self.n // self.m

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        groups: Tensor = values[self.name].abs().movedim(1, -1).unflatten(-1, (-1, self.m))
        rank = groups.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)
        return groups.masked_fill(rank >= self.n, -1.0).flatten(-2).movedim(-1, 1).flatten()


@dataclass(frozen=True)
class Filters(Weights):
    """Output channels of one layer on its own, with their bias. Masked, not removable where layers are coupled."""

    bias: str | None
    multiple = 1

    @property
    def units(self) -> int:
        return self.shape[0]

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        return values[self.name].flatten(1).square().mean(1).sqrt()

    def masks(self, kept: Tensor) -> Masks:
        found = {self.name: kept.view(-1, *(1 for _ in self.shape[1:])).expand(self.shape).clone()}
        return found | ({self.bias: kept.clone()} if self.bias else {})


Sites = Callable[[nn.Module, PruneScope], tuple[list[Site], dict[str, str]]]
"""(model, scope) -> its sites, and why other layers are left dense."""


def sites(spec: str) -> Sites:
    """The pattern called ``spec``; UsageError for one that there is not."""
    if spec in NAMED:
        return NAMED[spec]
    block, n_of_m = re.fullmatch(r"block:(\d{1,3})x1", spec), N_OF_M.fullmatch(spec)
    if block and int(block[1]) >= 2:
        return lambda model, scope: (
            [Blocks(name, tuple(w.shape), int(block[1])) for name, w in scope.weights.items()],
            {},
        )
    if n_of_m and int(n_of_m[1]) < int(n_of_m[2]):
        return lambda model, scope: _n_of_m(scope, int(n_of_m[1]), int(n_of_m[2]))
    raise UsageError(
        f"--pattern {spec!r}: choose from {', '.join(NAMED)}, block:RxC with C = 1 (block:8x1), N:M with N < M (2:4)"
    )


def _unstructured(model: nn.Module, scope: PruneScope) -> tuple[list[Site], dict[str, str]]:
    return [Weights(name, tuple(w.shape)) for name, w in scope.weights.items()], {}


def _n_of_m(scope: PruneScope, n: int, m: int) -> tuple[list[Site], dict[str, str]]:
    found: list[Site] = []
    dense = {}
    for name, weight in scope.weights.items():
        if weight.shape[1] % m:
            dense[name] = f"{weight.shape[1]} input channels are no multiple of {m}"
        else:
            found.append(NOfM(name, tuple(weight.shape), n, m))
    return found, dense


def _filters(model: nn.Module, scope: PruneScope) -> tuple[list[Site], dict[str, str]]:
    last = last_layer(model, scope.example)
    found: list[Site] = []
    names = {name for name, _ in model.named_parameters()}
    for name, weight in scope.weights.items():
        bias = name.removesuffix("weight") + "bias"
        if name != last:
            found.append(Filters(name, tuple(weight.shape), bias if bias in names else None))
    return found, {last: "its output channels are the classes"}


def _channels(model: nn.Module, scope: PruneScope) -> tuple[list[Site], dict[str, str]]:
    found, dense = channel_sites(model, scope)
    return list(found), dense


def densest(spec: str) -> float:
    """The largest share of weights that the pattern called ``spec`` lets stay: N / M, or 1."""
    n_of_m = N_OF_M.fullmatch(spec)
    return int(n_of_m[1]) / int(n_of_m[2]) if n_of_m else 1.0


BY_CHANNEL = ("channel", "filter")
NAMED: dict[str, Sites] = {"unstructured": _unstructured, "filter": _filters, "channel": _channels}
