"""What the tests of pruning share: a tiny network, its data, its pruning task, and what each pattern allows."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mobileprune.pruning import METHODS, PruneRecipe, PruneTask, Space, SpaceOptions, prune
from mobileprune.pruning.masks import Masks
from mobileprune.pruning.patterns import Blocks, Filters, NOfM, Site, Weights
from mobileprune.training import Examples, Recipe

CLASSES, SHAPE = 3, (1, 4, 4)
PATTERNS = ("unstructured", "block:2x1", "block:4x1", "block:8x1", "block:16x1", "1:2", "2:4", "1:4", "filter")
State = dict[str, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(96, CLASSES),
    )


def examples(seed: int, count: int = 40) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    return Examples(torch.randn(count, *SHAPE, generator=rng), torch.randint(0, CLASSES, (count,), generator=rng))


def space(model: nn.Module, **options: Any) -> Space:
    return Space.of(model, SpaceOptions(**{"sparsity": 0.8, "round_to": 1, **options}), torch.zeros(2, *SHAPE))


RECIPE = {"search": Recipe(3, decay=False), "retrain": Recipe(2)}
TASK = ("members", "seed", "progress", "checkpoint")


def task(model: nn.Module, *, reference: int = 2, **options: Any) -> PruneTask:
    """``options``: of the task, its recipe or its space."""
    recipe = {key: options.pop(key) for key in ("search", "retrain", "defense") if key in options}
    places = {"members": examples(1), "seed": 0} | {key: options.pop(key) for key in TASK if key in options}
    return PruneTask(
        model=model,
        reference=examples(reference),
        num_classes=CLASSES,
        space=space(model, **options),
        recipe=PruneRecipe(**RECIPE | recipe),
        **places,
    )


def pruned(name: str, **options: Any) -> State:
    """The weights of the tiny network after pruning it."""
    model = network()
    prune(task(model, **options), METHODS[name])
    return model.state_dict()


def site(pattern: str, name: str, shape: tuple[int, ...]) -> Site:
    kind, _, size = pattern.partition(":")
    if kind == "block":
        return Blocks(name, shape, int(size.removesuffix("x1")))
    if kind.isdecimal():
        return NOfM(name, shape, int(kind), int(size))
    return Filters(name, shape, None) if kind == "filter" else Weights(name, shape)


def units(pattern: str, shape: tuple[int, ...]) -> list[list[int]]:
    """The flat positions of the weights of each unit."""
    positions = np.arange(np.prod(shape)).reshape(shape)
    kind, _, size = pattern.partition(":")
    if kind == "filter":
        return [row.flatten().tolist() for row in positions]
    rows = int(size.removesuffix("x1")) if kind == "block" else 1
    return [
        [int(positions[row, *where]) for row in range(first, min(first + rows, shape[0]))]
        for first in range(0, shape[0], rows)
        for where in np.ndindex(*shape[1:])
    ]


def ruled_out(pattern: str, array: NDArray[Any]) -> set[int]:
    """Flat positions that are not among the N largest of their M input channels, the first winning a tie."""
    kind, _, size = pattern.partition(":")
    positions, out = np.arange(array.size).reshape(array.shape), set[int]()
    if not kind.isdecimal():
        return out
    for row in range(array.shape[0]):
        for where in np.ndindex(*array.shape[2:]):
            for first in range(0, array.shape[1], int(size)):
                group = range(first, first + int(size))
                ranked = sorted(group, key=lambda c: (-abs(array[row, c, *where]), c))
                out |= {int(positions[row, c, *where]) for c in ranked[int(kind) :]}
    return out


def scores(pattern: str, array: NDArray[Any]) -> list[Fraction]:
    """The mean square of each unit of whole numbers, exactly; -1 for what is ruled out."""
    flat, out = array.ravel().tolist(), ruled_out(pattern, array)
    return [
        Fraction(-1) if set(unit) & out else Fraction(sum(int(flat[i]) ** 2 for i in unit), len(unit))
        for unit in units(pattern, array.shape)
    ]


def violations(pattern: str, masks: Masks) -> list[str]:
    """Where masks are none of the pattern's."""
    found = []
    for name, mask in masks.items():
        flat, shape = mask.flatten().tolist(), tuple(mask.shape)
        if len(shape) < 2:  # a bias
            continue
        whole = all(len({flat[i] for i in unit}) == 1 for unit in units(pattern, shape))
        kind, _, size = pattern.partition(":")
        if kind.isdecimal():
            groups = mask.movedim(1, -1).reshape(-1, int(size)).sum(1)
            whole = not (groups > int(kind)).any()
        found += [] if whole else [name]
    return found
