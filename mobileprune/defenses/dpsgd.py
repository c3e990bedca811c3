r"""DP-SGD (Abadi et al., arXiv 1607.00133) through Opacus: the one defence here with a guarantee.

Every example joins a step with probability q = batch / N (Poisson sampling), its gradient is clipped to norm C,
and N(0, (sigma C)^2) is added to their sum. sigma is chosen so that all steps together are (epsilon, delta)-DP by
Opacus's RDP accountant. The guarantee is for the weights after this training: any later training on the members,
masked retraining included, voids it; pruning by magnitude without retraining keeps it. Mean and standard deviation
of the pixels, which the manifest shows, are the members' own and not covered: give --mean and --std for that.

Whoever knows the noise can take it off again, and manifests tell the seed of a run. So sampling and noise come from a
secret that the operating system gives, which is in checkpoints of the training but in nothing that is published: two
runs differ. (torch's generator is not a cryptographic one; Opacus's default isn't, either.)
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mobileprune.errors import UsageError, one_line
from mobileprune.seeding import torch_rng
from mobileprune.tensors import Tensors
from mobileprune.training import Hook, Recipe

DELTA = 1e-5
CLIP_NORM = 1.0


class DpSgd(Hook):
    """``epsilon`` for the whole stage; ``secret`` repeats a run, in tests.

    Raises UsageError for models whose examples are not independent.
    """

    def __init__(self, epsilon: float, *, secret: int | None = None) -> None:
        self.epsilon, self.epoch = epsilon, 0
        self.secret = secrets.randbits(62) if secret is None else secret
        self.noise_multiplier = 0.0
        self._opacus()

    @staticmethod
    def _opacus() -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own imports
                import opacus
        except ImportError as error:
            raise UsageError("dpsgd needs Opacus: pip install 'mobileprune[dp]'") from error
        return opacus

    def attach(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, count: int
    ) -> torch.optim.Optimizer:
        opacus = self._opacus()
        from opacus.accountants.utils import get_noise_multiplier
        from opacus.optimizers import DPOptimizer
        from opacus.validators import ModuleValidator

        problems = ModuleValidator.validate(model, strict=False)
        if problems:
            why = one_line(problems[0])
            raise UsageError(f"dpsgd cannot train this model ({why}); for batch normalisation give --norm group")
        # Of Opacus's hooks on the first layer, whose input needs no gradient; raised in the loop's backward pass.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]  # per-example gradients need the activations
        rate = min(1.0, recipe.batch_size / count)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.noise_multiplier = get_noise_multiplier(
                    target_epsilon=self.epsilon,
                    target_delta=DELTA,
                    sample_rate=rate,
                    epochs=recipe.epochs,
                    accountant="rdp",
                )
            except ValueError as error:
                raise UsageError(
                    f"dpsgd:{self.epsilon:g}: no noise is large enough for {recipe.epochs} epochs with batches of "
                    f"{recipe.batch_size} of {count}; give a larger epsilon, fewer epochs or smaller batches"
                ) from error
            self._samples = opacus.GradSampleModule(model)
        self._optimizer = DPOptimizer(
            optimizer,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=CLIP_NORM,
            expected_batch_size=rate * count,
        )
        self._seed_noise()
        return self._optimizer  # type: ignore[no-any-return]

    def batches(self, count: int, batch_size: int, rng: torch.Generator) -> Iterator[Tensor]:
        """Poisson sampling; an empty batch still gets its noise."""
        rate, draw = min(1.0, batch_size / count), int(torch.randint(2**62, (), generator=rng))
        own = torch_rng(self.secret, "dp sampling", draw)
        for _ in range(int(1 / rate)):
            yield torch.nonzero(torch.rand(count, generator=own) < rate).flatten()

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.epoch = epoch + 1
        self._seed_noise()

    def _seed_noise(self) -> None:
        self._optimizer.generator = torch_rng(self.secret, "dp noise", self.epoch)

    def at_end(self, model: nn.Module) -> None:
        self._samples.to_standard_module()
        for parameter in model.parameters():
            parameter.grad_sample = None  # type: ignore[attr-defined]

    def guarantee(self) -> dict[str, float]:
        """What was spent, for records and reports."""
        return {
            "epsilon": self.epsilon,
            "delta": DELTA,
            "noise_multiplier": self.noise_multiplier,
            "max_grad_norm": CLIP_NORM,
        }

    def state(self) -> Tensors:
        return {"epoch": torch.tensor(self.epoch), "secret": torch.tensor(self.secret)}

    def restore(self, state: Tensors) -> None:
        self.epoch, self.secret = int(state["epoch"]), int(state["secret"])
        self._seed_noise()
