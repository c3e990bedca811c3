r"""ADMM weight pruning (Zhang et al., arXiv 1804.03294) and MIA-Pruning, our reconstruction of arXiv 2008.13578.

    min_W  L_D(f_W) + lambda * max_h G(h)    s.t.  W in S: at most l_i units in site i

ADMM splits the constraint off into Z with the scaled dual U:

    W-step  min_W  L + lambda * G + rho/2 ||W - Z + U||^2      (epochs of Adam)
    Z-step  Z = proj_S(W + U)
    U-step  U = U + W - Z;   rho grows by a factor c, and the scaled dual shrinks with it: U / c

U is the multiplier divided by rho, hence the last step (Boyd et al. 2011, section 3.4.1). The learning rate
does not decay in this stage: it would be gone when rho is at last large enough to pull W to Z. The paper's
full text (rho, schedule, lambda) was not available to us; these values are ours, chosen for W to reach Z.
Without a defence MIA-Pruning and plain ADMM are one algorithm; with ``minmax:LAMBDA`` it is "MIA-Pruning & Min-Max".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileprune.pruning.base import PruneTask
from mobileprune.pruning.masks import Masks
from mobileprune.resume import join, part
from mobileprune.tensors import Tensors
from mobileprune.training import Hook

RHO_FIRST, RHO_LAST = 1e-2, 10.0
EPOCHS_PER_UPDATE = 3


class Admm(Hook):
    """The quadratic pull towards Z and its updates; ``masks`` is the support of the current projection."""

    def __init__(self, task: PruneTask) -> None:
        self.space = task.space
        self.rho = RHO_FIRST
        epochs = task.recipe.search.epochs
        self.every = min(EPOCHS_PER_UPDATE, epochs)
        self.growth = (RHO_LAST / RHO_FIRST) ** (self.every / epochs)
        weights = task.weights()
        self.u = {name: torch.zeros_like(w) for name, w in weights.items()}
        self._project(weights)

    def _project(self, values: Tensors) -> None:
        """Z and its support; the masks may cover more (biases, normalisation) than the weights that decide."""
        self.masks = self.space.project(values)
        self.z = {name: value * self.masks[name] for name, value in values.items()}

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        squares = [(model.get_parameter(name) - self.z[name] + self.u[name]).square().sum() for name in self.z]
        return 0.5 * self.rho * torch.stack(squares).sum()

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if (epoch + 1) % self.every:
            return
        shifted = {name: model.get_parameter(name).detach() + u for name, u in self.u.items()}
        self._project(shifted)
        self.u = {name: (value - self.z[name]) / self.growth for name, value in shifted.items()}
        self.rho *= self.growth

    def state(self) -> Tensors:
        scalars = {"rho": torch.tensor(self.rho, dtype=torch.float64)}
        return scalars | join({"u": self.u, "z": self.z, "mask": self.masks})

    def restore(self, state: Tensors) -> None:
        self.rho = float(state["rho"])
        self.u, self.z, self.masks = (part(state, name) for name in ("u", "z", "mask"))


def admm(task: PruneTask) -> Masks:
    """ADMM on ``task.model`` in place; the masks are the support of the final Z."""
    hook = Admm(task)
    task.fit("ADMM", task.recipe.search, [hook])
    return hook.masks
