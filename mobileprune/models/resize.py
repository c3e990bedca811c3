"""A network whose channels were removed, without the analysis that removed them: its weights' shapes are enough.

A freshly built network has the original sizes; layers take the sizes of the smaller weights, never larger ones. Files
of strangers come this way, so what the shapes and the list of removed channels say is checked, not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.errors import CheckpointError, one_line
from mobileprune.models.checkpoint import fill
from mobileprune.tensors import Tensors

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Norm = nn.modules.batchnorm._NormBase  # batch and instance normalisation
RESIZABLE = Conv | nn.Linear | Norm | nn.PReLU
CONTAINERS = nn.ParameterList | nn.ParameterDict
RemovedChannels = dict[str, list[int]]
"""Weight name -> the output channels that were removed, ascending, as the original network counts them."""
AGAIN = "make it again with `mobileprune prune`"


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def resize(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """Give parameters and buffers of ``model`` the ``shapes``, in place; their values are undefined until loaded.

    A shape has as many dimensions as the original's, each from 1 to the original; of convolution and linear weights
    only output and input channels may differ. CheckpointError otherwise, and for layers of torch whose channels
    pruning never removes.
    """
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    made: dict[Tensor, Tensor] = {}  # tied weights stay tied
    for name, old in tensors:
        new = shapes.get(name, tuple(old.shape))
        if new == tuple(old.shape):
            continue
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        _check(name, owner, tuple(old.shape), new)
        if old not in made:
            empty = torch.empty(new, dtype=old.dtype, device=old.device)
            made[old] = nn.Parameter(empty, old.requires_grad) if isinstance(old, nn.Parameter) else empty
        setattr(owner, leaf, made[old])
        _tell(owner)
    return model


def refit(model: nn.Module, weights: Tensors, x: Tensor, what: str) -> Any:
    """Resize ``model`` to ``weights`` and load them, in place and in eval mode; its output for ``x`` (N, C, H, W).

    CheckpointError, beginning with ``what``, where they do not make a network that works.
    """

    def told(layer: Norm, inputs: tuple[Tensor, ...]) -> None:
        layer.num_features = inputs[0].shape[1]

    fill(resize(model, shapes_of(weights)), weights, what).eval()
    # Instance norm without a scale warns about another size than its own, which no weight gives away.
    unsized = (m for m in model.modules() if isinstance(m, Norm) and not m.affine and not m.track_running_stats)
    hooks = [m.register_forward_pre_hook(told) for m in unsized]
    try:
        with torch.no_grad():
            return model(x)
    except Exception as error:  # shapes that do not go together, in any code of the user's
        raise CheckpointError(f"{what} makes no network that works ({one_line(error, kind=True)}); {AGAIN}") from error
    finally:
        for hook in hooks:
            hook.remove()


def check_removed(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], removed: RemovedChannels) -> None:
    """CheckpointError unless ``removed`` says how the output channels of ``model``, the original, became ``shapes``.

    For the weight of every convolution and linear layer: original channels = removed + stored.
    """
    layers = {f"{path}.weight".lstrip("."): m for path, m in model.named_modules()}
    originals = {name: len(m.weight) for name, m in layers.items() if isinstance(m, Conv | nn.Linear)}
    for name in removed:
        if name not in originals:
            raise CheckpointError(f"removed_channels: {name!r} is no weight of a convolution or linear layer; {AGAIN}")
    for name, original in originals.items():
        gone, stored = removed.get(name, []), shapes.get(name, (0,))[:1]
        if len(set(gone)) < len(gone) or not all(0 <= channel < original for channel in gone):
            raise CheckpointError(
                f"removed_channels of {name}: must be different numbers from 0 to {original - 1}, its channels in the "
                f"original network; {AGAIN}"
            )
        if stored != (original - len(gone),):
            raise CheckpointError(
                f"{name}: {len(gone)} of {original} output channels are removed, but the weights have shape "
                f"{list(shapes.get(name, ()))}; {AGAIN}"
            )


def _check(name: str, owner: nn.Module, old: tuple[int, ...], new: tuple[int, ...]) -> None:
    if len(new) != len(old) or not all(1 <= size <= most for size, most in zip(new, old, strict=True)):
        raise CheckpointError(
            f"{name}: the stored shape is {list(new)}, the original {list(old)}; a smaller network has as many "
            f"dimensions, each from 1 to the original; {AGAIN}"
        )
    if isinstance(owner, Conv | nn.Linear) and new[2:] != old[2:]:
        raise CheckpointError(
            f"{name}: the stored shape is {list(new)}, the original {list(old)}; only channels (the first two "
            f"dimensions) can be fewer; {AGAIN}"
        )
    if type(owner).__module__.startswith("torch.nn.") and not isinstance(owner, RESIZABLE | CONTAINERS):
        raise CheckpointError(
            f"{name}: the stored shape is {list(new)}, the original {list(old)}; channels of a "
            f"{type(owner).__name__} are never removed; {AGAIN}"
        )


def _tell(layer: nn.Module) -> None:
    """Set the sizes that a layer keeps beside its weights."""
    if isinstance(layer, Conv):
        # Groups stay equally large and as many, but in depthwise layers: there a channel is a group.
        layer.out_channels = len(layer.weight)
        layer.groups = min(layer.groups, layer.out_channels)
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, Norm):
        values = layer.weight if layer.affine else layer.running_mean
        layer.num_features = layer.num_features if values is None else len(values)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
