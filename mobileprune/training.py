"""The one training loop. Objectives and constraints plug in as hooks; a checkpoint makes it resumable.

Every epoch draws its order from its own random stream, so a run that was killed and resumed ends with
the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.errors import MobilepruneError
from mobileprune.resume import Checkpoint, restore, save
from mobileprune.seeding import stream, torch_rng

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) after every epoch."""


@dataclass(frozen=True)
class Examples:
    """``x`` (N, C, H, W) float32, normalised; ``y`` (N,) int64."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


class Hook:
    """What a method adds to the loop; every part is optional."""

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """Before the step on the batch (x, y): for an adversary that learns first."""

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor | None:
        """A scalar added to the cross-entropy."""
        return None

    def after_step(self, model: nn.Module) -> None:
        """After the optimiser's step: for projections such as a frozen mask."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """``epoch`` counts from 0."""

    def state(self) -> dict[str, Tensor]:
        """All that resuming needs; scalars as 0-d tensors."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""


@dataclass(frozen=True)
class Recipe:
    """Adam; ``lr`` falls to 0 along a cosine, or stays where it is with ``decay`` False."""

    epochs: int
    lr: float = 1e-3
    batch_size: int = 64
    decay: bool = True


def fit(
    model: nn.Module,
    examples: Examples,
    recipe: Recipe,
    *,
    seed: int,
    what: str = "training",
    hooks: Sequence[Hook] = (),
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> nn.Module:
    """Minimise cross-entropy plus the hooks' penalties in place; returns the model in eval mode.

    Raises MobilepruneError when the loss is not finite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    start = restore(checkpoint, model, optimizer, hooks) if checkpoint else 0
    saved = time.monotonic()
    model.train()
    for epoch in range(start, recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs)) if recipe.decay else 1.0)
        with torch.random.fork_rng(devices=[]):  # dropout and the like draw from torch's own generator
            torch.manual_seed(stream(seed, what, epoch, "layers"))
            total = _epoch(model, examples, optimizer, recipe.batch_size, hooks, torch_rng(seed, what, epoch))
        if not math.isfinite(total):
            raise MobilepruneError(f"{what}: the loss became {total} in epoch {epoch + 1}; lower --lr")
        for hook in hooks:
            hook.after_epoch(model, epoch)
        if checkpoint and time.monotonic() - saved >= checkpoint.every_secs:
            save(checkpoint, model, optimizer, hooks, epoch + 1)
            saved = time.monotonic()
        if progress:
            progress(what, epoch + 1, recipe.epochs)
    return model.eval()


def _epoch(
    model: nn.Module,
    examples: Examples,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    hooks: Sequence[Hook],
    rng: torch.Generator,
) -> float:
    """One pass in random order; returns the sum of the batches' losses."""
    total = torch.zeros(())
    for batch in torch.randperm(len(examples), generator=rng).split(batch_size):
        if len(batch) == 1 and len(examples) > 1:
            continue  # batch normalisation has no variance over one example
        x, y = examples.x[batch], examples.y[batch]
        for hook in hooks:
            hook.before_step(model, x, y, rng)
        logits = model(x)
        loss = functional.cross_entropy(logits, y)
        for hook in hooks:
            penalty = hook.penalty(model, logits, y)
            if penalty is not None:
                loss = loss + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for hook in hooks:
            hook.after_step(model)
        total += loss.detach()
    return float(total)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int = 512) -> Tensor:
    """Logits (N, K) float32 in eval mode."""
    model.eval()
    return torch.cat([model(part) for part in x.split(batch_size)])
