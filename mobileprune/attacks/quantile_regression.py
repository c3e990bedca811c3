"""Quantile regression: how confident would the model be on such an image, had it never seen it?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileprune.attacks.base import Attack, logit_confidence
from mobileprune.attacks.evidence import Evidence, Floats, Ints, Pixels
from mobileprune.errors import DataError
from mobileprune.lazy import slices

LEAST = 50
"""Examples of the population that are fitted on at least."""
ROWS = 20_000
COMPONENTS = 16
CHUNK = 4096
CHUNK_BYTES, PRINCIPAL_BYTES = 2**26, 2**27
"""Of images as float32: at a time, and of those that the components are found on (10,000 of 32 x 32 x 3)."""
MOST_CATEGORIES = 255
"""What scikit-learn's trees take; of more classes the label's number is used as it is."""


def score(evidence: Evidence) -> Floats:
    """(phi - mu(x, y)) / sigma(x, y), phi the logit confidence, mu and sigma fitted on the population (at most 20,000).

    The Gaussian form of the paper, with gradient-boosted trees over the first 16 principal components of the pixels
    and the label instead of a convolutional network; components of no more images than take 128 MiB. mu by least
    squares; sigma^2 by the gamma deviance of the squared residuals r^2, log sigma^2 + r^2 / sigma^2, which is the
    Gaussian likelihood of r. The residuals are out of fold: those of fitted examples would be too small. Trees need no
    scaled inputs.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    if not len(evidence):
        return np.zeros(0)
    population = evidence.population
    if population is None or population.images is None or evidence.images is None:
        raise DataError("quantile regression needs images, and a population with images; the evidence lacks them")
    kept = np.random.default_rng(0).permutation(len(population.labels))[:ROWS]
    labels, pixels = population.labels[kept], math.prod(population.images.shape[1:])
    centre, directions = _principal(population.images[kept[: max(LEAST, PRINCIPAL_BYTES // (4 * pixels))]])
    categorical = [len(directions)] if evidence.logits.shape[1] <= MOST_CATEGORIES else None
    options: dict[str, Any] = {"max_iter": 50, "early_stopping": False, "random_state": 0}
    options["categorical_features"] = categorical
    known = _features(population.images, kept, labels, centre, directions)
    phi = logit_confidence(population.logits[kept], labels)
    mean = HistGradientBoostingRegressor(max_leaf_nodes=8, **options)
    squared = (phi - cross_val_predict(mean, known, phi, cv=KFold(3))) ** 2
    # Of answers that are all alike the floor is the variance; the score is then the plain difference.
    floor = 1e-6 * squared.mean() or 1.0
    # Coarser than the mean: squares are noisy, and a variance that follows the noise is too small somewhere.
    coarse = {"max_leaf_nodes": 4, "min_samples_leaf": 100}
    variance = HistGradientBoostingRegressor(loss="gamma", **coarse, **options)
    variance.fit(known, np.maximum(squared, floor))
    asked = _features(evidence.images, np.arange(len(evidence)), evidence.labels, centre, directions)
    residual: Floats = logit_confidence(evidence.logits, evidence.labels) - mean.fit(known, phi).predict(asked)
    scores: Floats = residual / np.sqrt(variance.predict(asked))
    return scores


def _principal(images: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """The mean image (D,) and the directions (F, D) of largest variance, F <= 16."""
    from sklearn.utils.extmath import randomized_svd

    flat = _flat(images)
    centre: Floats = flat.mean(axis=0)
    flat -= centre  # in place: it is the largest that there is
    directions: Floats = randomized_svd(flat, min(COMPONENTS, *flat.shape), random_state=0)[2]
    return centre, directions


def _features(images: Pixels, rows: Ints, labels: Ints, centre: Floats, directions: Floats) -> Floats:
    """(N, F + 1): principal components of ``images[rows]`` and the label, some images at a time."""
    chunk = min(CHUNK, max(1, CHUNK_BYTES // (4 * len(centre))))
    components = [(_flat(images[rows[part]]) - centre) @ directions.T for part in slices(len(rows), chunk)]
    return np.column_stack([np.concatenate(components), labels])


def _flat(images: NDArray[np.uint8]) -> Floats:
    flat: Floats = images.reshape(len(images), math.prod(images.shape[1:])).astype(np.float32)
    return flat


def _refuses(evidence: Evidence) -> str | None:
    population, images = evidence.population, evidence.images
    if population is None or population.images is None or images is None:
        return "needs the images of the population"
    if len(population.labels) < LEAST:
        return f"needs a population of at least {LEAST} examples, got {len(population.labels)}"
    if population.images.shape[1:] != images.shape[1:]:
        return f"needs a population of images {images.shape[1:]}, got {population.images.shape[1:]}"
    return None


QUANTILE_REGRESSION = Attack(
    "quantile_regression",
    "logits",
    score,
    "after Bertran et al., arXiv 2307.03694",
    ("population", "images"),
    _refuses,
)
