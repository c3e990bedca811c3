"""Damaged LiteRT and MNN files, in a process of their own: a crash there is a failure, not the end of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.flips import flips
from torch import nn

from mobileprune.errors import ArtifactError, TargetUnavailableError
from mobileprune.export import TARGETS, ExportOptions, converter
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

SHAPE = (1, 6, 6)
MODULES = {"litert": ("litert_torch", "ai_edge_litert"), "mnn": ("MNN", "_tools")}


@pytest.fixture(scope="module", params=[*MODULES])
def target(request: pytest.FixtureRequest) -> str:
    try:
        converter.require(request.param, *MODULES[request.param])
    except TargetUnavailableError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="module")
def content(target: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    path = tmp_path_factory.mktemp("good") / "model"
    TARGETS[target].write(model, SHAPE, path, ExportOptions())
    return path.read_bytes()


@pytest.mark.slow
def test_a_flipped_bit_gives_a_result_or_an_artifact_error(target: str, content: bytes, tmp_path: Path) -> None:
    counts = flips(target, content, tmp_path, SHAPE)
    assert counts["other"] == {}
    assert counts["result"] > 20
    assert counts["refused"] > 20


@pytest.mark.slow
def test_truncated_and_foreign_files_are_refused(target: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    cuts = [content[:size] for size in (0, 1, 10, 100, len(content) // 2, len(content) - 1)]
    for bad in [
        *cuts,
        b"\x00" * 100,
        b"\xff" * 5000,
        b"PK\x03\x04" + b"\x00" * 100,
        content[:4] + b"TFL3" + b"\x07" * 500,
    ]:
        path.write_bytes(bad)
        with pytest.raises(ArtifactError):
            RUNTIMES[target](path, RuntimeOptions(1, "input", SHAPE))


@pytest.mark.slow
def test_a_file_for_another_input_is_refused(target: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    for name, shape in (("other", SHAPE), ("input", (3, 6, 6))):
        with pytest.raises(ArtifactError):
            RUNTIMES[target](path, RuntimeOptions(1, name, shape))
