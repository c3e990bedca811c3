"""Files with layers for the native library: run by it where it is, by ONNX Runtime elsewhere, and never in doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.native import needs_library
from support.runtimes import MANIFEST, SHAPE, network, opened, pixels

from mobileprune import native
from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.export import ExportOptions
from mobileprune.export.onnx import convert, finish
from mobileprune.files import sha256
from mobileprune.runtimes import kernels_used, open_runtime
from mobileprune.runtimes.kernels import calls_operators, library_sha256, register
from mobileprune.sparse_operators import DOMAIN


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same network for ``--kernels stock`` and ``native``."""
    folder, model = tmp_path_factory.mktemp("kernels"), network()
    for name in ("0.weight", "3.weight"):
        weight = model.get_parameter(name).data
        weight[weight.abs() <= weight.abs().flatten().quantile(0.9)] = 0
    proto = convert(model, SHAPE, 18)
    for kernels in ("stock", "native"):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        finish(copy, folder / kernels, ExportOptions(kernels=kernels, sparse_format="dense"))
    return {kernels: (folder / kernels).read_bytes() for kernels in ("stock", "native")}


def artifact(folder: Path, content: bytes) -> Artifact:
    (folder / "model").write_bytes(content)
    return Artifact(folder, MANIFEST)


def test_only_files_that_call_operators_are_for_the_library(contents: dict[str, bytes], tmp_path: Path) -> None:
    assert calls_operators(contents["native"])
    assert not calls_operators(contents["stock"])
    assert kernels_used(artifact(tmp_path, contents["stock"])) is None
    found = artifact(tmp_path, contents["native"])
    assert kernels_used(replace(found, manifest=replace(MANIFEST, target="ort"))) is None


def test_without_the_library_the_answers_are_those_of_the_stock_file(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = opened(contents["stock"], tmp_path, "onnx").predict(pixels(5))
    monkeypatch.setenv("MOBILEPRUNE_NATIVE", "off")
    found = artifact(tmp_path, contents["native"])
    used = kernels_used(found)
    assert used is not None
    assert (used.native, used.library, library_sha256()) == (False, None, None)
    assert used.sentence.endswith("not on mobileprune's: MOBILEPRUNE_NATIVE is off")
    assert open_runtime(found).predict(pixels(5)).tobytes() == expected.tobytes()


@needs_library
def test_with_the_library_its_kernels_answer(contents: dict[str, bytes], tmp_path: Path) -> None:
    found, library = artifact(tmp_path, contents["native"]), native.library()
    assert library is not None
    used = kernels_used(found)
    assert used is not None
    assert (used.native, used.library) == (True, sha256(library))
    assert used.sentence.startswith("its sparse layers ran on native kernels of mobileprune")
    stock, own = (open_runtime(found, native=native).predict(pixels(5)) for native in (False, True))
    assert stock.tobytes() == opened(contents["stock"], tmp_path, "onnx").predict(pixels(5)).tobytes()
    np.testing.assert_allclose(own, stock, rtol=0, atol=1e-5 * np.abs(stock).max())


def test_a_library_that_cannot_be_loaded_is_named_not_passed_over(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "library", lambda: broken)
    with pytest.raises(MobilepruneError, match=r"refuses the native library libbroken\.so .*MOBILEPRUNE_NATIVE=off"):
        register(onnxruntime.SessionOptions(), contents["native"])
    register(onnxruntime.SessionOptions(), contents["stock"])
    with pytest.raises(MobilepruneError, match=r"libbroken\.so"):
        open_runtime(artifact(tmp_path, contents["native"]))
    open_runtime(artifact(tmp_path, contents["native"]), native=False)


def changed(content: bytes, how: str) -> bytes:
    model = onnx.load_model_from_string(content)
    function = model.functions[0]
    if how == "another activation":
        function.node[-1].op_type = "Sigmoid"
    elif how == "one body more":
        twin = model.functions.add()
        twin.CopyFrom(function)
        twin.node[-1].op_type = "Sigmoid"
    elif how == "no function":
        del model.functions[:]
    elif how == "a call in a function":
        call = [helper.make_node("SparseGemmAdd", ["X", "W", "B", "X"], ["Y"], domain=DOMAIN)]
        opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 18), (DOMAIN, 1))]
        model.functions.append(helper.make_function("my", "Hidden", ["X", "W", "B"], ["Y"], call, opsets))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("another activation", "is not what the operator of this name computes; export again"),
        ("one body more", "is not what the operator of this name computes|[Dd]uplicate"),
        ("no function", "calls 'SparseConvRelu' of the native library without a function"),
        ("a call in a function", "calls 'SparseGemmAdd' of the native library without a function"),
    ],
)
def test_a_file_that_would_compute_one_thing_here_and_another_there_is_refused(
    contents: dict[str, bytes], tmp_path: Path, how: str, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        opened(changed(contents["native"], how), tmp_path, "onnx")
