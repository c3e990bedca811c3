"""Early stopping: memories come after what generalises, so training ends when the reference loss no longer falls."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from mobileprune.resume import join, part
from mobileprune.tensors import Tensors, put
from mobileprune.training import Examples, Hook, predict


class EarlyStopping(Hook):
    """Ends ``patience`` epochs after the lowest cross-entropy on ``reference`` and goes back to the weights of then."""

    def __init__(self, reference: Examples, patience: int) -> None:
        self.reference, self.patience = reference, patience
        self.best, self.waited = float("inf"), 0
        self.weights: Tensors = {}

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        loss = float(functional.cross_entropy(predict(model, self.reference), self.reference.y))
        model.train()
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            self.waited += 1

    def finished(self) -> bool:
        return self.waited >= self.patience

    def at_end(self, model: nn.Module) -> None:
        if self.weights:
            put(self.weights, model)

    def state(self) -> Tensors:
        scalars = {"best": torch.tensor(self.best, dtype=torch.float64), "waited": torch.tensor(self.waited)}
        return scalars | join({"weights": self.weights})

    def restore(self, state: Tensors) -> None:
        self.best, self.waited = float(state["best"]), int(state["waited"])
        self.weights = part(state, "weights")
