"""torchvision's families to both targets, pruned to 90 % of single weights and to half of their channels.

Of the four combinations, two of each network that together have both targets and both kinds of pruning: how a target
writes a layer does not depend on why its weights are as they are. The two largest have one each, of channels: to
pack 60 million single weights takes a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.runtimes import opened
from torch import Tensor, nn

from mobileprune import models
from mobileprune.convert.fold_bn import fold_bn, neutralise_dead_channels, reestimate
from mobileprune.convert.shrink import shrink
from mobileprune.errors import MobilepruneError
from mobileprune.export import ExportOptions, target
from mobileprune.export.lint import lint
from mobileprune.pruning import Space, SpaceOptions
from mobileprune.pruning.masks import apply_masks

SHAPE = (3, 64, 64)
QUICK = "squeezenet1_1"
LARGEST = {"alexnet": ("onnx", "channel"), "vit_b_16": ("torchscript-lite", "channel")}
NETWORKS = (
    *(QUICK, "mobilenet_v3_small", "mobilenet_v2", "shufflenet_v2_x1_0", "resnet18", "efficientnet_b0"),
    *("regnet_x_400mf", "densenet121", "googlenet", "convnext_tiny", "swin_t", *LARGEST),
)
COMBINATIONS = [(kind, pattern) for kind in ("onnx", "torchscript-lite") for pattern in ("unstructured", "channel")]
REFUSED = {
    ("shufflenet_v2_x1_0", "channel"): "is beyond torch-pruning",
}
"""(name, pattern or target) -> what the refusal says."""


def cases() -> Iterator[Any]:
    """(name, target, pattern)."""
    first, second, third, last = COMBINATIONS
    for which, name in enumerate(NETWORKS):
        chosen = [first, last] if which % 2 else [second, third]
        if name == QUICK or (name, "channel") in REFUSED:
            chosen = COMBINATIONS
        elif name in LARGEST:
            chosen = [LARGEST[name]]
        for kind, pattern in chosen:
            yield pytest.param(name, kind, pattern, marks=() if name == QUICK else pytest.mark.long)


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 4 - 2


@cache
def pruned(name: str, pattern: str) -> nn.Module:
    """With weights and statistics that are not those it starts with: zeros would agree with anything."""
    model = models.build(f"torchvision:{name}", num_classes=10, input_shape=SHAPE, seed=0)
    rng = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if float(parameter.detach().std(unbiased=False)) < 1e-3:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=rng) + parameter.detach().mean()
    channels = 0.5 if pattern == "channel" else None
    space = Space.of(model, SpaceOptions(0.9, pattern, channels), images(2, 2))
    masks = space.project({n: model.get_parameter(n).detach() for n in space.parameters})
    apply_masks(model, masks)
    neutralise_dead_channels(reestimate(model, images(16, 3)))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # untrained, it would amplify rounding until float32 is off by 1e-4
            norm.running_var.clamp_(min=0.01)
    return shrink(model, space.sites, masks, images(2, 4))[0].eval()


@pytest.mark.parametrize(("name", "kind", "pattern"), list(cases()))
def test_the_file_computes_what_the_pruned_model_computes(tmp_path: Path, name: str, kind: str, pattern: str) -> None:
    refused = ""
    try:
        model = pruned(name, pattern)
        storage = target(kind).write(fold_bn(model), SHAPE, tmp_path / "m", ExportOptions())
    except MobilepruneError as error:
        refused = str(error)
    expected = [text for key, text in REFUSED.items() if key in ((name, pattern), (name, kind))]
    assert bool(refused) == bool(expected), refused
    if refused:
        assert any(text in refused for text in expected)
        return
    lint(tmp_path / "m", SHAPE)
    assert pattern == "channel" or storage.form == "packed"
    x = images(5, 6)
    manifest = {"input_shape": SHAPE, "num_classes": 10, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    runtime = opened((tmp_path / "m").read_bytes(), tmp_path, kind, **manifest)
    with torch.no_grad():
        expected_logits = model(x).numpy()
    for size in (1, 5):
        got = runtime.predict(x.numpy(), size)
        assert np.abs(got - expected_logits).max() <= 1e-4 * np.abs(expected_logits).max()
