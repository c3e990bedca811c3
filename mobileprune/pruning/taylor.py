r"""First-order saliency: what the loss would lose without a unit (Molchanov et al., arXiv 1906.10771, section 3.1).

    saliency(w) = sqrt(mean over batches of (w * dL/dw)^2)

A unit's score is the root mean square of its weights' saliencies. ``taylor`` measures L on the members.
``taylor-reference`` measures it on the reference set, so a weight that only members need counts as useless:
what memorises goes first. (Ours, after the observation of arXiv 2202.03335 that pruning can deepen memories.)
"""

from __future__ import annotations

import torch
from torch.nn import functional

from mobileprune.pruning.base import PruneTask
from mobileprune.pruning.masks import Masks
from mobileprune.tensors import Tensors
from mobileprune.training import Examples


def taylor(task: PruneTask) -> Masks:
    return task.space.project(saliency(task, task.members))


def taylor_reference(task: PruneTask) -> Masks:
    return task.space.project(saliency(task, task.reference))


def saliency(task: PruneTask, examples: Examples) -> Tensors:
    """Parameter name -> saliency, of its shape; in eval mode, over batches in order."""
    model, names = task.model.eval(), task.space.parameters
    weights = [model.get_parameter(name) for name in names]
    totals = [torch.zeros_like(w) for w in weights]
    batches = torch.arange(len(examples)).split(task.recipe.retrain.batch_size)
    for batch in batches:
        loss = functional.cross_entropy(model(examples.inputs(batch)), examples.y[batch])
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        for total, weight, gradient in zip(totals, weights, gradients, strict=True):
            if gradient is not None:
                total += (weight * gradient).detach().square()
    return {name: (total / len(batches)).sqrt() for name, total in zip(names, totals, strict=True)}
