"""Weights on disk: they come back bit for bit, and nothing else in a file is executed or taken over."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mobileprune.config import TrainConfig
from mobileprune.errors import CheckpointError
from mobileprune.models import build, lookalikes
from mobileprune.models.checkpoint import load_into, read_weights
from mobileprune.models.folder import RECORD, WEIGHTS, ModelFolder, ModelInfo
from mobileprune.pruning.masks import count_zeros, prunable
from mobileprune.tensors import save


def small(seed: int = 0) -> nn.Module:
    """Every kind of entry: 0-d integer counters, buffers, and views that are not contiguous."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
        model[3].weight = nn.Parameter(torch.randn(8, 3).T)
        return model


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def write(weights: Any, path: Path) -> None:
    save(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = small()
    write(model.state_dict(), tmp_path / name)
    assert equal(read_weights(tmp_path / name), model.state_dict())
    restored = load_into(small(seed=1), tmp_path / name)
    assert equal(restored.state_dict(), model.state_dict())
    assert not restored.training


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_a_training_loops_dictionary_is_unwrapped(tmp_path: Path, key: str) -> None:
    model = small()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    state = {"epoch": 3, "loss": torch.tensor(0.5), "rng": {"cpu": torch.get_rng_state()}}
    torch.save({**state, "optimizer": optimizer.state_dict(), key: model.state_dict()}, tmp_path / "a.pt")
    assert equal(read_weights(tmp_path / "a.pt"), model.state_dict())


def test_of_several_state_dicts_none_is_guessed(tmp_path: Path) -> None:
    torch.save({"model": small().state_dict(), "model_ema": small(1).state_dict()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"several state dicts \(model, model_ema\); save the one that is meant"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda m: torch.compile(nn.DataParallel(m))])
def test_what_wrapped_the_model_does_not_matter(tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]) -> None:
    write(wrap(small()).state_dict(), tmp_path / "a.pt")
    assert equal(load_into(small(seed=1), tmp_path / "a.pt").state_dict(), small().state_dict())


def test_a_models_own_names_are_no_wrapping(tmp_path: Path) -> None:
    """One that calls its only part ``module`` looks wrapped, and may be wrapped too."""
    own = nn.Sequential(OrderedDict(module=small(seed=1)))
    for saved in (nn.Sequential(OrderedDict(module=small())), nn.DataParallel(small())):
        write(saved.state_dict(), tmp_path / "a.pt")
        assert equal(load_into(own, tmp_path / "a.pt").module.state_dict(), small().state_dict())
    unfit = {f"a.{name}": tensor for name, tensor in small().state_dict().items()} | {"b": torch.ones(1)}
    write(unfit, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"it lacks 0\.weight.*; the model has no a\.0\.weight"):
        load_into(small(), tmp_path / "a.pt")


def test_what_the_data_have_otherwise_is_told(tmp_path: Path) -> None:
    weights = build("torchvision:resnet18", num_classes=7, input_shape=(3, 32, 32), seed=0).state_dict()
    write(weights, tmp_path / "a.pt")
    grey: dict[str, Any] = {"num_classes": 3, "input_shape": (1, 32, 32)}
    with pytest.raises(CheckpointError) as refused:
        load_into(build("resnet18", seed=0, **grey), tmp_path / "a.pt", lambda: lookalikes("resnet18", **grey))
    told = (
        "--model torchvision:resnet18; the checkpoint is for 7 classes, the data have 3; the checkpoint is for images "
    )
    assert str(refused.value).endswith(f"{told}of 3 channels, the data have 1")


