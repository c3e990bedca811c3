"""Which form of a file to keep: the smallest that gives the same answers as the dense one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mobileprune.errors import MobilepruneError
from mobileprune.export.target import AUTO, DENSE

SCALES = (0.1, 0.5, 1.0, 4.0)


def noise(input_shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Inputs (4, C, H, W) of several sizes, always the same."""
    drawn = np.random.default_rng(0).standard_normal((len(SCALES), *input_shape)).astype(np.float32)
    return drawn * np.array(SCALES, np.float32).reshape(-1, 1, 1, 1)


def choose(
    contents: Mapping[str, bytes], wanted: str, answers: Callable[[bytes], object], refused: Iterable[str] = ()
) -> tuple[str, str]:
    """The form of ``contents``, "dense" among them, and why; ``refused``: reasons why others are not there.

    ``answers`` of a content are compared with ==. MobilepruneError where the form that is ``wanted`` gives others.
    """
    expected = answers(contents[DENSE])
    different = [form for form in contents if form != DENSE and answers(contents[form]) != expected]
    if wanted in different:
        raise MobilepruneError(f"--sparse-format {wanted} changes what the file computes; use auto and report this")
    if wanted != AUTO:
        return wanted, "asked for"
    same = [form for form in contents if form not in different]
    why = f"the smallest of {', '.join(same)} with bit-identical answers"
    reasons = [why, *(f"not {form}: its answers differ" for form in different), *refused]
    return min(same, key=lambda form: len(contents[form])), "; ".join(reasons)  # of equals the first, the simplest
