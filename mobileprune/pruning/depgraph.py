"""Which entries of which parameters go with a channel: torch-pruning's dependency graph (arXiv 2301.12900).

The graph, its index mappings and what removal does to a layer are torch-pruning's. The closure over them is our own:
it ends on every network (theirs fills the memory on shifted windows), notices channels that are tied to each other,
and stops, with the reason, where a masked channel would not be the same as a removed one.
"""

from __future__ import annotations

import copy
import importlib
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.pruning.masks import PRUNABLE

Norm = nn.modules.batchnorm._NormBase  # batch and instance normalisation
ACROSS: tuple[tuple[type[nn.Module], str, str], ...] = (
    (nn.LayerNorm, "layernorm", "layer normalisation runs over its output channels"),
    (nn.GroupNorm, "groupnorm", "group normalisation runs over its output channels"),
    (nn.MultiheadAttention, "scaleddotproduct", "attention couples its heads"),
    (nn.Softmax, "softmax", "softmax runs over its output channels"),
)
"""Where other channels would notice that one is gone: module, part of the autograd node's name, reason."""


class NotMaskable(Exception):
    """Why channels are left as they are. Whoever asks for them tells it: it reaches no user as an error."""


@dataclass(frozen=True)
class Slice:
    """Entries ``index`` (K,) along ``dim`` of a parameter; entry k goes with unit ``unit[k]``. ``scored``: a weight."""

    parameter: str
    shape: tuple[int, ...]
    dim: int
    index: Tensor
    unit: Tensor
    scored: bool


@dataclass(frozen=True)
class Coupled:
    """The output channels of a layer and all that goes with them. Unit u: channels c with c % units = u.

    ``folds``: how many channels a unit has, more than 1 with grouped convolutions, whose groups stay equally large.
    """

    units: int
    folds: int
    slices: tuple[Slice, ...]


