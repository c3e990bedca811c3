"""Lite archives made to crash, hang or eat memory: an ArtifactError each."""

from __future__ import annotations

import io
import resource
import zipfile
from pathlib import Path

import pytest
import torch
from support.runtimes import opened
from torch import Tensor, nn

from mobileprune.errors import ArtifactError
from mobileprune.runtimes import trial

pytestmark = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")
TARGET = "torchscript-lite"


class Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        while bool(x.sum() < 1e9):
            x = x * 1
        return x.flatten(1)[:, :4]


class Large(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + torch.ones([1 << 33]).sum()


class Expanded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.expand(1 << 20, 1 << 20, 3, 4, 4).contiguous().flatten(1)[:1, :4]


def lite(model: nn.Module) -> bytes:
    return bytes(torch.jit.script(model.eval())._save_to_buffer_for_lite_interpreter())


@pytest.mark.parametrize("model", [Large, Expanded])
def test_a_few_bytes_do_not_unfold_to_gigabytes(tmp_path: Path, model: type[nn.Module]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match=r"inference failed|refuses this model|crashes on this model"):
        opened(lite(model()), tmp_path, TARGET)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "this process took the memory"


def test_what_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_SECS", 1)
    with pytest.raises(ArtifactError, match="takes longer than 1 s"):
        opened(lite(Endless()), tmp_path, TARGET)


@pytest.mark.parametrize(
    "pickle",
    [
        b"\x80\x02X\xff\xff\xff\x7fq\x00.",  # a text of 2 GiB
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # place 2^31 of the memo
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # a number of 2 GiB
        b"\x80\x02(((((",
        b"",
        b"no pickle",
    ],
    ids=["text", "memo", "number", "no end", "empty", "none"],
)
@pytest.mark.parametrize("record", ["data", "bytecode"])
def test_sizes_in_a_pickle_are_checked_before_they_are_used(
    files: dict[tuple[str, bool], bytes], tmp_path: Path, pickle: bytes, record: str
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(files[TARGET, False])) as good, zipfile.ZipFile(buffer, "w") as bad:
        for name in good.namelist():
            bad.writestr(name, pickle if name.endswith(f"/{record}.pkl") else good.read(name))
    with pytest.raises(ArtifactError, match=f"corrupt record .*{record}.pkl"):
        opened(buffer.getvalue(), tmp_path, TARGET)


def test_an_archive_that_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "FREE_BYTES", 2**20)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bad:
        bad.writestr("archive/data.pkl", bytes(2**22))
    with pytest.raises(ArtifactError, match="unpacks to more than any model"):
        opened(buffer.getvalue(), tmp_path, TARGET)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_of_which_no_part_can_be_unpacked_alone_is_refused(tmp_path: Path, compression: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as bad:
        bad.writestr("archive/data.pkl", bytes(10))
    with pytest.raises(ArtifactError, match="is compressed as no such archive is"):
        opened(buffer.getvalue(), tmp_path, TARGET)
