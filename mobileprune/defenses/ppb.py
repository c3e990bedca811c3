r"""PPB, the defence that Yuan & Zhang propose with their attack on pruned networks (arXiv 2202.03335, section 6).

    penalty = alpha * KL(sorted p(a) || sorted p(b))

over pairs (a, b), the two halves of a batch: the sorted outputs are all that tells members from others, so they
are made alike.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from mobileprune.training import Hook


class Ppb(Hook):
    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def penalty(self, model: nn.Module, logits: Tensor, y: Tensor) -> Tensor | None:
        half = len(logits) // 2
        if not half:
            return None
        ranked = logits.log_softmax(1).sort(1, descending=True).values
        first, second = ranked[:half], ranked[half : 2 * half]
        return self.alpha * functional.kl_div(second, first, reduction="batchmean", log_target=True)
