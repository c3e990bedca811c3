"""Every runtime against PyTorch, and their answers to wrong questions."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runtimes import MANIFEST, MEAN, STD, Files, each_target, network, opened, pixels

from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError, UsageError
from mobileprune.lazy import Lazy
from mobileprune.runtimes import RUNTIMES, open_runtime
from mobileprune.runtimes.base import MAX_FILE_BYTES


@each_target
@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize(("count", "batch_size"), [(1, 256), (17, 1), (17, 5), (17, 17)])
def test_logits_are_those_of_the_pytorch_model(
    files: Files, tmp_path: Path, target: str, baked: bool, count: int, batch_size: int
) -> None:
    runtime = opened(files[target, baked], tmp_path, target, preprocessing_baked=baked)
    x = pixels(count)
    got = runtime.predict(x, batch_size)
    normalised = (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, network()(torch.tensor(normalised).float()).detach(), rtol=1e-4, atol=1e-5)


@each_target
@pytest.mark.parametrize("baked", [False, True])
def test_images_that_are_made_when_they_are_asked_about_have_the_same_logits(
    files: Files, tmp_path: Path, target: str, baked: bool
) -> None:
    x, made = pixels(17), []
    lazy = Lazy(np.arange(17), lambda rows: made.append(len(rows)) or x[rows], x.shape[1:])
    runtime = opened(files[target, baked], tmp_path, target, preprocessing_baked=baked)
    assert runtime.predict(lazy, 5).tobytes() == runtime.predict(x, 5).tobytes()
    assert made == [5, 5, 5, 2]


@each_target
def test_no_images_give_no_logits(files: Files, tmp_path: Path, target: str) -> None:
    got = opened(files[target, False], tmp_path, target).predict(pixels(0))
    assert (got.shape, got.dtype) == ((0, 4), np.float32)


@each_target
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3, 4), (2, 3, 5, 4), (2, 3, 4, 4, 1), (0, 3, 4, 5), (3, 4, 4)])
def test_images_of_another_shape_are_a_usage_error(
    files: Files, tmp_path: Path, target: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match="does not fit this model: it takes"):
        opened(files[target, False], tmp_path, target).predict(np.zeros(shape, np.float32))


def test_a_target_without_a_runtime_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"target 'tflite' has no runtime; known: {', '.join(RUNTIMES)}"):
        opened(b"", tmp_path, "tflite")


@pytest.mark.skipif(sys.platform == "win32", reason="no sparse files")
@each_target
def test_a_file_beyond_its_formats_limit_is_not_even_read(tmp_path: Path, target: str) -> None:
    if target == "torchscript-lite":
        pytest.skip("an archive has no such limit: its records have")
    with (tmp_path / "model").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ArtifactError, match=r"bytes are more than an? .* file can have"):
        open_runtime(Artifact(tmp_path, replace(MANIFEST, target=target)))


@each_target
@pytest.mark.parametrize("cut", [0, 1, 10, 0.5, -1])
def test_truncated_files_are_refused(files: Files, tmp_path: Path, target: str, cut: float) -> None:
    content = files[target, False]
    with pytest.raises(ArtifactError):
        opened(content[: int(cut * len(content)) if cut == 0.5 else int(cut)], tmp_path, target).predict(pixels(2))


@each_target
def test_other_files_are_refused(files: Files, tmp_path: Path, target: str) -> None:
    others = [content for (name, _), content in files.items() if name != target]
    for content in [*others, b"\x00" * 100, np.random.default_rng(0).bytes(5000), b"PK\x03\x04" + b"\x00" * 100]:
        with pytest.raises(ArtifactError):
            opened(content, tmp_path, target)
