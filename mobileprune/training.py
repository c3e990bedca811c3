"""The one training loop. Objectives and constraints plug in as hooks; a checkpoint makes it resumable.

Every epoch draws its order from its own random stream, so a run that was killed and resumed ends with
the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobileprune.errors import MobilepruneError
from mobileprune.resume import Checkpoint, restore, save
from mobileprune.seeding import stream, torch_rng

BATCH = 512
"""Of inputs that are predicted."""
LEAST_MOMENTUM = 0.1
"""Of batch normalisation, while it trains: PyTorch's default. Some architectures have 0.01 or less, with which running
statistics are those of the beginning for hundreds of steps, and hooks that ask in eval mode meet another network."""
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total) after every epoch."""


@dataclass(frozen=True)
class Examples:
    """``x`` (M, C, H, W): uint8 pixels that become (x / 255 - mean) / std, or float32 that is normalised already.

    ``rows`` (N,) int64: which of ``x``, that may be larger than memory, are the examples; None: all, in their order.
    ``y``: (N,) int64 labels, or (N, K) float32 probabilities to be imitated. ``mean`` and ``std``: (C, 1, 1) float32.
    """

    x: Tensor
    y: Tensor
    mean: Tensor | float = 0.0
    std: Tensor | float = 1.0
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Tensor) -> Examples:
        """Those at ``indices`` (n,)."""
        return replace(self, y=self.y[indices], rows=self._rows(indices))

    def inputs(self, indices: Tensor) -> Tensor:
        """Normalised inputs (n, C, H, W) float32 of those at ``indices`` (n,)."""
        x = self.x[self._rows(indices)]
        return (x.float() / 255 - self.mean) / self.std if x.dtype == torch.uint8 else x

    def split(self, size: int) -> Iterator[Tensor]:
        """The inputs of all, ``size`` at a time, as :meth:`torch.Tensor.split` gives them."""
        return map(self.inputs, torch.arange(len(self)).split(size))

    def _rows(self, indices: Tensor) -> Tensor:
        return indices if self.rows is None else self.rows[indices]


@dataclass(frozen=True)
class Recipe:
    """Adam; ``lr`` falls to 0 along a cosine, or stays as it is with ``decay`` False. ``augment``: as in the config."""

    epochs: int
    lr: float = 1e-3
    batch_size: int = 64
    decay: bool = True
    augment: str = "none"


class Hook:
    """What a method adds to the loop; every part is optional."""

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, count: int
    ) -> torch.optim.Optimizer:
        """Before the first of ``count`` examples: the optimiser to use."""
        return optimizer

    def batches(self, count: int, batch_size: int, rng: torch.Generator) -> Iterable[Tensor] | None:
        """The indices of each step of an epoch, where they are not simply all in random order."""
        return None

    def before_step(self, model: nn.Module, x: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """Before the step on the batch (x, y): for an adversary that learns first."""

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor | None:
        """A scalar added to the cross-entropy."""
        return None

    def after_step(self, model: nn.Module) -> None:
        """After the optimiser's step: for projections such as a frozen mask."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """``epoch`` counts from 0."""

    def finished(self) -> bool:
        """True ends the stage after this epoch."""
        return False

    def at_end(self, model: nn.Module) -> None:
        """Once, after the last epoch."""

    def state(self) -> dict[str, Tensor]:
        """All that resuming needs; scalars as 0-d tensors."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""


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
    model.train()
    momenta = {m: m.momentum for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    for norm, momentum in momenta.items():
        norm.momentum = max(momentum or 0.0, LEAST_MOMENTUM)  # None: the average since the beginning
    # glibc keeps as much freed memory as the largest block that was freed, up to 32 MiB. After small ones it would give
    # the memory of each batch back to the system, and ask for it again: a fifth of the time of LeNet-5.
    torch.empty(31 * 2**20, dtype=torch.uint8)
    optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    for hook in hooks:
        optimizer = hook.attach(model, optimizer, recipe, len(examples))
    start = restore(checkpoint, model, optimizer, hooks) if checkpoint else 0
    if any(hook.finished() for hook in hooks):  # killed between its last epoch and its end
        start = recipe.epochs
    saved = time.monotonic()
    for epoch in range(start, recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * (0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs)) if recipe.decay else 1.0)
        with torch.random.fork_rng(devices=[]):  # dropout and the like draw from torch's own generator
            torch.manual_seed(stream(seed, what, epoch, "layers"))
            total = _epoch(model, examples, optimizer, recipe, hooks, torch_rng(seed, what, epoch))
        if not math.isfinite(total):
            raise MobilepruneError(f"{what}: the loss became {total} in epoch {epoch + 1}; lower --lr")
        for hook in hooks:
            hook.after_epoch(model, epoch)
        if checkpoint and time.monotonic() - saved >= checkpoint.every_secs:
            save(checkpoint, model, optimizer, hooks, epoch + 1)
            saved = time.monotonic()
        if progress:
            progress(what, epoch + 1, recipe.epochs)
        if any(hook.finished() for hook in hooks):
            break
    for hook in hooks:
        hook.at_end(model)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    return model.eval()


def _epoch(
    model: nn.Module,
    examples: Examples,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    hooks: Sequence[Hook],
    rng: torch.Generator,
) -> float:
    """One pass in random order; returns the sum of the batches' losses."""
    total = torch.zeros(())
    own = [b for hook in hooks if (b := hook.batches(len(examples), recipe.batch_size, rng)) is not None]
    for batch in own[0] if own else _shuffled(len(examples), recipe.batch_size, rng):
        x, y = augment(examples.inputs(batch), recipe.augment, rng), examples.y[batch]
        for hook in hooks:
            hook.before_step(model, x, y, rng)
        logits = model(x)
        loss = functional.cross_entropy(logits, y) if len(y) else logits.sum()  # Poisson sampling may draw none
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


def _shuffled(count: int, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
    for batch in torch.randperm(count, generator=rng).split(batch_size):
        if len(batch) > 1 or count == 1:  # batch normalisation has no variance over one example
            yield batch


def augment(x: Tensor, kind: str, rng: torch.Generator) -> Tensor:
    """A random crop of each image, padded by an eighth of its size with the mean colour, and mirroring of half of them.

    ``kind``: "none", "flip", "crop" or "crop-flip".
    """
    count, _, height, width = x.shape
    if "crop" in kind:
        pad = max(height, width) // 8
        padded = functional.pad(x, (pad, pad, pad, pad))
        top, left = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=rng)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        images, channels = torch.arange(count)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None]
        x = padded[images, channels, rows[:, None, :, None], columns[:, None, None, :]]
    if "flip" in kind:
        mirrored = torch.rand(count, generator=rng) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x


@torch.no_grad()
def predict(model: nn.Module, x: Tensor | Examples, batch_size: int = BATCH) -> Tensor:
    """Logits (N, K) float32 in eval mode, of inputs or of examples."""
    model.eval()
    return torch.cat([model(part) for part in x.split(batch_size)])
