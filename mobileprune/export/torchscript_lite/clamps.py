"""Clamps that QNNPACK must not compute: in channels-last order, which convolutions give, it shuffles the image (torch
2.13: ``torch.clamp``, ``hardtanh`` and ``relu6`` of quantised tensors).

A ReLU6 behind a convolution or linear layer becomes a ReLU, whose range has to end at 6: there 8 bits saturate. Other
clamps are computed in float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

FUNCTIONS = (functional.relu6, functional.hardtanh, functional.hardtanh_, torch.clamp)
LAYERS = (nn.Conv2d, nn.Linear)


class Apart(nn.Module):
    """A call that quantisation does not look into."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: object, **options: object) -> Tensor:
        return self.call(*args, **options)


def without_clamps(model: fx.GraphModule) -> list[str]:
    """In place; the names of those layers, and of the ReLUs behind them, whose output has to end at 6."""
    modules = {node: model.get_submodule(str(node.target)) for node in model.graph.nodes if node.op == "call_module"}
    times = Counter(id(module) for module in modules.values())
    capped = list[str]()
    for node in model.graph.nodes:
        call = _clamp(node, modules)
        if call is None:
            continue
        before = node.all_input_nodes[0]
        layer, name = modules.get(before), f"without_clamps_{node.name}"
        if isinstance(call, nn.ReLU6) and isinstance(layer, LAYERS) and len(before.users) == times[id(layer)] == 1:
            model.add_submodule(name, nn.ReLU())
            capped += [str(before.target), name]
        else:
            model.add_submodule(name, Apart(call))
        node.op, node.target = "call_module", name
    model.recompile()
    return capped


def _clamp(node: fx.Node, modules: dict[fx.Node, nn.Module]) -> Callable[..., Tensor] | None:
    """What ``node`` calls, if that clamps."""
    module = modules.get(node)
    if isinstance(module, nn.Hardtanh):  # so is ReLU6
        return module
    if node.op == "call_function" and node.target in FUNCTIONS:
        return node.target
    return torch.clamp if (node.op, node.target) == ("call_method", "clamp") else None
