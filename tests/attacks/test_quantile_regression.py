"""Quantile regression where mean and spread are known functions of image and label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mobileprune.attacks import Evidence, Outputs, Population, quantile_regression, score
from mobileprune.attacks.confidence import CONFIDENCE
from mobileprune.attacks.quantile_regression import QUANTILE_REGRESSION
from mobileprune.lazy import Lazy

NAME = "quantile_regression"


def drawn(
    n: int, gain: float, seed: int, shape: tuple[int, ...] = (1, 8, 8)
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels, pixels, member. Brighter images are easier by up to 8, and those of label 1 vary 4 times more."""
    rng = np.random.default_rng(seed)
    bright, labels, member = rng.uniform(0, 1, n), rng.integers(0, 2, n), rng.random(n) < 0.5
    texture = rng.normal(0, 10, (n, *shape))
    pixels = np.clip(40 + 170 * bright.reshape(n, *[1] * len(shape)) + texture, 0, 255).astype(np.uint8)
    spread = np.where(labels == 1, 2.0, 0.5)
    phi = 8 * bright + spread * (rng.normal(0, 1, n) + gain * member)
    logits = np.zeros((n, 2))
    logits[np.arange(n), labels] = phi
    return logits, labels, pixels, member


def case(n: int, population: int, gain: float, seed: int = 0, **options) -> tuple[Evidence, np.ndarray]:
    logits, labels, pixels, member = drawn(n, gain, seed, **options)
    others = drawn(population, 0.0, seed + 1000, **options)
    return Evidence(logits, labels, population=Population(*others[:3]), images=pixels), member


def test_sees_through_the_difficulty_of_an_image() -> None:
    evidence, member = case(2000, 2000, gain=1.0)
    raw, adjusted = (roc_auc_score(member, attack.score(evidence)) for attack in (CONFIDENCE, QUANTILE_REGRESSION))
    assert raw < 0.63
    assert 0.72 < adjusted < 0.78, "with mean and spread known exactly it is Phi(1 / sqrt 2) = 0.760"


def test_scores_of_nonmembers_are_standard_whatever_image_and_label() -> None:
    evidence, _ = case(2000, 2000, gain=0.0)
    scores = QUANTILE_REGRESSION.score(evidence)
    for label in (0, 1):
        of_label = scores[evidence.labels == label]
        assert abs(of_label.mean()) < 0.15
        assert of_label.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_finds_nothing_where_nothing_is(seed: int) -> None:
    evidence, member = case(2000, 500, gain=0.0, seed=seed)
    assert abs(roc_auc_score(member, QUANTILE_REGRESSION.score(evidence)) - 0.5) < 0.05, "3.9 standard errors"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (1, 1, 1)])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_any_shape_and_number_gives_finite_scores_that_repeat(shape: tuple[int, ...], n: int) -> None:
    evidence, _ = case(n, 50, gain=0.0, shape=shape)
    scores = QUANTILE_REGRESSION.score(evidence)
    assert scores.shape == (n,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, QUANTILE_REGRESSION.score(evidence))


def test_of_a_large_population_some_are_fitted_on_and_see_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, member = case(2000, 4000, gain=1.0)
    monkeypatch.setattr(quantile_regression, "ROWS", 2000)
    made, rows = quantile_regression._features, []
    monkeypatch.setattr(quantile_regression, "_features", lambda *all_: rows.append(all_[1]) or made(*all_))
    assert 0.72 < roc_auc_score(member, QUANTILE_REGRESSION.score(evidence)) < 0.78
    assert [len(np.unique(chosen)) for chosen in rows] == [2000, 2000]
    assert rows[0].max() > 3000, "at random"


