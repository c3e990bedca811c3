"""ONNX files of real models: valid, equal to PyTorch at any batch size, reproducible, and silent about this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.lint import findings
from support.networks import CASES, made
from torch import Tensor, nn

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.onnx import MAX_OPSET, MIN_OPSET, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    for name in CASES:
        write(*made(name), folder / f"{name}.onnx", ExportOptions())
    return {name: folder / f"{name}.onnx" for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_file_computes_what_the_model_computes_at_any_batch_size(files: dict[str, Path], name: str) -> None:
    model, shape = made(name)
    session = onnxruntime.InferenceSession(files[name].read_bytes(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 17):
        x = torch.randn(batch, *shape)
        (got,) = session.run(["logits"], {"input": x.numpy()})
        np.testing.assert_allclose(got, model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_one_valid_model_without_a_word_too_many(files: dict[str, Path], name: str) -> None:
    content = files[name].read_bytes()
    proto = onnx.load_model_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert findings(content) == []
    assert [p.name for p in files[name].parent.iterdir() if p.suffix != ".onnx"] == [], "no external data"
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param
    assert not batch.HasField("dim_value")
    assert "Dropout" not in {node.op_type for node in proto.graph.node}
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)


def test_a_second_export_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    write(*made("dropout"), tmp_path / "again.onnx", ExportOptions())
    assert (tmp_path / "again.onnx").read_bytes() == files["dropout"].read_bytes()


def test_the_opset_is_the_one_asked_for(files: dict[str, Path], tmp_path: Path) -> None:
    write(nn.Flatten().eval(), (1, 2, 2), tmp_path / "m.onnx", ExportOptions(opset=MAX_OPSET))
    for file, opset in ((tmp_path / "m.onnx", MAX_OPSET), (files["lenet5"], ExportOptions().opset)):
        assert {o.domain: o.version for o in onnx.load(file).opset_import}[""] == opset


@pytest.mark.parametrize("opset", [0, MIN_OPSET - 1, MAX_OPSET + 1, 10**9])
def test_an_opset_out_of_range_is_a_usage_error(tmp_path: Path, opset: int) -> None:
    with pytest.raises(UsageError, match=rf"--opset {opset}: must lie in \[{MIN_OPSET}, {MAX_OPSET}\]"):
        write(nn.Flatten(), (1, 2, 2), tmp_path / "m.onnx", ExportOptions(opset=opset))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_a_sparse_layout_is_refused_before_it_aborts_the_process(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    model[1].weight = nn.Parameter(torch.eye(4).to_sparse_csr())
    with pytest.raises(MobilepruneError, match="sparse layout"):
        write(model, (1, 2, 2), tmp_path / "m.onnx", ExportOptions())


DIRTY = """
import torch
from support.networks import CASES, made
from torch import nn

class Dirty(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)
    def forward(self, x):
        return self.fc(x.flatten(1))

class Branching(Dirty):
    def forward(self, x):
        y = self.fc(x.flatten(1))
        return torch.cond(y.sum() > 0, lambda v: v * 2, lambda v: v + 1, (y,))
"""


def user_model(folder: Path, name: str) -> nn.Module:
    """A module of the user's, whose source file lies in ``folder``."""
    file = folder / "secret_project.py"
    file.write_text(DIRTY)
    spec = importlib.util.spec_from_file_location("secret_project", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)().eval()


@pytest.mark.filterwarnings("ignore")
def test_the_exporter_itself_would_tell_paths_and_source(tmp_path: Path) -> None:
    model = user_model(tmp_path, "Dirty")
    program = torch.onnx.export(model, (torch.zeros(2, 1, 4, 4),), external_data=False, verbose=False)
    raw = program.model_proto.SerializeToString()
    assert str(tmp_path).encode() in raw
    assert {'File "', "site-packages"} <= set(findings(raw))


@pytest.mark.parametrize("name", ["Dirty", "Branching"])
def test_nothing_of_the_users_source_is_left(tmp_path: Path, name: str) -> None:
    model = user_model(tmp_path, name)
    write(model, (1, 4, 4), tmp_path / "m.onnx", ExportOptions())
    content = (tmp_path / "m.onnx").read_bytes()
    assert findings(content, [str(tmp_path)]) == []
    assert not any(word in content for word in (b"secret_project", b"flatten(1)", b"torch.cond"))


def test_a_model_that_cannot_be_exported_is_an_error_with_the_reason(tmp_path: Path) -> None:
    class DataDependent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(MobilepruneError, match="cannot export") as error:
        write(DataDependent(), (1, 2, 2), tmp_path / "m.onnx", ExportOptions())
    assert "full stack trace above" not in str(error.value), "there is none above"


def test_the_target_is_registered() -> None:
    assert (TARGETS["onnx"].file, TARGETS["onnx"].write) == ("model.onnx", write)
