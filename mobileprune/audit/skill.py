"""Whether a model has learned anything: its accuracy on its own members beside that of a constant answer.

skill = (accuracy - g) / (1 - g)        g: the share of members with the most frequent class
"""

from __future__ import annotations

LEAST_SKILL = 0.15


def guesses(accuracy: float, most_frequent: float) -> bool:
    """Whether a model that is right on ``accuracy`` of its members has less skill than ``LEAST_SKILL``.

    >>> guesses(0.36, 0.33), guesses(0.5, 0.33), guesses(1.0, 1.0)
    (True, False, False)
    """
    return accuracy - most_frequent < LEAST_SKILL * (1 - most_frequent)


def in_words(accuracy: float, most_frequent: float) -> str:
    """
    >>> in_words(0.36, 0.333)
    'right on 36.0% of its members, of whom 33.3% have the most frequent class'
    """
    return f"right on {accuracy:.1%} of its members, of whom {most_frequent:.1%} have the most frequent class"
