"""The sensitivity attack against a loop, and on a model whose slope is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, score
from mobileprune.attacks.queries import nearby, streams
from mobileprune.attacks.sensitivity import SENSITIVITY
from mobileprune.errors import ArtifactError


def evidence(plain: np.ndarray, copies: np.ndarray) -> Evidence:
    return Evidence(plain, np.zeros(len(plain), np.int64), variants={"nearby": copies})


def softmax(z: np.ndarray) -> list[float]:
    total = math.fsum(math.exp(v) for v in z)
    return [math.exp(v) / total for v in z]


@settings(max_examples=40)
@given(v=st.integers(1, 6), n=st.integers(0, 4), k=st.integers(2, 5), seed=st.integers(0, 99))
def test_matches_the_loop(v: int, n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plain, copies = rng.normal(0, 3, (n, k)), rng.normal(0, 3, (v, n, k))
    got = SENSITIVITY.score(evidence(plain, copies))
    slow = [
        -math.fsum(math.dist(softmax(copy[i]), softmax(plain[i])) * 255 for copy in copies) / v
        for i in range(len(plain))
    ]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, slow, rtol=1e-9)


def test_finds_members_in_flat_places_and_nothing_where_all_are_alike() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    pixels = rng.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    member, weights = rng.random(n) < 0.5, rng.normal(0, 1, (16, 3))
    x, plain = pixels / np.float32(255), rng.normal(0, 1, (n, 3))
    for steeper, low, high in ((2.0, 0.65, 0.95), (1.0, 0.45, 0.55)):
        slope = np.where(member, 1.0, steeper)[:, None]
        changes = [copy - x for copy in nearby(pixels, streams("nearby", 10, 0))]
        copies = [plain + slope * (change.reshape(n, 16) @ weights) for change in changes]
        found = evidence(plain, np.stack(copies))
        scores = SENSITIVITY.score(found)
        assert low < roc_auc_score(member, scores) < high, "the bound of no signal is 3.9 standard errors away"
        np.testing.assert_array_equal(scores, SENSITIVITY.score(found))


def test_a_saturated_model_is_not_sensitive() -> None:
    plain = np.array([[1e3, 0.0], [0.0, 0.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        scores = SENSITIVITY.score(evidence(plain, np.array([[[9e2, 0.0], [1.0, 0.0]]])))
    assert scores[0] == 0
    assert scores[1] < -1


def test_what_is_missing_is_said() -> None:
    mask = np.arange(2) < 1
    none = Outputs(evidence(np.zeros((2, 2)), np.zeros((0, 2, 2))), mask, mask)
    assert score(none, {"sensitivity": SENSITIVITY}).skipped["sensitivity"].startswith("needs at least 1 nearby copy")
    with pytest.raises(ArtifactError, match="must be finite"):
        SENSITIVITY.score(evidence(np.zeros((2, 2)), np.full((1, 2, 2), np.inf)))
