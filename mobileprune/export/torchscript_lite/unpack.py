"""Packed weights in TorchScript: what a file carries to make dense weights of its bytes, once, when it is first run.

All functions here are compiled into the file. They use only operators that the oldest bytecode's runtimes have, and are
plain Python too: annotations must be real types for TorchScript, so they are not postponed in this module.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mobileprune.export.torchscript_lite.packed import Stored


def bits(stream: Tensor) -> Tensor:
    """Bytes (n,) uint8 -> bits (8 n,) uint8, lowest first."""
    return ((stream.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1).view(-1)


def numbers(high: Tensor, low: Tensor, count: int, width: int) -> Tensor:
    """The numbers (count,) int64 of a :class:`mobileprune.convert.rice.Rice`; ``high`` is empty without quotients."""
    table = bits(low)[: count * width].view(count, width).to(torch.int64)
    rest = (table << torch.arange(width)).sum(1)
    if high.numel() == 0:
        return rest
    ends = bits(high).nonzero().view(-1)
    starts = torch.cat([torch.full([1], -1, dtype=torch.int64), ends[:-1]])
    return ((ends - starts - 1) << width) + rest


def expand(packed: list[Tensor], sizes: list[int], counts: list[int], layouts: list[list[int]]) -> list[Tensor]:
    """Dense tensors, float32 or int8, of what a :class:`~.packed.Stored` describes."""
    streams = torch.split_with_sizes(packed[0], sizes)
    parts = torch.split_with_sizes(torch.cat([values.to(torch.float32) for values in packed[1:]]), counts)
    made: list[Tensor] = []
    for i, layout in enumerate(layouts):
        count, gaps_width, width, base, direction = layout[:5]
        gaps_high, gaps_low, high, low = streams[4 * i : 4 * i + 4]
        part = parts[i]
        if count < 0:
            made.append(part.clone().view(layout[5:]))  # a view would keep the whole buffer in memory
        else:
            if direction != 0:
                n = numbers(high, low, count, width)
                part = ((base + direction * (n >> 1)) * (1 - 2 * (n & 1))).to(torch.int8)
            tensor = torch.zeros(layout[5:], dtype=part.dtype)
            places = (numbers(gaps_high, gaps_low, count, gaps_width) + 1).cumsum(0) - 1
            tensor.view(-1).scatter_(0, places, part)
            made.append(tensor)
    return made


class Expanding(nn.Module):
    """``net(x, weights)``, whose weights are expanded in the first call and kept; the packed ones are let go."""

    packed: list[Tensor]
    sizes: list[int]
    counts: list[int]
    layouts: list[list[int]]
    weights: list[Tensor]

    def __init__(self, net: Callable[..., Tensor], stored: Stored) -> None:
        super().__init__()
        self.net, self.weights = net, []
        self.packed, self.sizes, self.counts, self.layouts = stored.packed, stored.sizes, stored.counts, stored.layouts

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weights) == 0:
            self.weights = expand(self.packed, self.sizes, self.counts, self.layouts)
            self.packed = []
        return self.net(x, self.weights)


ConvParams = torch.classes.quantized.Conv2dPackedParamsBase
LinearParams = torch.classes.quantized.LinearPackedParamsBase


class Prepacking(nn.Module):
    """``net(x, weights, convs, linears)``: int8 layers too, prepacked for the engine of whoever runs the file.

    The expanded tensors are the weight, scales and bias of each convolution and then of each linear layer, and after
    them the other weights. ``geometry``: stride, padding, dilation and groups, seven numbers a convolution.
    """

    packed: list[Tensor]
    sizes: list[int]
    counts: list[int]
    layouts: list[list[int]]
    geometry: list[list[int]]
    weights: list[Tensor]
    convs: list[ConvParams]  # type: ignore[valid-type]
    linears: list[LinearParams]  # type: ignore[valid-type]

    def __init__(self, net: Callable[..., Tensor], stored: Stored, geometry: list[list[int]], num_linears: int) -> None:
        super().__init__()
        self.net, self.geometry, self.num_linears = net, geometry, num_linears
        self.packed, self.sizes, self.counts, self.layouts = stored.packed, stored.sizes, stored.counts, stored.layouts
        self.weights, self.convs, self.linears = [], [], []

    def forward(self, x: Tensor) -> Tensor:
        if len(self.packed) > 0:
            tensors = expand(self.packed, self.sizes, self.counts, self.layouts)
            for i, g in enumerate(self.geometry):
                weight = quantized(tensors[3 * i], tensors[3 * i + 1])
                conv = torch.ops.quantized.conv2d_prepack(weight, tensors[3 * i + 2], g[0:2], g[2:4], g[4:6], g[6])
                self.convs.append(conv)
            for i in range(len(self.geometry), len(self.geometry) + self.num_linears):
                weight = quantized(tensors[3 * i], tensors[3 * i + 1])
                self.linears.append(torch.ops.quantized.linear_prepack(weight, tensors[3 * i + 2]))
            self.weights = tensors[3 * (len(self.geometry) + self.num_linears) :]
            self.packed = []
        return self.net(x, self.weights, self.convs, self.linears)


def quantized(weight: Tensor, scales: Tensor) -> Tensor:
    """int8 (out, ...) with a scale for each output channel."""
    zeros = torch.zeros_like(scales, dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(weight, scales, zeros, 0)
