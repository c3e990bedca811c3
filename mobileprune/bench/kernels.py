"""Whether the native library pays: the same file on its kernels and on ONNX Runtime's own, interleaved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mobileprune.bench.timing import Comparison, Ratio

if TYPE_CHECKING:
    from mobileprune.runtimes import KernelsUsed

Run = Callable[[], object]


@dataclass(frozen=True)
class KernelsMeasured:
    """``native``: whether the artifact was timed on the library's kernels; ``speedup``: by them, None where they are
    not here; ``note`` says which, why, and what to do where they are slower."""

    native: bool
    speedup: Ratio | None
    note: str


def compare_kernels(
    used: KernelsUsed | None, runner: Callable[[bool], Run], interleave: Callable[..., Comparison]
) -> KernelsMeasured | None:
    """None for a file that has nothing for the library. ``runner(native)`` runs the file once, ``interleave`` times."""
    if used is None:
        return None
    if not used.native:
        return KernelsMeasured(False, None, used.sentence)
    both = interleave(runner(False), runner(True))
    notes = [used.sentence]
    if both.ratio.high < 1:
        notes.append("which are slower here: export with --kernels stock, or --kernels measured")
    if not both.valid:
        notes.append(f"their timing is not valid: {both.note}")
    return KernelsMeasured(True, both.ratio, "; ".join(notes))
