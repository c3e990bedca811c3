"""Exports for the linter, and what it finds in a file."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from support.networks import made
from torch import nn

from mobileprune.convert.fold_bn import fold_bn
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.lint import Finding, any_file, findings_of

SHAPE = (3, 8, 8)
IMAGES = np.random.default_rng(0).random((6, *SHAPE), np.float32)


@functools.cache
def exported(case: str, target: str, sparsity: float = 0.0, form: str = "dense", precision: str = "fp32") -> bytes:
    model, shape = made(case)
    for module in model.modules():
        if sparsity and isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            weight[weight.abs() < weight.abs().quantile(sparsity)] = 0
    options = ExportOptions(sparse_format=form, precision=precision, calibration=torch.rand(6, *shape))
    with tempfile.TemporaryDirectory() as folder:
        TARGETS[target].write(fold_bn(model), shape, Path(folder) / "file", options)
        return (Path(folder) / "file").read_bytes()


def findings(content: bytes, paths: Iterable[str] | None = None) -> list[str]:
    """Texts in ``content`` that no file may hold, sorted; ``paths``: instead of this machine's."""
    own = any_file.here() if paths is None else {"path": tuple(map(re.escape, paths))}
    return sorted({text for rules in (any_file.RULES, own) for _, text in any_file.matches(content, rules)})


def found(
    content: bytes, folder: Path, suffix: str = ".onnx", shape: tuple[int, int, int] | None = SHAPE
) -> list[Finding]:
    (folder / f"model{suffix}").write_bytes(content)
    return findings_of(folder / f"model{suffix}", shape)
