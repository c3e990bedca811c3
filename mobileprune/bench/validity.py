"""Whether timings from a device can be believed: each check with what it found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mobileprune.bench.load import MAX_OTHER_LOAD
from mobileprune.devices.result import Blocks, Timings

MAX_VARIATION = 0.05
"""Of the blocks' medians: standard deviation / mean."""
MAX_SLOWDOWN = 1.10
"""Of the last third of the blocks over the first."""
MIN_FREQUENCY = 0.90
"""Of the clock's rate after the timing, as a share of the rate before."""


@dataclass(frozen=True)
class Check:
    """``ok`` None: the device does not tell."""

    name: str
    ok: bool | None
    note: str


def checks(timings: Timings) -> tuple[Check, ...]:
    """Warm-up, variance, throttling and background load."""
    return (_warm(timings), _variance(timings), _throttling(timings), _background(timings))


def _sides(timings: Timings) -> list[Blocks]:
    return [timings.model, *([timings.baseline] if timings.baseline else [])]


def _medians(blocks: Blocks) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.median(block) for block in blocks])


def _warm(timings: Timings) -> Check:
    if timings.warmup_variation is None:
        return Check("warm-up", None, "there was none in blocks")
    note = f"blocks differed by {timings.warmup_variation:.1%} after {timings.warmup_blocks} of them"
    return Check("warm-up", timings.stable, note if timings.stable else f"{note}: run times had not settled")


def _variance(timings: Timings) -> Check:
    found = max(float(m.std(ddof=1) / m.mean()) for m in map(_medians, _sides(timings)))
    return Check("variance", found <= MAX_VARIATION, f"blocks differ by {found:.1%} (limit {MAX_VARIATION:.0%})")


def _throttling(timings: Timings) -> Check:
    """By its counter where there is one, by the clock's rate, and by runs that grow longer."""
    before, after = timings.before, timings.after
    third = max(1, len(timings.model) // 3)
    slower = max(float(np.median(m[-third:]) / np.median(m[:third])) for m in map(_medians, _sides(timings)))
    if before["throttles"] is not None and after["throttles"] is not None and after["throttles"] > before["throttles"]:
        return Check("throttling", False, f"the processor throttled {after['throttles'] - before['throttles']} times")
    if before["frequency_khz"] and after["frequency_khz"]:
        kept = after["frequency_khz"] / before["frequency_khz"]
        if kept < MIN_FREQUENCY:
            return Check("throttling", False, f"the clock's rate fell to {kept:.0%} of what it was before")
    note = f"the last runs took {slower:.2f} of the first ones' time (limit {MAX_SLOWDOWN:.2f})"
    return Check("throttling", slower <= MAX_SLOWDOWN, note)


def _background(timings: Timings) -> Check:
    before, after = timings.before["other_cpu_secs"], timings.after["other_cpu_secs"]
    if before is None or after is None or not timings.measured_secs:
        return Check("background load", None, "the device does not tell")
    load = max(0.0, (after - before) / timings.measured_secs)
    return Check(
        "background load", load <= MAX_OTHER_LOAD, f"other processes used {load:.2f} cores (limit {MAX_OTHER_LOAD})"
    )
