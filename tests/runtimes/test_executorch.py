"""ExecuTorch files that are damaged, lie or want what a classifier does not need; threads of sessions side by side."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from support.flips import flips
from support.runtimes import INSTALLED, SHAPE, Files, opened, pixels

from mobileprune.errors import ArtifactError, TargetUnavailableError
from mobileprune.flatbuffer import root
from mobileprune.runtimes import RUNTIMES, RuntimeOptions
from mobileprune.runtimes.pte_checks import CHAINS, DELEGATES, INSTRUCTIONS, JUMP, MAGIC, PLANS, check

needs_executorch = pytest.mark.skipif("executorch" not in INSTALLED, reason="the extra executorch is not installed")


def test_without_the_package_opening_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch", None)
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings", None)
    with pytest.raises(TargetUnavailableError, match=r"pip install 'mobileprune\[executorch\]'") as caught:
        RUNTIMES["executorch"](tmp_path / "m.pte", RuntimeOptions(1, "input", SHAPE))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("content", [b"", b"ET12", b"\0\0\0\0ORTM" + bytes(100), b"PK\x03\x04" + bytes(100)])
def test_other_files_are_no_pte(content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"m: is no \.pte file"):
        check(content, Path("m"))


@pytest.mark.parametrize("rest", [b"", b"\x07" * 500, b"\xff" * 500])
def test_text_that_only_begins_like_one_is_corrupt(rest: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"m: corrupt \.pte file"):
        check(b"\x08\0\0\0" + MAGIC + rest, Path("m"))
    with pytest.raises(ArtifactError, match=r"m: corrupt \.pte file"):
        check(b"\xff\xff\xff\xff" + MAGIC + rest, Path("m"))


@needs_executorch
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"XnnpackBackend", b"OpenvinoBacken", "does not need: OpenvinoBacken"),
        (b"aten::sym_size", b"evil::sym_size", "does not need: evil::sym_size"),
        (b"forward\0", b"forwarf\0", r"methods are \['forwarf'\], must be \['forward'\]"),
    ],
)
def test_what_a_classifier_does_not_need_is_refused(
    files: Files, tmp_path: Path, old: bytes, new: bytes, said: str
) -> None:
    content = files["executorch", False]
    assert old in content
    with pytest.raises(ArtifactError, match=said):
        opened(content.replace(old, new), tmp_path, "executorch")


@needs_executorch
def test_jumps_are_refused(files: Files, tmp_path: Path) -> None:
    content = bytearray(files["executorch", False])
    (plan,) = root(bytes(content)).tables(PLANS)
    (steps,) = plan.tables(CHAINS)
    step = next(steps.tables(INSTRUCTIONS))
    content[step.position + struct.unpack_from("<H", content, step.vtable + 4)[0]] = JUMP
    with pytest.raises(ArtifactError, match="does not need: jumps"):
        opened(bytes(content), tmp_path, "executorch")
    assert len(list(plan.tables(DELEGATES))) >= 1


@needs_executorch
def test_another_input_shape_than_the_manifest_says_is_refused(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"inputs are .*, its manifest says \(N, 3, 9, 9\)"):
        opened(files["executorch", False], tmp_path, "executorch", input_shape=(3, 9, 9))


@needs_executorch
def test_batches_larger_than_planned_are_cut(files: Files, tmp_path: Path) -> None:
    path, x = tmp_path / "m.pte", pixels(600)
    path.write_bytes(files["executorch", False])
    run = RUNTIMES["executorch"](path, RuntimeOptions(1, "input", SHAPE))
    np.testing.assert_array_equal(run(x), np.concatenate([run(x[:300]), run(x[300:])]))


@needs_executorch
def test_sessions_with_other_numbers_of_threads_answer_side_by_side(files: Files, tmp_path: Path) -> None:
    """The pool is one, and methods keep its address: a pool that was replaced would be read after it was freed."""
    path, x = tmp_path / "m.pte", pixels(30)
    path.write_bytes(files["executorch", False])
    expected = RUNTIMES["executorch"](path, RuntimeOptions(1, "input", SHAPE))(x)
    sessions = []
    for threads in (1, 2, 1, 3, 2, 1):
        sessions.append(RUNTIMES["executorch"](path, RuntimeOptions(threads, "input", SHAPE)))
        for run in sessions:
            np.testing.assert_array_equal(run(x), expected)


@needs_executorch
@pytest.mark.slow
def test_a_flipped_bit_gives_a_result_or_an_artifact_error(files: Files, tmp_path: Path) -> None:
    counts = flips("executorch", files["executorch", False], tmp_path)
    assert counts["other"] == {}
    assert counts["result"] > 20
    assert counts["refused"] > 20
