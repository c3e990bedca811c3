r"""Objectives that keep a classifier from becoming sure of its members, as terms added to the cross-entropy L.

label smoothing      (1 - e) L + e * mean_k(-log p_k)                        arXiv 1512.00567, section 7
confidence penalty   L - beta * H(p)                                         arXiv 1701.06548
relaxed loss         |L - level| where the batch's loss is below the level, in turn with flattened posteriors:
                     p_y stays, the other classes share 1 - p_y equally      arXiv 2207.05801, algorithm 1
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.tensors import Tensors
from mobileprune.training import Hook


class LabelSmoothing(Hook):
    def __init__(self, share: float) -> None:
        self.share = share

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        uniform = -logits.log_softmax(1).mean()
        return self.share * (uniform - functional.cross_entropy(logits, y))


class ConfidencePenalty(Hook):
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        return self.beta * (log_p.exp() * log_p).sum(1).mean()


class RelaxLoss(Hook):
    """Even epochs climb back to the level, odd ones flatten."""

    def __init__(self, level: float) -> None:
        self.level, self.epoch = level, 0

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor | None:
        loss = functional.cross_entropy(logits, y)
        if loss >= self.level:
            return None
        if self.epoch % 2 == 0:
            return (self.level - loss) - loss
        return functional.cross_entropy(logits, flattened(logits.detach().softmax(1), y)) - loss

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.epoch = epoch + 1

    def state(self) -> Tensors:
        return {"epoch": torch.tensor(self.epoch)}

    def restore(self, state: Tensors) -> None:
        self.epoch = int(state["epoch"])


def flattened(p: Tensor, y: Tensor) -> Tensor:
    """(N, K) probabilities with p_y kept and the rest shared equally."""
    own = p.gather(1, y[:, None])
    return ((1 - own) / (p.shape[1] - 1)).expand_as(p).scatter(1, y[:, None], own)