@pytest.mark.parametrize(("count", "side"), [(60, 6), (12, 6), (60, 3)])
def test_the_components_are_those_of_largest_variance(count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.normal(0, 1, (count, 3)) * [30, 20, 10] @ np.linalg.qr(rng.normal(0, 1, (side**2, 3)))[0].T
    pixels = np.clip(128 + patterns, 0, 255).astype(np.uint8).reshape(count, 1, side, side)
    centre, directions = quantile_regression._principal(pixels)
    flat = pixels.reshape(count, side**2).astype(float)
    np.testing.assert_allclose(centre, flat.mean(axis=0), rtol=1e-6)
    assert directions.shape == (min(16, count, side**2), side**2)
    expected = np.linalg.svd(flat - flat.mean(axis=0))[2][:3]
    np.testing.assert_allclose(np.abs((directions[:3] * expected).sum(axis=1)), 1, atol=1e-3)


@pytest.mark.parametrize("room", [0, 1, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_some_images_at_a_time_have_the_components_of_all(
    count: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 1, 6, 7), np.uint8)
    rows = np.random.default_rng(1).permutation(60)[:count]
    centre, directions = quantile_regression._principal(pixels)
    whole = (pixels[rows].reshape(count, 42) - centre) @ directions.T
    monkeypatch.setattr(quantile_regression, "CHUNK_BYTES", 4 * 42 * room)
    asked: list[int] = []
    lazy = Lazy(np.arange(60), lambda chosen: asked.append(len(chosen)) or pixels[chosen], pixels.shape[1:])
    found = quantile_regression._features(lazy, rows, rows, centre, directions)
    np.testing.assert_allclose(found, np.column_stack([whole, rows]), rtol=1e-3, atol=1e-3)
    assert (max(asked), sum(asked)) == (min(max(room, 1), count), count)


def test_components_of_large_images_are_found_on_some_and_see_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence, member = case(2000, 2000, gain=1.0)
    lazy = Lazy(np.arange(2000), evidence.images.__getitem__, evidence.images.shape[1:])
    np.testing.assert_array_equal(
        *(QUANTILE_REGRESSION.score(replace(evidence, images=images)) for images in (evidence.images, lazy))
    )
    monkeypatch.setattr(quantile_regression, "PRINCIPAL_BYTES", 4 * 64 * 100)  # a hundred images
    principal, found = quantile_regression._principal, []
    monkeypatch.setattr(
        quantile_regression, "_principal", lambda images: found.append(len(images)) or principal(images)
    )
    assert 0.7 < roc_auc_score(member, QUANTILE_REGRESSION.score(evidence)) < 0.78
    assert found == [100]


def test_answers_and_images_that_are_all_alike_leave_the_plain_order() -> None:
    grey, labels = np.full((60, 1, 4, 4), 7, np.uint8), np.zeros(60, np.int64)
    same = Population(np.ones((60, 2)), labels, grey)
    evidence = Evidence(np.array([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]]), labels[:3], population=same, images=grey[:3])
    np.testing.assert_allclose(QUANTILE_REGRESSION.score(evidence), [-1, 1, 0], atol=1e-6)


@pytest.mark.parametrize("classes", [255, 256])
def test_as_many_classes_as_trees_can_name_and_more(classes: int) -> None:
    evidence, _ = case(3, classes, gain=0.0)
    logits, labels = np.random.default_rng(0).normal(0, 1, (classes, classes)), np.arange(classes)
    population = replace(evidence.population, logits=logits, labels=labels)
    found = replace(evidence, logits=logits[:3], labels=labels[:3], population=population)
    assert np.isfinite(QUANTILE_REGRESSION.score(found)).all()


def test_what_it_cannot_be_fitted_on_is_refused() -> None:
    def reason(evidence: Evidence) -> str:
        mask = np.zeros(len(evidence), bool)
        return score(Outputs(evidence, mask, mask), {NAME: QUANTILE_REGRESSION}).skipped.get(NAME, "")

    evidence, _ = case(4, 60, gain=0.0)
    assert reason(replace(evidence, population=None, images=None)) == "needs population, images"
    assert reason(replace(evidence, population=replace(evidence.population, images=None))) == (
        "needs the images of the population"
    )
    assert not reason(case(4, 50, gain=0.0)[0])
    assert reason(case(4, 49, gain=0.0)[0]) == "needs a population of at least 50 examples, got 49"
    assert "(3, 8, 8), got (1, 8, 8)" in reason(replace(evidence, images=np.zeros((4, 3, 8, 8), np.uint8)))
