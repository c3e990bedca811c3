"""Attacks on gradients: formulas on plain numbers, planted signals, and where there is nothing to see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, score
from mobileprune.attacks.file_attack import GRADIENT_NORM, GRADIENT_PROFILE, MASK_GRADIENT

ALL = {attack.name: attack for attack in (GRADIENT_NORM, GRADIENT_PROFILE, MASK_GRADIENT)}


def evidence(gradients: NDArray[np.float64] | None) -> Evidence:
    count = 4 if gradients is None else len(gradients)
    return Evidence(np.zeros((count, 3)), np.zeros(count, np.int64), gradients=gradients)


def skipped(gradients: NDArray[np.float64] | None, access: str = "file") -> dict[str, str]:
    found = evidence(gradients)
    none = np.zeros(len(found), bool)
    return dict(score(Outputs(found, none, none), ALL, access).skipped)  # type: ignore[arg-type]


def test_formulas_on_plain_numbers() -> None:
    found = evidence(np.array([[3.0, 4.0, 6.0, 8.0], [0.5, 2.0, 0.0, 1.0]]))
    expected = {
        "gradient_norm": [-math.log(5), -math.log(math.hypot(0.5, 2))],
        "gradient_profile": [-math.log(12), 0],
        "mask_gradient": [math.log(2), -math.log(math.hypot(0.5, 2))],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ALL[name].score(found), values, rtol=1e-12, atol=1e-15)


def test_planted_signals_are_found() -> None:
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    hardness = np.exp(rng.normal(0, 1, (400, 1)))
    noise = np.exp(rng.normal(0, 0.2, (400, 4)))
    flat = np.where(member[:, None], [0.2, 0.2, 0.2, 0.2], 1.0)
    masked = np.where(member[:, None], [0.5, 0.5, 1, 1], 1.0)
    for name, least in {"gradient_norm": 0.8, "gradient_profile": 0.8}.items():
        assert roc_auc_score(member, ALL[name].score(evidence(hardness * noise * flat))) > least
    signal = evidence(hardness * noise * masked)
    ratio, norm = (roc_auc_score(member, ALL[name].score(signal)) for name in ("mask_gradient", "gradient_norm"))
    assert ratio > 0.95 > norm, "how hard an image is cancels"


@pytest.mark.parametrize("name", ALL)
def test_extreme_norms_stay_finite(name: str) -> None:
    norms = np.array([[0.0, 0, 0, 0], [1e-300, 1e-300, 1e-300, 0], [1e300, 1e300, 1e300, 1e300]])
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(ALL[name].score(evidence(norms))).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("count", [0, 1])
def test_few_examples(name: str, count: int) -> None:
    assert ALL[name].score(evidence(np.ones((count, 2)))).shape == (count,)
    assert skipped(np.ones((count, 2))) == {}


def test_without_gradients_zeros_or_access_they_are_left_out() -> None:
    assert set(skipped(None).values()) == {"needs gradients"}
    assert list(skipped(np.array([[1.0, 0.0]] * 4))) == ["mask_gradient"]
    assert skipped(np.array([[1.0, 0.0]] * 3 + [[1.0, 2.0]])) == {}
    assert len(skipped(np.ones((4, 3)))) == len(skipped(-np.ones((4, 2)))) == len(skipped(np.ones((4, 0)))) == len(ALL)
    assert (
        len(skipped(np.full((4, 2), np.nan)))
        == len(skipped(np.ones(4)))
        == len(skipped(np.ones((4, 2, 2))))
        == len(ALL)
    )
    assert set(skipped(np.ones((4, 2)), "logits").values()) == {"needs file, and only logits are given"}
