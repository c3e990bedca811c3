"""Whether two models, or two states of one, are the same in every number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]


def same(a: nn.Module | State, b: nn.Module | State) -> bool:
    a, b = (each.state_dict() if isinstance(each, nn.Module) else each for each in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
