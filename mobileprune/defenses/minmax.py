r"""The min-max game of Nasr, Shokri and Houmansadr (CCS 2018, arXiv 1807.05852, section 3).

An inference model h(f(x), y) in (0, 1) learns to tell members D from reference examples D':

    G(h) = 1/2 E_D[log h(f(x), y)] + 1/2 E_D'[log(1 - h(f(x), y))]

and the classifier minimises its loss plus lambda * G. h takes K ascent steps before *every* classifier step.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.resume import join, load_optimizer_tensors, optimizer_tensors, part
from mobileprune.seeding import stream
from mobileprune.tensors import Tensors
from mobileprune.training import Examples, Hook

ASCENT_STEPS = 7
POOL = 2


class InferenceModel(nn.Module):
    """h: probabilities C -> 1024 -> 512 -> 64 and one-hot label C -> 512 -> 64, joined 128 -> 256 -> 64 -> 1."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.outputs = _relu_layers(num_classes, 1024, 512, 64)
        self.label = _relu_layers(num_classes, 512, 64)
        self.joined = nn.Sequential(_relu_layers(128, 256, 64), nn.Linear(64, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """(N, C) logits, (N,) labels -> (N,) logit of "is a member"."""
        one_hot = functional.one_hot(y, self.num_classes).to(logits.dtype)
        both = torch.cat([self.outputs(logits.softmax(1)), self.label(one_hot)], 1)
        return self.joined(both).squeeze(1)  # type: ignore[no-any-return]


def _relu_layers(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())])


class MinMax(Hook):
    """``members`` D and ``reference`` D' are what h learns from; the penalty concerns the classifier's own batch."""

    def __init__(self, members: Examples, reference: Examples, num_classes: int, *, lam: float, seed: int) -> None:
        self.members, self.reference, self.lam = members, reference, lam
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "inference model"))
            self.h = InferenceModel(num_classes)
        self.optimizer = torch.optim.Adam(self.h.parameters(), lr=1e-3, fused=True)

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """K ascent steps on G, each with a batch of D and one of D' of the size of ``x``."""
        sides = [_draws(model, side, len(y), rng) for side in (self.members, self.reference)]
        for (inside, y_inside), (outside, y_outside) in zip(*sides, strict=True):
            guesses = self.h(torch.cat([inside, outside]), torch.cat([y_inside, y_outside]))
            is_member, is_reference = guesses.split([len(inside), len(outside)])
            gain = 0.5 * functional.logsigmoid(is_member).mean() + 0.5 * functional.logsigmoid(-is_reference).mean()
            self.optimizer.zero_grad()
            (-gain).backward()
            self.optimizer.step()

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        """lambda times the part of G that depends on f's outputs on members."""
        return self.lam * 0.5 * functional.logsigmoid(self.h(logits, y)).mean()

    def state(self) -> Tensors:
        return join({"h": self.h.state_dict(), "optimizer": optimizer_tensors(self.optimizer)})

    def restore(self, state: Tensors) -> None:
        self.h.load_state_dict(part(state, "h"))
        load_optimizer_tensors(self.optimizer, part(state, "optimizer"))


@torch.no_grad()
def _draws(model: nn.Module, examples: Examples, count: int, rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """K batches of (logits, labels), as an attacker gets them: in eval mode.

    Random subsets of a fresh pool of POOL batches, so that the classifier answers POOL batches a step and not K. (In
    training mode the reference set would also enter the running statistics of batch normalisation.)
    """
    count = min(count, len(examples))
    pool = torch.randperm(len(examples), generator=rng)[: POOL * count]
    training = model.training
    logits, y = model.eval()(examples.inputs(pool)), examples.y[pool]
    model.train(training)
    picks = [torch.randperm(len(pool), generator=rng)[:count] for _ in range(ASCENT_STEPS)]
    return [(logits[pick], y[pick]) for pick in picks]