class DepGraph:
    """The graph of a copy of ``model``, for inputs like ``example`` (N, C, H, W); ``remove`` works on that copy."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(True)  # it is traced through autograd
        with _quiet(), torch.enable_grad():
            self.graph = _torch_pruning().DependencyGraph()
            self.graph.build_dependency(self.model, (example,), verbose=False)
        self.modules = {module: name for name, module in self.model.named_modules()}
        self.parameters = {id(parameter): name for name, parameter in self.model.named_parameters()}

    def coupled(self, weight: str) -> Coupled:
        """What goes with the output channels of the layer of ``weight``. NotMaskable, with the reason, if they stay."""
        path = weight.rpartition(".")[0]
        root, parent = (self.model.get_submodule(name) for name in (path, path.rpartition(".")[0]))
        if isinstance(root, nn.MultiheadAttention) or isinstance(parent, nn.MultiheadAttention):
            raise NotMaskable("attention couples its heads")
        if root not in self.graph.module2node:
            raise NotMaskable("its module is never called: another one uses its weight")
        touched = self._closure(root)
        channels = len(next(iter(touched.values())))
        folds = math.lcm(*(_groups(node.module) for node, _ in touched))
        if channels % folds:
            raise NotMaskable(f"{channels} channels do not divide into {folds} groups")
        units = channels // folds
        if units == 1:
            raise NotMaskable("its channels can only go all at once")
        slices: list[Slice] = []
        for (node, handler), origin in touched.items():
            index = torch.tensor(list(origin), dtype=torch.int64)
            unit = torch.tensor(list(origin.values()), dtype=torch.int64) % units
            slices += self._slices(node, index, unit, self.graph.is_out_channel_pruning_fn(handler))
        return Coupled(units, folds, tuple(slices))

    def remove(self, channels: Mapping[str, set[int]]) -> nn.Module:
        """The copy without these output channels (weight -> channels) and all that goes with them. NotMaskable as
        in :meth:`coupled`."""
        lost: dict[tuple[Any, Any], set[int]] = {}
        for weight, gone in channels.items():
            closure = self._closure(self.model.get_submodule(weight.rpartition(".")[0]))
            for key, origin in closure.items():
                lost.setdefault(key, set()).update(index for index, channel in origin.items() if channel in gone)
        for (node, handler), indices in lost.items():
            handler.__self__.pruning_dim = node.pruning_dim
            if isinstance(node.module, nn.Parameter):
                path, _, name = self.parameters[id(node.module)].rpartition(".")
                setattr(self.model.get_submodule(path), name, handler(node.module, sorted(indices)))
            elif node.module in self.modules:
                handler(node.module, sorted(indices))
        return self.model

    def _closure(self, root: nn.Module) -> dict[tuple[Any, Any], dict[int, int]]:
        """(node, pruning function) -> which of its indices goes with which output channel of ``root``."""
        entry = _torch_pruning()._helpers._HybridIndex
        first = self.graph.module2node[root], self.graph.get_pruner_of_module(root).prune_out_channels
        touched: dict[tuple[Any, Any], dict[int, int]] = {}
        visits = Counter[tuple[Any, Any]]()
        todo = [(*first, [entry(channel, channel) for channel in range(len(root.get_parameter("weight")))])]
        while todo:
            node, handler, indices = todo.pop()
            self._check(node, handler)
            origin = touched.setdefault((node, handler), {})
            new = [i for i in indices if i.idx not in origin]
            origin |= {i.idx: i.root_idx for i in new}
            if any(origin[i.idx] != i.root_idx or i.root_idx is None for i in indices):
                raise NotMaskable("the analysis ties its output channels to each other")
            visits[node, handler] += bool(new)
            if visits[node, handler] > len(self.graph.module2node):
                raise NotMaskable("the analysis of its output channels does not end")
            for dependency in node.dependencies if new else ():
                if dependency.is_triggered_by(handler):
                    moved = new
                    for mapping in dependency.index_mapping:
                        moved = moved if mapping is None else mapping(moved)
                    if moved:
                        todo.append((dependency.target, dependency.handler, moved))
        return touched

    def _check(self, node: Any, handler: Any) -> None:
        module, operation = node.module, type(node.grad_fn).__name__.lower()
        if not node.outputs and self.graph.is_out_channel_pruning_fn(handler):
            raise NotMaskable("its output channels are the classes")
        for kind, part, reason in ACROSS:
            if isinstance(module, kind) or (part in operation and module not in self.modules):
                raise NotMaskable(reason)
        if isinstance(module, Norm) and not module.affine and module.track_running_stats:
            raise NotMaskable("normalisation without a scale moves its masked channels away from 0")

    def _slices(self, node: Any, index: Tensor, unit: Tensor, outwards: bool) -> Iterator[Slice]:
        module = node.module
        if isinstance(module, nn.Parameter):
            yield self._slice(module, node.pruning_dim, index, unit)
        elif isinstance(module, PRUNABLE):
            index, unit = _within_groups(module, index, unit, outwards)
            outwards |= _depthwise(module)
            yield self._slice(module.weight, 0 if outwards else 1, index, unit, scored=True)
            if outwards and module.bias is not None:
                yield self._slice(module.bias, 0, index, unit)
        elif isinstance(module, Norm) or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
            for parameter in module.parameters(recurse=False):
                yield self._slice(parameter, 0, index, unit)
        elif not isinstance(module, nn.PReLU) and any(True for _ in module.parameters()):
            raise NotMaskable(f"{type(module).__name__} takes part in it")

    def _slice(self, parameter: Tensor, dim: int, index: Tensor, unit: Tensor, *, scored: bool = False) -> Slice:
        name = self.parameters[id(parameter)]
        if int(index.max()) >= parameter.shape[dim]:
            raise NotMaskable(f"the analysis does not see how its output channels reach {name}")
        return Slice(name, tuple(parameter.shape), dim, index, unit, scored)


def _depthwise(module: nn.Module) -> bool:
    groups = getattr(module, "groups", 1)
    return bool(groups > 1 and groups == getattr(module, "out_channels", 0))


def _groups(module: object) -> int:
    """Groups of a grouped convolution; a depthwise one has as many as there are channels, and counts as 1."""
    return int(getattr(module, "groups", 1)) if isinstance(module, PRUNABLE) and not _depthwise(module) else 1


def _within_groups(module: nn.Module, index: Tensor, unit: Tensor, outwards: bool) -> tuple[Tensor, Tensor]:
    """Index and unit along the weight's dimension; its input channels are counted within a group."""
    groups = _groups(module)
    if _depthwise(module) and module.in_channels != module.out_channels:
        raise NotMaskable("a grouped convolution takes several channels for each that it gives")
    if groups == 1:
        return index, unit
    channels = int(getattr(module, "out_channels" if outwards else "in_channels"))
    if len(index) != channels or not (within := unit[index.argsort()].view(groups, -1)).eq(within[0]).all():
        raise NotMaskable("a grouped convolution would not keep equally large groups")
    return (index, unit) if outwards else (torch.arange(channels // groups), within[0])


def _torch_pruning() -> Any:
    return importlib.import_module("torch_pruning")  # late: it takes a second and only this pattern needs it


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parameters of no module, and depths: we look at each ourselves
        yield
