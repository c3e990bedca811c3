r"""MIA-Pruning: ADMM weight pruning with an optional min-max gain (our reconstruction of arXiv 2008.13578).

    min_W  L_D(f_W) + lambda * max_h G(h)    s.t.  card(W_i) <= l_i

ADMM splits the constraint off into Z_i with the scaled dual U_i:

    W-step  min_W  L + lambda * G + sum_i rho/2 ||W_i - Z_i + U_i||^2      (epochs of Adam)
    Z-step  Z_i = proj(W_i + U_i)
    U-step  U_i = U_i + W_i - Z_i;   rho grows by a factor c, and the scaled dual shrinks with it: U_i / c

U is the multiplier divided by rho, hence the last step (Boyd et al. 2011, section 3.4.1). The learning rate
does not decay in this stage: it would be gone when rho is at last large enough to pull W to Z. The paper's
full text (rho, schedule, lambda) was not available to us; these values are ours, chosen for W to reach Z.
lambda = 0 is "MIA-Pruning", lambda > 0 "MIA-Pruning & Min-Max".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobileprune.pruning.base import PruneRecipe, PruneTask
from mobileprune.pruning.masks import Masks, project, prunable
from mobileprune.resume import join, part
from mobileprune.tensors import Tensors
from mobileprune.training import Hook

RHO_FIRST, RHO_LAST = 1e-2, 10.0
EPOCHS_PER_UPDATE = 3


class Admm(Hook):
    """The quadratic pull towards Z and its updates; ``masks`` is the support of the current projection."""

    def __init__(self, model: nn.Module, recipe: PruneRecipe) -> None:
        self.recipe = recipe
        self.names = list(prunable(model, recipe.keep_dense))
        self.rho = RHO_FIRST
        self.every = min(EPOCHS_PER_UPDATE, recipe.admm.epochs)
        self.growth = (RHO_LAST / RHO_FIRST) ** (self.every / recipe.admm.epochs)
        weights = self._weights(model)
        self.u = {name: torch.zeros_like(w) for name, w in weights.items()}
        self.masks = project(weights, recipe.sparsity, recipe.scope)
        self.z = {name: w * self.masks[name] for name, w in weights.items()}

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        return {name: model.get_parameter(name).detach().clone() for name in self.names}

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        squares = [(model.get_parameter(name) - self.z[name] + self.u[name]).square().sum() for name in self.names]
        return 0.5 * self.rho * torch.stack(squares).sum()

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        if (epoch + 1) % self.every:
            return
        weights = self._weights(model)
        shifted = {name: w + self.u[name] for name, w in weights.items()}
        self.masks = project(shifted, self.recipe.sparsity, self.recipe.scope)
        self.z = {name: s * self.masks[name] for name, s in shifted.items()}
        self.u = {name: (shifted[name] - self.z[name]) / self.growth for name in weights}
        self.rho *= self.growth

    def state(self) -> Tensors:
        scalars = {"rho": torch.tensor(self.rho, dtype=torch.float64)}
        return scalars | join({"u": self.u, "z": self.z, "mask": self.masks})

    def restore(self, state: Tensors) -> None:
        self.rho = float(state["rho"])
        self.u, self.z, self.masks = (part(state, name) for name in ("u", "z", "mask"))


def mia(task: PruneTask) -> Masks:
    """ADMM on ``task.model`` in place; the masks are the support of the final Z."""
    admm = Admm(task.model, task.recipe)
    task.fit("ADMM", task.recipe.admm, [admm])
    return admm.masks
