"""Comparison at matched accuracy: a method that leaks less because it knows less has won nothing (arXiv 2304.07234)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One model of a method: its sparsity, accuracy and leakage (an AUC, or an attack's accuracy)."""

    sparsity: float
    accuracy: float
    leakage: float


def at_accuracy(points: Iterable[Point], accuracy: float) -> Point | None:
    """The sparsest of ``points`` that is this accurate, of equally sparse ones the least leaky; None if none is.

    >>> at_accuracy([Point(0.7, 0.9, 0.8), Point(0.9, 0.88, 0.7), Point(0.95, 0.6, 0.55)], accuracy=0.85)
    Point(sparsity=0.9, accuracy=0.88, leakage=0.7)
    """
    good = [point for point in points if point.accuracy >= accuracy]
    return max(good, key=lambda point: (point.sparsity, -point.leakage), default=None)
