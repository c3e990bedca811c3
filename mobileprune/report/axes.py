"""The axes of a drawing: from values to pixels, and the round numbers that are worth a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """``low`` (above 0 if ``log``) lies at pixel 0, ``high`` (above ``low``) at ``size``; ``label`` with its unit."""

    low: float
    high: float
    size: float
    label: str
    log: bool = False
    percent: bool = False

    def at(self, value: float) -> float:
        """The pixel, one decimal; what lies outside is put on the edge."""
        low, high, value = (self._scale(x) for x in (self.low, self.high, min(max(value, self.low), self.high)))
        return round(self.size * (value - low) / (high - low), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, text), ascending."""
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        return [(self.at(value), self._text(value)) for value in values]

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _text(self, value: float) -> str:
        return f"{100 * value:g} %" if self.percent else f"{value:,.10g}"


def _linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of the smallest 1, 2 or 5 times a power of ten that gives at most MOST_TICKS of them."""
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; where there are few of them also 2 and 5 times those; where fewer than two, linear ones."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        found = [m * 10.0**power for power in powers for m in steps]
        inside = [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / MOST_TICKS)]
    return [v for v in _linear_ticks(low, high) if v > 0]
