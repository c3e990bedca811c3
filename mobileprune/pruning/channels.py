"""Pattern "channel": channels that must go together, so that a masked channel can be taken out of the network.

A channel of one layer is also an input of the next, a line of batch normalisation, and through a residual sum a
channel of other layers. Such a group is one site; its unit u is everything that goes when channel u goes. Masking
sets all of that to zero. Physical removal then changes nothing, and that is tried out before any site is offered.
Layers whose channels others notice (layer normalisation, attention) keep theirs, each with a reason.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError, one_line
from mobileprune.models.resize import refit
from mobileprune.pruning.depgraph import DepGraph, NotMaskable, Slice
from mobileprune.pruning.masks import PRUNABLE, Masks, PruneScope, apply_masks

TOLERANCE = 1e-5
"""Of the largest output: masked and smaller network add in different order."""
WAY_OUT = "use --pattern filter or unstructured"


@dataclass(frozen=True)
class Channels:
    """A group of coupled channels. With grouped convolutions a unit is one channel of each of their groups."""

    name: str
    shape: tuple[int, ...]
    units: int
    multiple: int
    slices: tuple[Slice, ...]

    @property
    def capacity(self) -> int:
        return self.units

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.parameter for s in self.slices if s.scored))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The weights whose output channels go."""
        return tuple(dict.fromkeys(s.parameter for s in self.slices if s.scored and s.dim == 0))

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        squares, sizes = torch.zeros(self.units), torch.zeros(self.units)
        for s in self.slices:
            if s.scored:
                others = [dim for dim in range(len(s.shape)) if dim != s.dim]
                squares.index_add_(0, s.unit, values[s.parameter].square().sum(others).cpu()[s.index])
                sizes += s.unit.bincount(minlength=self.units) * (math.prod(s.shape) // s.shape[s.dim])
        return (squares / sizes).sqrt()

    def masks(self, kept: Tensor) -> Masks:
        found: Masks = {}
        for s in self.slices:
            line = torch.ones(s.shape[s.dim], dtype=torch.bool)
            line[s.index] = kept[s.unit]
            mask = found.setdefault(s.parameter, torch.ones(s.shape, dtype=torch.bool))
            mask &= line.view([-1 if dim == s.dim else 1 for dim in range(len(s.shape))])
        return found

    def dropped(self, kept: Tensor) -> set[int]:
        """The output channels of the layer that names this site which go."""
        return set((~kept).repeat(self.shape[0] // self.units).nonzero().flatten().tolist())

    def removed(self, masks: Masks) -> dict[str, set[int]]:
        """Weight -> the output channels that go with the units that ``masks`` drop."""
        kept = masks[self.name].flatten(1).any(1)
        gone: dict[str, set[int]] = {}
        for s in self.slices:
            if s.scored and s.dim == 0:
                gone.setdefault(s.parameter, set()).update(s.index[~kept[s.unit]].tolist())
        return gone


def cut(model: nn.Module, example: Tensor, gone: Mapping[str, set[int]]) -> nn.Module:
    """A copy of ``model`` without the channels ``gone`` (site's name -> output channels) and all that goes with them.

    It is built the way a model folder is read: torch-pruning says how small the weights are, the layers are resized to
    them. CheckpointError if that makes no network that works, NotMaskable if they are no channels that can go.
    """
    smaller = copy.deepcopy(model)
    refit(smaller, DepGraph(model, example).remove(gone).state_dict(), example, "without those channels it")
    return smaller


def last_layer(model: nn.Module, example: Tensor) -> str:
    """The weight's name of the convolution or linear layer that is called last: its outputs are the classes."""
    called: list[str] = []
    layers = {name: module for name, module in model.named_modules() if isinstance(module, PRUNABLE)}
    hooks = [m.register_forward_hook(lambda *_, name=name: called.append(name)) for name, m in layers.items()]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(example)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    if not called:
        raise UsageError(f"{type(model).__name__} calls no convolution or linear layer as a module")
    return f"{called[-1]}.weight".lstrip(".")


def channel_sites(model: nn.Module, scope: PruneScope) -> tuple[list[Channels], dict[str, str]]:
    """The groups of ``model`` and, for layers whose channels stay, why. UsageError where there is none.

    Layers outside ``scope`` keep their output channels, and all that are coupled with them do.
    """
    what = f"--pattern channel: {type(model).__name__}"
    try:
        found, dense = _groups(DepGraph(model, scope.example), scope)
    except UsageError:
        raise
    except Exception as error:  # any model of the user's may be beyond the analysis
        text = one_line(error, kind=True)
        raise UsageError(f"{what} is beyond torch-pruning ({text}); {WAY_OUT}") from error
    rejected = _rejected(model, found, scope.example)
    dense |= {output: why for site in found if (why := rejected.get(site.name)) for output in site.outputs}
    found = [site for site in found if site.name not in rejected]
    if not found:
        reasons = (f"{reason} ({count} layers)" for reason, count in Counter(dense.values()).most_common(3))
        raise UsageError(f"{what} has no channels that could be removed: {', '.join(reasons)}; {WAY_OUT}")
    if rejected and (why := _trial(model, found, scope.example)):
        raise UsageError(f"{what}: {why}; {WAY_OUT}")
    return found, dense


def _groups(graph: DepGraph, scope: PruneScope) -> tuple[list[Channels], dict[str, str]]:
    found: list[Channels] = []
    covered, dense = set[str](), {}
    for name, weight in scope.weights.items():
        if name in covered:
            continue
        try:
            group = graph.coupled(name)
            step = scope.round_to // math.gcd(scope.round_to, group.folds)
            site = Channels(name, tuple(weight.shape), group.units, step, group.slices)
            for output in site.outputs:
                if output not in scope.weights:
                    raise NotMaskable(f"its output channels are coupled with those of {output}, which stays dense")
        except NotMaskable as reason:
            dense[name] = str(reason)
            continue
        covered |= set(site.outputs)
        found.append(site)
    return found, dense


def _rejected(model: nn.Module, sites: list[Channels], example: Tensor) -> dict[str, str]:
    """Names of sites whose removal changes something -> what. Halves are tried on their own where the whole fails."""
    why = _trial(model, sites, example)
    if why is None:
        return {}
    if len(sites) == 1:
        return {sites[0].name: why}
    middle = len(sites) // 2
    return _rejected(model, sites[:middle], example) | _rejected(model, sites[middle:], example)


def _trial(model: nn.Module, sites: list[Channels], example: Tensor) -> str | None:
    """None if half of all units, masked in one copy of ``model`` and removed from another, leave the same outputs."""
    rng = torch.Generator().manual_seed(0)
    masked, gone = copy.deepcopy(model).eval(), dict[str, set[int]]()
    for site in sites:
        kept = torch.randperm(site.units, generator=rng) < (site.units + 1) // 2
        apply_masks(masked, site.masks(kept))
        gone[site.name] = site.dropped(kept)
    with torch.no_grad():
        expected = masked(example)
        try:
            actual = cut(model, example, gone)(example)
        except Exception:  # split sizes, reshapes, ... of any model of the user's
            return "the model's own code counts on its output channels"
    same = agree(actual, expected)
    return None if same else "removing its output channels is not the same as masking them"


def agree(actual: Tensor, expected: Tensor) -> bool:
    """Whether outputs of a smaller network are those of the masked one, to :data:`TOLERANCE`."""
    tolerance = TOLERANCE * float(expected.nan_to_num().abs().max())
    return torch.allclose(actual, expected, rtol=0, atol=tolerance, equal_nan=True)
