"""ResNets for small images: He et al. arXiv 1512.03385, section 4.2."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from mobileprune.models.initial import he_normal

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); (N, C, H, W) -> (N, width, H / stride, W / stride).

    The sum is out of place, and each ReLU a module of its own: Opacus's per-sample gradients need both.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if (channels, 1) != (width, stride):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))  # type: ignore[no-any-return]


def resnet8(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); 78,042 weights for 3x32x32 and 10 classes."""
    return _resnet(1, num_classes, input_shape[0])


def resnet20(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """(N, C, H, W) -> logits (N, num_classes); 272,474 weights for 3x32x32 and 10 classes.

    The paper's 0.27 M: 269,722 with its option A, whose shortcuts hold no weights, and 2,752 of ours, option B.
    """
    return _resnet(3, num_classes, input_shape[0])


def _resnet(n: int, num_classes: int, channels: int) -> nn.Module:
    """6n + 2 layers: a stem, three stages of ``n`` blocks, the last two at half the size each, one linear layer."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False), bn1=nn.BatchNorm2d(WIDTHS[0]), relu1=nn.ReLU()
    )
    before = WIDTHS[0]
    for stage, width in enumerate(WIDTHS, 1):
        first = Block(before, width, stride=1 if stage == 1 else 2)
        layers[f"layer{stage}"] = nn.Sequential(first, *(Block(width, width, stride=1) for _ in range(n - 1)))
        before = width
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(before, num_classes)}
    return he_normal(nn.Sequential(layers))
