"""One batch through a graph and back: its logits, and each example's gradient norms."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mobileprune.runtimes.gradients.graph import Graph
from mobileprune.runtimes.gradients.layers import squared_norms


def forward(graph: Graph, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Logits (N, K) of inputs (N, C, H, W), and how many numbers all values of the graph together have."""
    with torch.no_grad():
        logits, _, numbers = graph.run(torch.from_numpy(x))
    return logits.numpy(), numbers


def forward_backward(
    graph: Graph, x: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Logits (N, K), and norms (N, 2 F) of the cross-entropy's gradient by the F weights where they are not 0, and are.

    Each example's gradient at the logits goes back with length 1, and its length is multiplied in afterwards: what the
    model is sure of does not vanish in float32.
    """
    logits, uses, _ = graph.run(torch.from_numpy(x).requires_grad_())
    slopes = residual(logits.detach().double().numpy(), labels)
    sizes = np.linalg.norm(slopes, axis=1)
    unit = torch.from_numpy(slopes / np.where(sizes > 0, sizes, 1)[:, None]).float()
    gradients = torch.autograd.grad(logits, [use.y for use in uses], unit)
    with torch.no_grad():
        found = [
            squared_norms(
                [use for use in uses if use.weight == name],
                [g for use, g in zip(uses, gradients, strict=True) if use.weight == name],
                graph.constants[name],
            )
            for name in graph.weights
        ]
    norms = torch.stack(found, 2).flatten(1).sqrt().numpy()  # (N, 2, F) -> (N, 2 F)
    return logits.detach().numpy(), norms * sizes[:, None]


def residual(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """softmax(z) - e_y (N, K), the cross-entropy's gradient by the logits, without cancellation where p_y is next to 1.

    There it is minus the sum of the other probabilities, as the row's sum is 0.
    """
    rows = np.arange(len(labels))
    p: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[rows, labels] = 0
    p[rows, labels] = -p.sum(axis=1)
    return p
