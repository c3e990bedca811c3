"""PPB against its formula: sorted outputs, in pairs, Kullback-Leibler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileprune.defenses.ppb import Ppb

MODEL = nn.Identity()


def slowly(z: np.ndarray, alpha: float) -> float:
    """Pair i: example i of the first half with example i of the second; an odd one is left out."""
    half, total = len(z) // 2, 0.0
    for i in range(half):
        p, q = (sorted((np.exp(v) / np.exp(v).sum()).tolist(), reverse=True) for v in (z[i], z[half + i]))
        total += sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    return alpha * total / half


@settings(max_examples=80)
@given(st.integers(2, 9), st.integers(2, 6), st.floats(0, 10), st.integers(0, 99))
def test_the_penalty_is_the_formula(count: int, classes: int, alpha: float, seed: int) -> None:
    z = np.random.default_rng(seed).normal(0, 2, (count, classes))
    found = Ppb(alpha).penalty(MODEL, torch.tensor(z), torch.zeros(count, dtype=torch.int64))
    assert float(found) == pytest.approx(slowly(z, alpha), rel=1e-9, abs=1e-12)


def test_only_the_sorted_outputs_count() -> None:
    z = torch.tensor([[3.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    assert float(Ppb(4.0).penalty(MODEL, z, torch.tensor([0, 1]))) == pytest.approx(0, abs=1e-7)


def test_a_lone_example_has_no_pair() -> None:
    assert Ppb(4.0).penalty(MODEL, torch.zeros(1, 3), torch.tensor([0])) is None


def test_descent_makes_the_outputs_alike() -> None:
    z = torch.tensor([[6.0, 0.0, 0.0], [0.5, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([0, 0])
    before = Ppb(1.0).penalty(MODEL, z, y).item()
    optimizer = torch.optim.SGD([z], lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        Ppb(1.0).penalty(MODEL, z, y).backward()
        optimizer.step()
    assert Ppb(1.0).penalty(MODEL, z, y).item() < 0.1 * before


def test_sure_outputs_have_finite_penalty_and_gradient() -> None:
    z = torch.tensor([[300.0, 0.0], [0.0, 0.1]], requires_grad=True)
    penalty = Ppb(4.0).penalty(MODEL, z, torch.tensor([0, 1]))
    penalty.backward()
    assert penalty.isfinite()
    assert z.grad.isfinite().all()
