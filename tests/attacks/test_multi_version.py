"""Several files of one model: formulas on plain numbers, planted signals, and what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, score
from mobileprune.attacks.base import logit_confidence
from mobileprune.attacks.multi_version import VERSION_GAP, VERSION_SUM
from mobileprune.errors import ArtifactError

ALL = {attack.name: attack for attack in (VERSION_SUM, VERSION_GAP)}


def with_confidences(*phi: list[float]) -> Evidence:
    """Two classes, label 0, logits (phi, 0): the logit-scaled confidence is phi. The first file is the target."""
    files = np.stack([np.stack([p, np.zeros(len(p))], 1) for p in map(np.array, phi)])
    return Evidence(files[0], np.zeros(files.shape[1], np.int64), versions=files[1:])


def test_formulas_on_plain_numbers() -> None:
    found = with_confidences([1.0, 2.0], [5.0, 3.0], [0.0, 1.0])
    np.testing.assert_allclose(VERSION_SUM.score(found), [6, 6], rtol=1e-12)
    np.testing.assert_allclose(VERSION_GAP.score(found), [4.5, 1.5], rtol=1e-12)


def test_three_classes_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    files, labels = rng.normal(size=(3, 5, 3)), rng.integers(0, 3, 5)
    p = np.exp(files) / np.exp(files).sum(2, keepdims=True)
    own = np.take_along_axis(p, labels[None, :, None], 2)[..., 0]
    phi = np.log(own / (1 - own))
    found = Evidence(files[0], labels, versions=files[1:])
    np.testing.assert_allclose(VERSION_SUM.score(found), phi.sum(0), rtol=1e-9)
    surest = int(phi.mean(1).argmax())
    others = [phi[i] for i in range(3) if i != surest]
    np.testing.assert_allclose(VERSION_GAP.score(found), phi[surest] - np.mean(others, 0), rtol=1e-9)


def test_planted_signals_are_found() -> None:
    """Files that each remember members a little show more together; one that has forgotten them shows it all."""
    rng = np.random.default_rng(0)
    member = np.arange(1000) < 500
    noisy = [list(member * 1.0 + rng.normal(size=1000)) for _ in range(4)]
    single = roc_auc_score(member, logit_confidence(with_confidences(*noisy).logits, np.zeros(1000, np.int64)))
    assert roc_auc_score(member, VERSION_SUM.score(with_confidences(*noisy))) > single + 0.1
    hardness = rng.normal(3, 3, 1000)
    dense, pruned = hardness + 1.5 * member + 1, hardness + rng.normal(0, 0.5, 1000)
    for files in ([pruned, dense], [dense, pruned]):
        assert roc_auc_score(member, VERSION_GAP.score(with_confidences(*map(list, files)))) > 0.95


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("count", [0, 1])
def test_few_examples(name: str, count: int) -> None:
    found = with_confidences([1.0] * count, [2.0] * count)
    none = np.zeros(count, bool)
    assert list(score(Outputs(found, none, none), ALL).by_attack) == list(ALL)
    assert ALL[name].score(found).shape == (count,)


@pytest.mark.parametrize("name", ALL)
def test_saturated_logits_stay_finite(name: str) -> None:
    assert np.isfinite(ALL[name].score(with_confidences([1e4, -1e4], [1e4, 1e4]))).all()


def test_versions_that_do_not_fit_are_left_out_or_refused() -> None:
    def skipped(versions: NDArray[np.float64] | None) -> int:
        none = np.zeros(3, bool)
        evidence = Evidence(np.eye(3), np.arange(3), versions=versions)
        return len(score(Outputs(evidence, none, none), ALL).skipped)

    assert skipped(None) == skipped(np.zeros((0, 3, 3))) == skipped(np.zeros((1, 3, 4))) == len(ALL)
    assert skipped(np.zeros((3, 3))) == skipped(np.zeros((1, 3, 3, 1))) == len(ALL)
    assert skipped(np.zeros((1, 3, 3))) == 0
    with pytest.raises(ArtifactError, match="logits must be finite"):
        skipped(np.full((1, 3, 3), math.nan))
