"""How busy other processes kept the machine while something was timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

Clock = Callable[[], float]

MAX_OTHER_LOAD = 0.3  # cores


def other_cpu_secs() -> float | None:
    """CPU seconds that all other processes have used since boot; None without ``/proc/stat``."""
    try:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    own = os.times()
    busy = sum(ticks[:8]) - sum(ticks[3:5])  # user nice system irq softirq steal: all but idle and iowait
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system - own.children_user - own.children_system


class LoadWatch:
    """Other processes' mean CPU load from construction to :meth:`finish`."""

    def __init__(self, clock: Clock = time.perf_counter, other_cpu: Callable[[], float | None] = other_cpu_secs):
        self._clock, self._other_cpu = clock, other_cpu
        self._start, self._start_cpu = clock(), other_cpu()

    def finish(self) -> tuple[float | None, bool, str]:
        """(load in cores or None, whether timings taken meanwhile are valid, why not)."""
        cpu, secs = self._other_cpu(), self._clock() - self._start
        if cpu is None or self._start_cpu is None or secs <= 0:
            return None, True, "other processes' load is not known on this platform"
        load = max(0.0, (cpu - self._start_cpu) / secs)
        if load > MAX_OTHER_LOAD:
            return load, False, f"other processes used {load:.2f} cores (limit {MAX_OTHER_LOAD}): repeat when idle"
        return load, True, ""