@pytest.mark.parametrize(
    ("saved", "classes", "told"),
    [
        ("torchvision:resnet18", 3, "(the model's: 64x3x3x3); it looks like weights of --model torchvision:resnet18"),
        (
            "torchvision:resnet18",
            7,
            "of --model torchvision:resnet18; the checkpoint is for 7 classes, the data have 3",
        ),
        ("resnet18", 7, "(the model's: 3); the checkpoint is for 7 classes, the data have 3"),
        ("resnet20", 3, "other shapes: conv1.weight 16x3x3x3"),
    ],
)
def test_weights_of_another_network_are_named(tmp_path: Path, saved: str, classes: int, told: str) -> None:
    sizes = {"input_shape": (3, 32, 32), "seed": 0}
    write(build(saved, num_classes=classes, **sizes).state_dict(), tmp_path / "a.pt")
    model = build("resnet18", num_classes=3, **sizes)
    with pytest.raises(CheckpointError) as refused:
        load_into(model, tmp_path / "a.pt", lambda: lookalikes("resnet18", num_classes=3, input_shape=(3, 32, 32)))
    assert told in str(refused.value)
    assert ("torchvision" in told) == ("torchvision" in str(refused.value))


def test_only_where_it_is_another_network_torchvisions_is_named() -> None:
    for name, shape in (("resnet8", (3, 32, 32)), ("torchvision:resnet18", (3, 32, 32)), ("vgg16_bn", (1, 28, 28))):
        assert lookalikes(name, num_classes=3, input_shape=shape) == {}
    assert list(lookalikes("resnet18", num_classes=3, input_shape=(3, 32, 32))) == ["torchvision:resnet18"]


def test_weights_of_a_version_that_is_unknown_are_refused(tmp_path: Path) -> None:
    model = build("torchvision:mnasnet0_5", num_classes=3, input_shape=(3, 32, 32), seed=0)
    weights = model.state_dict()
    weights._metadata[""] = {"version": 7}
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt does not fit the model: version should be set to 1 or 2"):
        load_into(model, tmp_path / "w.pt")


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save(model.state_dict(), tmp_path / "a.safetensors")
    assert equal(read_weights(tmp_path / "a.safetensors"), model.state_dict())


