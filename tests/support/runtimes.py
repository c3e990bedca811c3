"""What the tests of runtimes share: a tiny network, its manifest, and a way past the hash check."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mobileprune.artifact import Artifact, Manifest
from mobileprune.export import TARGETS
from mobileprune.runtimes import RUNTIMES, Runtime, open_runtime

SHAPE, MEAN, STD = (3, 4, 4), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
MANIFEST = Manifest(
    target="onnx",
    file="model",
    sha256="",
    size_bytes=0,
    input_shape=SHAPE,
    num_classes=4,
    mean=tuple(MEAN),
    std=tuple(STD),
    preprocessing_baked=False,
    labels=(),
    sparsity={},
    precision="fp32",
    storage={},
    parity={},
    lineage={},
    created="",
)


def opened(content: bytes, folder: Path, target: str, **changes: Any) -> Runtime:
    """A runtime for ``content``, as if its hash had been checked."""
    (folder / "model").write_bytes(content)
    return open_runtime(Artifact(folder, replace(MANIFEST, target=target, **changes)))


def pixels(count: int, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(size=(count, *shape)).astype(np.float32)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)).eval()


Files = dict[tuple[str, bool], bytes]
INSTALLED = [name for name in RUNTIMES if all(find_spec(package) for package in TARGETS[name].needs)]
each_target = pytest.mark.parametrize(
    "target",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in INSTALLED, reason=f"extra {name} is not installed"))
        for name in RUNTIMES
    ],
)
