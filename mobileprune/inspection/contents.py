"""What a model file holds: its layers, its operators, and how much one image costs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer by its weight.

    ``macs``: multiplications for one image, in which every weight takes part equally often. ``stored_bytes``: what all
    that the weight is made of takes in the file; ``bound_bytes``: its entropy (:mod:`mobileprune.convert.entropy`).
    None where the file does not tell.
    """

    name: str
    shape: tuple[int, ...]
    zeros: int
    zero_channels: int | None = None
    macs: int | None = None
    stored_bytes: int | None = None
    bound_bytes: int | None = None

    @property
    def total(self) -> int:
        return math.prod(self.shape)

    @property
    def pixels(self) -> int | None:
        """Of a convolution's output: as often each of its weights takes part. None for other layers."""
        return None if self.macs is None or len(self.shape) < 3 else self.macs // max(self.total, 1)

    @property
    def zero_macs(self) -> int | None:
        """Multiplications by a weight of zero."""
        return None if self.macs is None else self.zeros * (self.macs // max(self.total, 1))


@dataclass(frozen=True)
class Contents:
    """``operators``: those that images pass, with how many there are (None: the file names them only).

    ``macs``: for one image, products without weights (attention) included. ``notes``: what could not be read, and why.
    """

    layers: tuple[Layer, ...] = ()
    operators: dict[str, int | None] | None = None
    macs: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def zero_macs(self) -> int | None:
        known = [layer.zero_macs for layer in self.layers]
        return None if self.macs is None else sum(macs for macs in known if macs is not None)

    def to_dict(self) -> dict[str, Any]:
        layers = {
            layer.name: {"total": layer.total, "zero_macs": layer.zero_macs, **asdict(layer), "shape": [*layer.shape]}
            for layer in self.layers
        }
        for value in layers.values():
            del value["name"]
        return {
            "layers": layers,
            "operators": self.operators,
            "macs": self.macs,
            "zero_macs": self.zero_macs,
            "notes": [*self.notes],
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Contents:
        """The inverse of :meth:`to_dict`."""
        computed = ("total", "zero_macs", "shape")
        layers = tuple(
            Layer(name, tuple(layer["shape"]), **{key: v for key, v in layer.items() if key not in computed})
            for name, layer in value["layers"].items()
        )
        return cls(layers, value["operators"], value["macs"], tuple(value["notes"]))
