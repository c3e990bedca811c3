"""TorchScript-lite files of real models: every bytecode version runs and equals PyTorch; no source text is inside."""

from __future__ import annotations

import importlib.util
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.lint import findings
from support.networks import CASES, Residual, made
from torch import Tensor, nn
from torch.jit.mobile import _get_model_bytecode_version, _load_for_lite_interpreter

from mobileprune.errors import MobilepruneError, UsageError
from mobileprune.export import TARGETS, ExportOptions
from mobileprune.export.lint import findings_of, lint
from mobileprune.export.torchscript_lite import BYTECODE_VERSIONS, write

pytestmark = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("version", [None, *BYTECODE_VERSIONS])
def test_every_bytecode_version_loads_and_equals_the_model(tmp_path: Path, name: str, version: int | None) -> None:
    model, shape = made(name)
    file = tmp_path / "m.ptl"
    write(model, shape, file, ExportOptions(bytecode_version=version))
    assert _get_model_bytecode_version(str(file)) == (version or 8)
    assert findings(file.read_bytes()) == []
    exported = _load_for_lite_interpreter(str(file))
    for batch in (1, 2, 17):
        x = torch.randn(batch, *shape)
        np.testing.assert_allclose(exported(x).detach(), model(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version", [-1, 0, 3, 6, 9, 10**9])
def test_another_bytecode_version_is_a_usage_error(tmp_path: Path, version: int) -> None:
    with pytest.raises(UsageError, match=f"--bytecode-version {version}: must be one of 4, 5, 7, 8"):
        write(nn.Flatten(), (1, 2, 2), tmp_path / "m.ptl", ExportOptions(bytecode_version=version))
    assert not list(tmp_path.iterdir())


def user_model(folder: Path) -> nn.Module:
    """A module of the user's, whose source file lies in ``folder``."""
    file = folder / "secret_project.py"
    file.write_text(
        "from torch import nn\n"
        "class Dirty(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(16, 3)\n"
        "    def forward(self, x):\n"
        "        return self.fc(x.flatten(1))\n"
    )
    spec = importlib.util.spec_from_file_location("secret_project", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Dirty().eval()


def records(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def test_torch_itself_would_tell_paths_and_source_and_the_check_sees_it(tmp_path: Path) -> None:
    file = tmp_path / "raw.ptl"
    traced = torch.jit.trace(user_model(tmp_path), torch.zeros(2, 1, 4, 4))
    torch.jit.freeze(traced)._save_for_lite_interpreter(str(file))
    assert any(str(tmp_path).encode() in record for record in records(file).values())
    assert any(name.startswith("code/") and b"def forward" in record for name, record in records(file).items())
    with pytest.raises(MobilepruneError, match="must not leave this machine"):
        lint(file)
    assert any(finding.where.startswith("code/") and "def forward" in finding.what for finding in findings_of(file))


def test_nothing_of_the_users_source_is_left(tmp_path: Path) -> None:
    file = tmp_path / "m.ptl"
    write(user_model(tmp_path), (1, 4, 4), file, ExportOptions())
    lint(file)
    inside = records(file)
    assert not [name for name in inside if name.startswith("code/")]
    for content in [file.read_bytes(), *inside.values()]:
        assert findings(content, [str(tmp_path)]) == []
        assert b"def forward" not in content
        assert tmp_path.name.encode() not in content
    with zipfile.ZipFile(file) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"archive"}


def test_the_model_given_stays_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(2, 3, 8, 8)
    expected = model(x)
    write(model, (3, 8, 8), tmp_path / "m.ptl", ExportOptions(bytecode_version=4))
    assert torch.equal(model(x), expected)
    assert all(p.requires_grad for p in model.parameters())


def test_deprecations_are_not_passed_on_to_the_user(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write(nn.Flatten(), (1, 2, 2), tmp_path / "m.ptl", ExportOptions(bytecode_version=5))
    assert [str(w.message) for w in caught] == []


def test_a_model_that_cannot_be_traced_is_an_error_with_the_reason(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": x.flatten(1)}

    with pytest.raises(MobilepruneError, match="dict"):
        write(Named(), (1, 2, 2), tmp_path / "m.ptl", ExportOptions())


def test_the_target_is_registered() -> None:
    assert (TARGETS["torchscript-lite"].file, TARGETS["torchscript-lite"].write) == ("model.ptl", write)


@pytest.mark.parametrize("version", BYTECODE_VERSIONS)
def test_only_what_the_interpreter_reads_is_in_the_file_under_names_that_every_run_gives(
    tmp_path: Path, version: int
) -> None:
    model, shape = made("lenet5")
    contents = set()
    for _ in range(2):
        write(model, shape, tmp_path / "m.ptl", ExportOptions(bytecode_version=version, sparse_format="dense"))
        contents.add((tmp_path / "m.ptl").read_bytes())
    assert len(contents) == 1
    inside = records(tmp_path / "m.ptl")
    assert not [name for name in inside if name.startswith("code/") or name == "constants.pkl"]
    weights = [
        len(content) for name, content in inside.items() if name.startswith(("constants/", "bytecode/", "data/"))
    ]
    assert sorted(weights) == sorted(p.nbytes for p in model.parameters())
