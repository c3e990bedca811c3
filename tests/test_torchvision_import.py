"""torchvision's Python parts work beside a torch that its compiled operators do not fit."""

from __future__ import annotations

import pytest
import torch

from mobileprune.torchvision_import import torchvision


def test_datasets_and_models_can_be_used() -> None:
    assert torchvision("datasets").MNIST.__name__ == "MNIST"
    model = torchvision("models").mobilenet_v2(num_classes=3, width_mult=0.25).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


def test_a_second_import_gives_the_same_module() -> None:
    assert torchvision("datasets") is torchvision("datasets")


def test_other_import_errors_are_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="absent"):
        torchvision("absent")
