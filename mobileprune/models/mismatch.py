"""Why weights do not fit a model, in words: names and shapes that differ, and what that usually means."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mobileprune.tensors import Tensors

NAMED = 3
Shapes = dict[str, tuple[int, ...]]
Pairs = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


def mismatch(weights: Tensors, model: nn.Module, others: Mapping[str, nn.Module]) -> str:
    """What differs, and the way out where it is known; "" where names and shapes agree.

    ``others``: models by name that the weights may be meant for instead.
    """
    theirs, ours = _shapes(weights), _shapes(model.state_dict())
    differing = _differing(theirs, ours)
    sizes = [f"{name} {_size(a)} (the model's: {_size(b)})" for name, (a, b) in differing.items()]
    parts = [
        *_listed("it lacks", [name for name in ours if name not in theirs]),
        *_listed("the model has no", [name for name in theirs if name not in ours]),
        *_listed("other shapes:", sizes),
    ]
    for name, other in others.items():
        shapes = _shapes(other.state_dict())
        if shapes.keys() == theirs.keys() and (
            shapes.keys() != ours.keys() or _far(_differing(theirs, shapes)) < _far(differing)
        ):
            parts.append(f"it looks like weights of --model {name}")
            differing = _differing(theirs, shapes)
    return "; ".join([*parts, *_of_the_data(differing)])


def _shapes(tensors: Mapping[str, object]) -> Shapes:
    return {name: tuple(getattr(tensor, "shape", ())) for name, tensor in tensors.items()}


def _differing(theirs: Shapes, ours: Shapes) -> Pairs:
    return {name: (theirs[name], ours[name]) for name in ours if theirs.get(name, ours[name]) != ours[name]}


def _far(differing: Pairs) -> int:
    """Axes in which shapes differ."""
    return sum(abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b, strict=False)) for a, b in differing.values())


def _of_the_data(differing: Pairs) -> list[str]:
    """What else the data were, where only rows of the last layer and columns of the first differ."""
    rows = {(a[0], b[0]) for a, b in differing.values() if a and b and a[1:] == b[1:]}
    columns = [(a[1], b[1]) for a, b in differing.values() if len(a) == len(b) == 4 and a[:1] + a[2:] == b[:1] + b[2:]]
    if len(rows) > 1 or len(columns) > 1 or len(differing) > 2 * len(rows) + len(columns):
        return []
    found = [f"the checkpoint is for {a} classes, the data have {b}" for a, b in rows]
    return found + [f"the checkpoint is for images of {a} channels, the data have {b}" for a, b in columns]


def _listed(what: str, found: list[str]) -> list[str]:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return [f"{what} {', '.join(found[:NAMED])}{more}"] if found else []


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
