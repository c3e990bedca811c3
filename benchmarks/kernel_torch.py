"""torch's own sparse matrices: convolutions as CSR products over unfolded images."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MIN_ZEROS = 0.5


class CsrConv(nn.Module):
    """(1, C, H, W) -> (1, M, H', W') by a CSR matrix (M, C kH kW)."""

    def __init__(self, conv: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape[2:]
        self.how = {n: getattr(conv, n) for n in ("kernel_size", "dilation", "padding", "stride")}
        self.plain = conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0)
        self.weight = conv.weight.detach().flatten(1).to_sparse_csr()
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.bias = bias[:, None]

    def forward(self, x: Tensor) -> Tensor:
        columns = x.flatten(2) if self.plain else nn.functional.unfold(x, **self.how)
        made: Tensor = self.weight @ columns[0] + self.bias
        return made.view(1, len(made), *self.shape)


def csr(model: nn.Module, image: NDArray[np.float32], threads: int) -> Callable[[], NDArray[np.float32]]:
    """``model`` with a CSR matrix in place of every convolution whose weights are mostly zeros, on ``image``."""
    made, x, shapes = copy.deepcopy(model), torch.from_numpy(image), dict[str, torch.Size]()
    for name, layer in made.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and float((layer.weight == 0).float().mean()) > MIN_ZEROS:
            layer.register_forward_hook(lambda _, __, y, name=name: shapes.update({name: y.shape}))
    with torch.no_grad():
        made(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that CSR is in beta
        for name, shape in shapes.items():
            layer = made.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            made.set_submodule(name, CsrConv(layer, shape))

    @torch.no_grad()
    def run() -> NDArray[np.float32]:
        torch.set_num_threads(threads)
        return np.asarray(made(x))

    return run
