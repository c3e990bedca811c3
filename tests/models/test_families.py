"""``torchvision:NAME`` and ``timm:NAME``: any network of theirs for any number of channels, and no downloads."""

from __future__ import annotations

import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mobileprune import models
from mobileprune.errors import UsageError
from mobileprune.models import build, code_digest, from_torchvision
from mobileprune.models.from_torchvision import adapt_channels
from mobileprune.torchvision_import import torchvision

SMALL = ["mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "squeezenet1_1", "googlenet", "regnet_x_400mf"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("a model was about to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def timm() -> Any:
    torchvision("models")
    return pytest.importorskip("timm")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_classifier_of_torchvision_takes_any_number_of_channels(name: str, channels: int) -> None:
    shape = (channels, 64, 64)
    model = build(f"torchvision:{name}", num_classes=5, input_shape=shape, seed=0)
    with torch.no_grad():
        assert model(torch.rand(2, *shape)).shape == (2, 5)
        assert model.train()(torch.rand(2, *shape)).shape == (2, 5)


class MetaWeights(TorchFunctionMode):
    """Weights without memory; what a builder computes itself stays real (RegNet computes its widths)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


@pytest.mark.long
def test_every_classifier_of_torchvision_builds() -> None:
    names = torchvision("models").list_models(module=torchvision("models"))
    assert len(names) >= 80
    for name in names:
        with MetaWeights():
            model = from_torchvision.builder(name)(num_classes=7, input_shape=(1, 224, 224)).eval()
        assert model.to("meta")(torch.zeros(2, 1, 224, 224, device="meta")).shape == (2, 7), name


def test_the_image_size_is_told_to_a_vision_transformer() -> None:
    with torch.device("meta"):
        model: Any = from_torchvision.builder("vit_b_32")(num_classes=7, input_shape=(3, 64, 64))
    assert model.encoder.pos_embedding.shape == (1, 2 * 2 + 1, 768)


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small"])
def test_networks_of_torchvision_that_have_a_width_multiplier_get_it(name: str) -> None:
    full, half = (
        sum(p.numel() for p in build(name, num_classes=5, input_shape=(1, 32, 32), seed=0, width_mult=w).parameters())
        for w in (1.0, 0.5)
    )
    assert half < 0.5 * full


def test_adapting_channels_changes_the_first_convolution_only() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), 2, padding=(1, 2), dilation=(1, 2), bias=False, padding_mode="reflect"),
        nn.Conv2d(8, 4, 1),
    )
    old, text = model[0].weight.detach().clone(), str(model)
    for channels, chosen in ((1, [0]), (3, [0, 0, 0])):
        assert adapt_channels(model, channels) is model
        assert torch.equal(model[0].weight, old[:, chosen])
        assert str(model) == text.replace("Conv2d(3,", f"Conv2d({channels},")
    model = adapt_channels(nn.Sequential(nn.Conv2d(3, 8, 1)), 5)
    assert torch.equal(model[0].weight[:, 3:], model[0].weight[:, :2])
    model(torch.zeros(1, 5, 4, 4)).sum().backward()
    assert model[0].weight.grad.shape == (8, 5, 1, 1)


@pytest.mark.parametrize(
    ("name", "shape", "match"),
    [
        ("mobilenetv2", (3, 64, 64), "unknown torchvision model 'mobilenetv2': did you mean 'mobilenet_v2'.*alexnet"),
        ("", (3, 64, 64), "unknown torchvision model"),
        ("fcn_resnet50", (3, 64, 64), "unknown torchvision model"),
        ("list_models", (3, 64, 64), "unknown torchvision model"),
        ("squeezenet1_1", (3, 8, 8), r"cannot take images \(3, 8, 8\): .*[Oo]utput size is too small"),
        ("vit_b_32", (3, 65, 65), "failed: .*indivisible by patch size"),
        ("maxvit_t", (3, 64, 64), "failed: .*not divisible by partition size"),
    ],
)
def test_what_torchvision_cannot_give_says_why(name: str, shape: tuple[int, int, int], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        build(f"torchvision:{name}", num_classes=5, input_shape=shape, seed=0)


def test_a_package_of_the_users_cannot_stand_in_for_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision.py").write_text("def net(num_classes): raise AssertionError\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="unknown torchvision model 'net'"):
        build("torchvision:net", num_classes=5, input_shape=(3, 64, 64), seed=0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (1, 32, 32)),
        ("mobilenetv3_small_050.lamb_in1k", (2, 48, 40)),
        ("vit_tiny_patch16_224", (3, 64, 32)),
    ],
)
def test_a_model_of_timm_takes_the_datas_shape(timm: Any, name: str, shape: tuple[int, int, int]) -> None:
    state = torch.get_rng_state()
    model, again = (build(f"timm:{name}", num_classes=5, input_shape=shape, seed=0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    with torch.no_grad():
        assert model(torch.rand(2, *shape)).shape == (2, 5)
    assert code_digest(f"timm:{name}") == f"timm {version('timm')}"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("resnet18x", "unknown timm model 'resnet18x': did you mean 'resnet18'"),
        ("", "unknown timm model"),
        ("hf_hub:timm/resnet18", "unknown timm model"),
        ("hf-hub:timm/resnet18", "unknown timm model"),
        ("local-dir:.", "unknown timm model"),
        ("resnet18.absent_tag", "failed: .*absent_tag"),
    ],
)
def test_what_timm_cannot_give_says_why(timm: Any, name: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        build(f"timm:{name}", num_classes=5, input_shape=(3, 32, 32), seed=0)


def test_without_timm_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr(models, "version", absent)
    with pytest.raises(UsageError, match=r"pip install 'mobileprune\[timm\]'"):
        build("timm:resnet18", num_classes=5, input_shape=(3, 32, 32), seed=0)
    with pytest.raises(UsageError, match=r"--model timm:resnet18 needs timm: pip install 'mobileprune\[timm\]'"):
        code_digest("timm:resnet18")
