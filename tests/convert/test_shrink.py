"""Masked is removed: the same logits from a smaller network, through a model folder and in the exported file."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from mobileprune.config import TrainConfig
from mobileprune.convert.fold_bn import fold_bn
from mobileprune.convert.shrink import compose, shrink
from mobileprune.errors import CheckpointError, UsageError
from mobileprune.export import ExportOptions, target
from mobileprune.files import sha256
from mobileprune.models.folder import RECORD, WEIGHTS, ModelFolder, ModelInfo
from mobileprune.models.resize import RemovedChannels
from mobileprune.pruning import Space, SpaceOptions
from mobileprune.pruning.channels import Channels
from mobileprune.pruning.depgraph import DepGraph
from mobileprune.pruning.masks import Masks, apply_masks, count_zeros, prunable
from mobileprune.tensors import load, save

CLASSES = 5
NETWORKS: dict[str, tuple[str, tuple[int, int, int], float]] = {
    "lenet5": ("lenet5", (1, 28, 28), 1.0),
    "resnet8": ("resnet8", (3, 16, 16), 1.0),
    "mobilenetv2": ("mobilenetv2", (3, 32, 32), 0.25),
    "vgg16_bn": ("vgg16_bn", (3, 32, 32), 1.0),
    "coupled": ("support.coupled:build", (3, 8, 8), 1.0),
}
every = pytest.mark.parametrize("name", NETWORKS)


def info_of(name: str) -> ModelInfo:
    model, shape, width_mult = NETWORKS[name]
    train = asdict(TrainConfig(model=model, width_mult=width_mult))
    return ModelInfo(
        model=model,
        num_classes=CLASSES,
        input_shape=shape,
        mean=[0.5] * shape[0],
        std=[0.25] * shape[0],
        labels=[str(k) for k in range(CLASSES)],
        split_sha256="0" * 64,
        held_out_unseen=True,
        config={"data": {"dataset": "digits", "members": None, "canaries": 0.1}, "train": train, "seed": 0},
        sparsity={},
    )


def written(path: Path, name: str, model: nn.Module, removed: RemovedChannels) -> ModelFolder:
    """A model folder of ``name``, pruned and shrunk to ``model``."""
    whole = ModelFolder(path, info_of(name), "").original()
    counted = count_zeros(model, list(prunable(model)), whole)
    ModelFolder.write(path, replace(info_of(name), sparsity=counted, removed_channels=removed), model.state_dict())
    return ModelFolder.load(path)


def pruned(model: nn.Module, x: Tensor, ratio: float = 0.5, **options: Any) -> tuple[Space, Masks]:
    """``model``, masked in place."""
    found = Space.of(model, SpaceOptions(pattern="channel", channel_ratio=ratio, **options), x[:2])
    masks = found.project(dict(model.named_parameters()))
    apply_masks(model, masks)
    return found, masks


@lru_cache
def case(name: str) -> tuple[nn.Module, nn.Module, nn.Module, RemovedChannels, Tensor]:
    """The dense network, the masked one, the smaller one, what was removed, and images that nobody checked."""
    rng = torch.Generator().manual_seed(0)
    dense = ModelFolder(Path(), info_of(name), "").original()
    shape = NETWORKS[name][1]
    with torch.no_grad():
        dense.train()
        for _ in range(2):  # running statistics that are not 0 and 1
            dense(torch.randn(16, *shape, generator=rng))
        for parameter in dense.eval().parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=rng)  # shifts that are not 0
    masked = copy.deepcopy(dense)
    x = torch.randn(8, *shape, generator=rng)
    space, masks = pruned(masked, x)
    smaller, removed = shrink(masked, space.sites, masks, x)
    return dense, masked, smaller, removed, torch.randn(4, *shape, generator=rng)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@every
def test_a_smaller_network_gives_the_logits_of_the_masked_one(name: str) -> None:
    dense, masked, smaller, _, x = case(name)
    with torch.no_grad():
        before, expected, actual = dense(x), masked(x), smaller(x)
    assert (before - expected).abs().max() > 1e-3 * before.abs().max(), "pruning does something"
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert size(smaller) < 0.4 * size(dense)
    assert not smaller.training
    assert size(masked) == size(dense), "the masked network stays as it is"


@every
def test_what_is_left_are_the_channels_that_were_not_removed(name: str) -> None:
    """Their numbers are multiples of 8, unless there were fewer from the start; biases say which ones they are."""
    dense, masked, smaller, removed, _ = case(name)
    for weight, original in prunable(dense).items():
        gone = removed.get(weight, [])
        kept = [c for c in range(len(original)) if c not in gone]
        left = smaller.get_parameter(weight)
        assert gone == sorted(set(gone))
        assert len(left) == len(kept)
        assert len(kept) % 8 == 0 or not gone
        norms = masked.get_parameter(weight).flatten(1).norm(dim=1)
        torch.testing.assert_close(norms[kept], left.flatten(1).norm(dim=1))
        assert not norms[gone].any()
    assert removed
    assert count_zeros(smaller, list(prunable(smaller)), dense) == count_zeros(masked, list(prunable(masked)))


@every
def test_a_smaller_network_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    _, _, smaller, removed, x = case(name)
    folder = written(tmp_path, name, smaller, removed)
    assert folder.info.removed_channels == removed
    restored, state = folder.restore(), smaller.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in restored.state_dict().items())
    with torch.no_grad():
        assert torch.equal(restored(x), smaller(x))
    assert size(folder.original()) > size(restored) == size(smaller)
    assert (tmp_path / WEIGHTS).stat().st_size < 5 * size(smaller) + 50_000


@pytest.mark.parametrize("name", ["resnet8", "coupled"])
def test_the_exported_file_is_smaller(name: str, tmp_path: Path) -> None:
    """Its weights are those of the smaller network, whatever else an exporter writes."""
    _, masked, smaller, _, _ = case(name)
    stored = []
    for model in (masked, smaller):
        file = tmp_path / "model.onnx"
        target("onnx").write(fold_bn(model), NETWORKS[name][1], file, ExportOptions(sparse_format="dense"))
        stored.append(sum(onnx.numpy_helper.to_array(t).size for t in onnx.load(file).graph.initializer))
    assert stored[1] < stored[0] * (size(smaller) / size(masked) + 0.1)


def test_a_smaller_network_can_be_pruned_again(tmp_path: Path) -> None:
    """Channels keep the numbers of the original: each bias of the stem carries its own."""
    dense, *_, x = case("coupled")
    model = copy.deepcopy(dense)
    model.stem[0].bias.data = torch.arange(1.0, 17.0)
    removed: RemovedChannels = {}
    for ratio, left in ((0.25, 12), (0.3, 8)):
        space, masks = pruned(model, x, ratio, round_to=4)
        smaller, gone = shrink(model, space.sites, masks, x)
        removed, model = compose(removed, gone, model), smaller
        assert len(model.stem[0].weight) == left
        assert [c for c in range(16) if c not in removed["stem.0.weight"]] == (model.stem[0].bias - 1).tolist()
        restored = written(tmp_path / str(left), "coupled", model, removed).restore()
        with torch.no_grad():
            assert torch.equal(restored(x), model(x))


def test_numbers_are_composed_as_positions_are() -> None:
    model = nn.ModuleDict({name: nn.Linear(1, 4) for name in "abc"})
    before = {"a.weight": [0, 3], "b.weight": [1]}
    now = {"a.weight": [0, 2], "c.weight": [3]}
    assert compose(before, now, model) == {"a.weight": [0, 1, 3, 4], "b.weight": [1], "c.weight": [3]}
    assert compose({}, now, model) == now
    assert compose(before, {}, model) == before
    assert compose({}, {}, model) == {}


@pytest.mark.parametrize("options", [{"pattern": "filter"}, {"pattern": "channel", "channel_ratio": 0.0}], ids=str)
def test_where_no_channel_goes_the_network_is_the_same(options: dict[str, Any]) -> None:
    dense, *_, x = case("coupled")
    found = Space.of(dense, SpaceOptions(**options), x[:2])
    assert shrink(dense, found.sites, found.project(dict(dense.named_parameters())), x) == (dense, {})


def test_channels_that_still_say_something_are_not_removed() -> None:
    dense, *_, x = case("resnet8")
    found, masks = pruned(copy.deepcopy(dense), x)
    with pytest.raises(UsageError, match=r"Sequential with its channels removed gives other logits .*; use --pattern"):
        shrink(dense, found.sites, masks, x)


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), 8, 4).view(len(x), 8, 2, 2)


def test_a_network_that_counts_on_its_channels_is_refused() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), Fixed(), nn.Conv2d(8, 3, 2), nn.Flatten()]
    model = nn.Sequential(*layers)
    x = torch.randn(2, 1, 4, 4)
    group = DepGraph(model, x).coupled("0.weight")
    site = Channels("0.weight", (8, 1, 3, 3), group.units, 1, group.slices)
    masks = site.masks(torch.arange(8) > 3)
    apply_masks(model, masks)
    with pytest.raises(UsageError, match=r"removed does not work .*no network that works.*; use --pattern"):
        shrink(model, [site], masks, x)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _, _, smaller, removed, _ = case("coupled")
    return written(tmp_path / "model", "coupled", smaller, removed).path


def altered(folder: Path, removed: Any = None, **tensors: Tensor) -> ModelFolder:
    """Read again with another list of removed channels or other tensors, as a stranger may have written it."""
    record = json.loads((folder / RECORD).read_bytes())
    save(load(folder / WEIGHTS)[0] | {k.replace("__", "."): t for k, t in tensors.items()}, folder / WEIGHTS)
    changes = {} if removed is None else {"removed_channels": removed}
    record |= changes | {"weights_sha256": sha256(folder / WEIGHTS)}
    (folder / RECORD).write_text(json.dumps(record))
    return ModelFolder.load(folder)


@pytest.mark.parametrize(
    "removed",
    [
        {"stem.0.weight": [0, 0]},
        {"stem.0.weight": [-1]},
        {"stem.0.weight": []},
        {"stem.0.weight": ["1"]},
        {"stem.0.weight": {"0": 1}},
        ["stem.0.weight"],
    ],
    ids=str,
)
def test_a_malformed_list_of_removed_channels_is_refused(folder: Path, removed: Any) -> None:
    with pytest.raises(CheckpointError, match="removed_channels"):
        altered(folder, removed)


@pytest.mark.parametrize(
    ("removed", "words"),
    [
        ({}, "does not fit the model: other shapes: "),
        ({"stem.0.weight": [1, 2]}, "2 of 16 output channels are removed, but the weights have shape"),
        ({"stem.0.weight": [1 << 40]}, "must be different numbers from 0 to 15"),
        ({"scale": [0]}, "'scale' is no weight of a convolution or linear layer"),
    ],
    ids=str,
)
def test_a_list_of_other_channels_is_refused(folder: Path, removed: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        altered(folder, removed).restore()


def test_hostile_weights_are_refused(folder: Path) -> None:
    removed = ModelFolder.load(folder).info.removed_channels
    for tensors, words in (
        ({"scale": torch.zeros(57, 1, 1)}, "scale: the stored shape is .57, 1, 1., the original .56, 1, 1.; a smaller"),
        ({"scale": torch.zeros(13, 1, 1)}, "makes no network that works"),
        ({"scale": torch.zeros(28)}, "scale: .* as many dimensions"),
        ({"stem__1__running_var": torch.zeros(2)}, "makes no network that works"),
    ):
        kept = load(folder / WEIGHTS)[0]
        with pytest.raises(CheckpointError, match=words):
            altered(folder, **tensors).restore()
        altered(folder, **{name.replace(".", "__"): value for name, value in kept.items()}).restore()
    fewer = {"head__weight": kept["head.weight"][1:], "head__bias": kept["head.bias"][1:]}
    with pytest.raises(CheckpointError, match="makes a network without 5 outputs"):
        altered(folder, removed | {"head.weight": [0]}, **fewer).restore()
