"""TorchScript-lite files that do not keep what their manifest says, or write files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.runtimes import SHAPE, opened, pixels
from torch import Tensor, nn

from mobileprune.errors import ArtifactError


class Honest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4]


class Scalar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum()


class TooManyClasses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :5]


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4].to_sparse()


class Index(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 99]


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(x, x).flatten(1)[:, :4]


class Raise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no")


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> None:
        return None


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mobileprune_tests.twice(x)


class WritesWhenRun(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + torch.from_file("written.bin", True, 4)


class WritesWhenLoaded(nn.Module):
    """``__setstate__`` runs while the interpreter loads the file."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.w = state[0] + torch.from_file("written.bin", True, 4)
        self.training = state[1]


def lite(model: nn.Module, folder: Path, *, flatbuffer: bool = False) -> bytes:
    file = folder / "lite"
    scripted = torch.jit.script(model.eval())
    scripted._save_for_lite_interpreter(str(file), _use_flatbuffer=flatbuffer)
    return file.read_bytes()


lite_deprecated = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")


@lite_deprecated
def test_an_honest_lite_model_runs(tmp_path: Path) -> None:
    runtime = opened(lite(Honest(), tmp_path), tmp_path, "torchscript-lite", preprocessing_baked=True)
    assert runtime.predict(np.ones((3, *SHAPE), np.float32), 2).tolist() == [[1.0] * 4] * 3


@lite_deprecated
@pytest.mark.parametrize(
    "model",
    [Scalar, TooManyClasses, Sparse, Index, Complex, Raise, Pair, Nothing],
)
def test_lite_files_that_do_not_fit_their_manifest_are_refused(tmp_path: Path, model: type[nn.Module]) -> None:
    with pytest.raises(ArtifactError):
        opened(lite(model(), tmp_path), tmp_path, "torchscript-lite").predict(pixels(3), 2)


@lite_deprecated
@pytest.mark.parametrize("model", [WritesWhenRun, WritesWhenLoaded])
def test_lite_files_that_write_files_are_refused_before_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: type[nn.Module]
) -> None:
    content = lite(model(), tmp_path)
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    with pytest.raises(ArtifactError, match="aten::from_file"):
        opened(content, tmp_path, "torchscript-lite")
    assert list(Path().iterdir()) == []


@lite_deprecated
def test_operators_outside_the_allow_list_are_refused(tmp_path: Path) -> None:
    library = torch.library.Library("mobileprune_tests", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
    content = lite(Custom(), tmp_path)
    with pytest.raises(ArtifactError, match="does not need: mobileprune_tests::twice"):
        opened(content, tmp_path, "torchscript-lite")


@lite_deprecated
def test_an_archive_behind_another_format_does_not_vouch_for_it(tmp_path: Path) -> None:
    """The interpreter also reads flatbuffers, whose damage aborts the process; Python finds the archive at the end."""
    other = lite(Honest(), tmp_path, flatbuffer=True)
    with pytest.raises(ArtifactError, match="corrupt"):
        opened(other + lite(Honest(), tmp_path), tmp_path, "torchscript-lite")
