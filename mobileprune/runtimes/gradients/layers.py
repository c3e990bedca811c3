"""Norms of each example's gradient by a layer's weight, from what goes into the layer and the gradient at its output.

With x the input and g the gradient at the output, the gradient by the weight is, for one example,

    linear          sum over positions t of  g_t x_t'           (one position: |g x'| = |g| |x|, nothing to unfold)
    convolution     the same, x_t being the patch under position t, within each group of channels

(per-example gradients, arXiv 1510.01799 and 2009.06489). A weight that several layers share has the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mobileprune.runtimes.gradients.graph import Use
from mobileprune.runtimes.gradients.windows import padded

CHUNK_BYTES = 64 * 2**20
"""What the gradients and patches of the examples that are looked at together may take."""
FLOAT_BYTES = 4


def squared_norms(uses: Sequence[Use], gradients: Sequence[Tensor], weight: Tensor) -> Tensor:
    """(N, 2) float64: the squares of the gradient by ``weight`` summed where it is not 0, and where it is 0.

    ``uses``: the layers that read ``weight``; ``gradients``: those at their outputs, all (N, ...).
    """
    kept = weight != 0
    if len(uses) == 1 and uses[0].x.ndim == 2:
        return _of_one_position(uses[0], gradients[0], kept)
    parts = torch.stack([kept, ~kept]).flatten(1).float()
    numbers = 2 * weight.numel() + sum(_patch_numbers(use, weight) for use in uses)
    count = max(1, CHUNK_BYTES // (FLOAT_BYTES * numbers))
    found = []
    for i in range(0, len(uses[0].x), count):
        chunk = slice(i, i + count)
        made = [_gradient(use, use.x[chunk], g[chunk], weight) for use, g in zip(uses, gradients, strict=True)]
        total = made[0] if len(made) == 1 else torch.stack(made).sum(0)
        found.append(total.flatten(1).square_() @ parts.T)
    return torch.cat(found).double()


def _of_one_position(use: Use, gradient: Tensor, kept: Tensor) -> Tensor:
    """sum_ok m_ok (g_o x_k)^2 = (g^2)' m x^2."""
    mask = kept.double() if use.node.get("transB", 0) else kept.T.double()  # (outputs, inputs)
    x, g = use.x.double().square(), (_alpha(use) * gradient.double()).square()
    return torch.stack([((g @ part) * x).sum(1) for part in (mask, 1 - mask)], 1)


def _alpha(use: Use) -> float:
    return float(use.node.get("alpha", 1.0)) if use.node.kind == "Gemm" else 1.0


def _patch_numbers(use: Use, weight: Tensor) -> int:
    """Numbers in all patches of one example."""
    if use.node.kind != "Conv":
        return use.x[0].numel()
    return use.x.shape[1] * weight.shape[2:].numel() * use.y.shape[2:].numel()


def _gradient(use: Use, x: Tensor, g: Tensor, weight: Tensor) -> Tensor:
    """Of n examples by the weight, (n, ...) in its order."""
    if use.node.kind != "Conv":
        rows, columns = (_alpha(use) * g).reshape(len(g), -1, g.shape[-1]), x.reshape(len(x), -1, x.shape[-1])
        return rows.mT @ columns if use.node.get("transB", 0) else columns.mT @ rows
    groups, dilations = use.node.get("group", 1), use.node.get("dilations", [1, 1])
    strides = use.node.get("strides", [1, 1])
    patches = F.unfold(padded(use.node, x), weight.shape[2:], dilations, 0, strides)  # (n, C kh kw, positions)
    columns = patches.reshape(len(x) * groups, -1, patches.shape[-1])
    rows = g.reshape(len(x) * groups, -1, patches.shape[-1])
    return (rows @ columns.mT).reshape(len(x), *weight.shape)
