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

from mobileprune.seeding import stream
from mobileprune.training import Examples, Hook

ASCENT_STEPS = 7


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
    def __init__(self, reference: Examples, num_classes: int, *, lam: float, seed: int) -> None:
        self.reference, self.lam = reference, lam
        with torch.random.fork_rng():
            torch.manual_seed(stream(seed, "inference model"))
            self.h = InferenceModel(num_classes)
        self.optimizer = torch.optim.Adam(self.h.parameters(), lr=1e-3)

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """K ascent steps on G with this batch of members and fresh batches of the reference set."""
        count = min(len(y), len(self.reference))
        draws = [torch.randperm(len(self.reference), generator=rng)[:count] for _ in range(ASCENT_STEPS)]
        joined = torch.cat(draws)
        with torch.no_grad():
            inside = model(x)
            outside = model(self.reference.x[joined]).split(count)
        for draw, logits in zip(draws, outside, strict=True):
            gain = 0.5 * functional.logsigmoid(self.h(inside, y)).mean()
            gain = gain + 0.5 * functional.logsigmoid(-self.h(logits, self.reference.y[draw])).mean()
            self.optimizer.zero_grad()
            (-gain).backward()
            self.optimizer.step()

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor:
        """lambda times the part of G that depends on f's outputs on members."""
        return self.lam * 0.5 * functional.logsigmoid(self.h(logits, y)).mean()

    def state(self) -> dict[str, Tensor]:
        tensors = {f"h/{key}": value for key, value in self.h.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
        return tensors

    def restore(self, state: dict[str, Tensor]) -> None:
        self.h.load_state_dict({key[2:]: value for key, value in state.items() if key.startswith("h/")})
        saved = self.optimizer.state_dict()
        for index in range(len(list(self.h.parameters()))):
            prefix = f"optimizer/{index}/"
            part = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
            if part:
                saved["state"][index] = part
        self.optimizer.load_state_dict(saved)
