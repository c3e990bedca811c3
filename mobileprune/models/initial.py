"""Initial weights of what torchvision does not initialise itself."""

from __future__ import annotations

from torch import nn


def he_normal(model: nn.Module) -> nn.Module:
    """Convolutions from N(0, 2 / fan_out), biases 0 (He et al. arXiv 1502.01852), as torchvision's ResNet and VGG."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