class Exploit:
    """Unpickling calls ``open(path, "x")``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "x")


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, 2))])
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path: Path, save: Callable[..., None]) -> None:
    save({"weight": torch.ones(2), "x": Exploit(tmp_path / "pwned")}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds more than weights"):
        read_weights(tmp_path / "a.pt")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, kind: str, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / ("a.safetensors" if kind == "safetensors" else "a.pt")
    if kind == "safetensors":
        save(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(CheckpointError):
        read_weights(path)


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], torch.ones(2), 3, {"epoch": 3}, {1: torch.ones(2)}, {"state_dict": {"a": 1}}], ids=str
)
def test_what_is_not_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"must hold a state dict of tensors; save model\.state_dict\(\)"):
        read_weights(tmp_path / "a.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            read_weights(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    weights = small().state_dict()
    weights["0.bias"][1] = value
    write(weights, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"weight '0\.bias' holds NaN or infinity"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"])
@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_weights_of_eight_bits_are_read_and_checked(tmp_path: Path, name: str, kind: str) -> None:
    weight = torch.tensor([1.0, 2.0]).to(getattr(torch, kind))
    write({"w": weight}, tmp_path / name)
    assert read_weights(tmp_path / name)["w"].float().tolist() == [1, 2]
    write({"w": torch.tensor([1.0, float("nan")]).to(weight.dtype)}, tmp_path / name)
    with pytest.raises(CheckpointError, match="'w' holds NaN or infinity"):
        read_weights(tmp_path / name)


ODD: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "17 TB of one number": (lambda: torch.zeros(1).expand(2**42), "claims 17,592,186,044,416 bytes, of which 4 are"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "is sparse or nested"),
    "nested": (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "is sparse or nested"),
    "meta": (lambda: torch.empty(3, device="meta"), "lies on meta"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8), r"is of type torch\.qint8"),
    "complex": (lambda: torch.zeros(3, dtype=torch.complex64), r"is of type torch\.complex64"),
    "packed": (lambda: torch.zeros(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), r"is of type torch\.float4"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_plain_tensor_is_refused(tmp_path: Path, kind: str) -> None:
    make, words = ODD[kind]
    torch.save({"a": make(), "b": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"weight 'a' {words}.*; save plain tensors of numbers"):
        read_weights(tmp_path / "a.pt")


HOSTILE = {
    "int for items": b"ccollections\nOrderedDict\nK\x01\x85R.",
    "no hash": b"}(}K\x02u.",
    "no arguments": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "None for arguments": b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
    "no size": b"ctorch\nSize\nK\x01\x85R.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_whose_parts_do_not_fit_is_refused(tmp_path: Path, kind: str) -> None:
    records = {"data.pkl": b"\x80\x02" + HOSTILE[kind], "version": b"3\n", "byteorder": b"little"}
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    with pytest.raises(CheckpointError, match=r"corrupt or not a checkpoint|holds more than weights"):
        read_weights(tmp_path / "a.pt")


def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match=r"b\.pt: corrupt .*unpacks to 4\d\d,\d{3} bytes, more than it has"):
        read_weights(tmp_path / "b.pt")


@pytest.mark.parametrize("change", [{"0.bias": torch.ones(3)}, {"extra": torch.ones(1)}], ids=str)
def test_weights_of_another_model_are_refused(tmp_path: Path, change: dict[str, torch.Tensor]) -> None:
    write(small().state_dict() | change, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"does not fit the model: .*{next(iter(change))}"):
        load_into(small(), tmp_path / "a.pt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = build("lenet5", num_classes=3, input_shape=(1, 12, 12), seed=0)
    info = ModelInfo(
        model="lenet5",
        num_classes=3,
        input_shape=(1, 12, 12),
        mean=[0.5],
        std=[0.25],
        labels=["a", "b", "c"],
        split_sha256="0" * 64,
        held_out_unseen=True,
        config={
            "data": {"dataset": "digits", "members": None, "canaries": 0.1},
            "train": asdict(TrainConfig(epochs=1)),
            "seed": 0,
        },
        sparsity=count_zeros(model, list(prunable(model))),
    )
    ModelFolder.write(tmp_path, info, model.state_dict())
    assert ModelFolder.load(tmp_path).info == info
    assert equal(ModelFolder.load(tmp_path).restore().state_dict(), model.state_dict())
    return tmp_path


def test_a_model_folder_holds_its_two_files(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [RECORD, WEIGHTS]


def test_a_narrow_model_with_group_norm_comes_back(folder: Path, tmp_path: Path) -> None:
    made = TrainConfig(model="mobilenetv2", width_mult=0.25, norm="group")
    model = build("mobilenetv2", num_classes=3, input_shape=(1, 28, 28), seed=7, width_mult=0.25, norm="group")
    info = replace(ModelFolder.load(folder).info, model="mobilenetv2", input_shape=(1, 28, 28))
    ModelFolder.write(tmp_path, replace(info, config={**info.config, "train": asdict(made)}), model.state_dict())
    restored = ModelFolder.load(tmp_path).restore()
    assert equal(restored.state_dict(), model.state_dict())
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(restored(x), model(x))


def test_altered_or_missing_weights_are_refused(folder: Path) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    with pytest.raises(CheckpointError, match="sha256 is not the one"):
        ModelFolder.load(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="missing"):
        ModelFolder.load(folder)


@pytest.mark.parametrize(
    "raw", [None, b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null", b"{}"], ids=lambda r: str(r)[:9]
)
def test_a_record_that_is_no_record_is_refused(folder: Path, raw: bytes | None) -> None:
    (folder / RECORD).unlink()
    if raw is not None:
        (folder / RECORD).write_bytes(raw)
    with pytest.raises(CheckpointError, match=r"model\.json|is not a model folder"):
        ModelFolder.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "mobileprune-model/2"),
        ("weights_sha256", "../x"),
        ("num_classes", 1),
        ("num_classes", "3"),
        ("input_shape", [12, 12]),
        ("std", [0.0]),
        ("std", [float("nan")]),
        ("labels", [1]),
        ("config", {}),
        ("extra", 1),
        ("mean", None),
    ],
)
def test_a_malformed_record_is_refused(folder: Path, key: str, value: Any) -> None:
    record = json.loads((folder / RECORD).read_bytes())
    (folder / RECORD).write_text(json.dumps(record | {key: value}))
    with pytest.raises(CheckpointError, match=f"{key}|NaN is not a finite number"):
        ModelFolder.load(folder)
    del record[key if key in record else "model"]
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="required property"):
        ModelFolder.load(folder)
