"""Files in ONNX Runtime's own format: they equal PyTorch, sparse ones are smaller, zeros are kept, bytes repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from support.lint import findings
from support.pruned import PRUNED, images, pruned, relative_error
from torch import nn

from mobileprune import native
from mobileprune.errors import UsageError
from mobileprune.export import TARGETS, ExportOptions, onnx, ort_format
from mobileprune.export.lint import lint
from mobileprune.export.ort_order import MODEL, TYPES, in_order, kernels
from mobileprune.flatbuffer import root
from mobileprune.runtimes import RUNTIMES, RuntimeOptions

pytestmark = pytest.mark.usefixtures("exporter_once")
PRECISIONS = TARGETS["ort"].precisions


def session(path: Path, shape: tuple[int, int, int]):
    return RUNTIMES["ort"](path, RuntimeOptions(1, "input", shape))


def options(precision: str, form: str, shape: tuple[int, int, int]) -> ExportOptions:
    return ExportOptions(precision=precision, sparse_format=form, calibration=torch.tensor(images(64, shape)))


@pytest.mark.parametrize("name", PRUNED)
def test_both_forms_answer_as_the_pytorch_model_at_any_batch(tmp_path: Path, name: str) -> None:
    shape, path = PRUNED[name], tmp_path / "m.ort"
    answers = {}
    for form in ("dense", "auto"):
        storage = ort_format.write(pruned(name), shape, path, ExportOptions(sparse_format=form))
        assert storage.sizes[storage.form] == path.stat().st_size
        lint(path)
        run = session(path, shape)
        answers[form] = [run(images(batch, shape)) for batch in (1, 2, 17)]
        for got in answers[form]:
            expected = pruned(name)(torch.tensor(images(len(got), shape))).detach().numpy()
            assert relative_error(got, expected) < 1e-4
    assert [a.tobytes() for a in answers["dense"]] == [a.tobytes() for a in answers["auto"]]
    assert storage.form == "coo"
    assert storage.sizes["coo"] < 0.45 * storage.sizes["dense"]


@pytest.mark.parametrize("form", ["dense", "coo"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_and_form_repeats_its_bytes_and_answers_as_its_onnx_file(
    tmp_path: Path, precision: str, form: str
) -> None:
    shape, wanted = PRUNED["lenet5"], options(precision, form, PRUNED["lenet5"])
    for path in (tmp_path / "a.ort", tmp_path / "b.ort"):
        ort_format.write(pruned("lenet5"), shape, path, wanted)
    assert (tmp_path / "a.ort").read_bytes() == (tmp_path / "b.ort").read_bytes()
    assert findings((tmp_path / "a.ort").read_bytes()) == []
    onnx.write(pruned("lenet5"), shape, tmp_path / "m.onnx", wanted)
    x = images(17, shape)
    expected = RUNTIMES["onnx"](tmp_path / "m.onnx", RuntimeOptions(1, "input", shape))(x)
    got = session(tmp_path / "a.ort", shape)(x)
    assert relative_error(got, expected) < (0.05 if precision == "int8" else 1e-5)
    assert (got.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_fewer_bits_are_fewer_bytes(tmp_path: Path) -> None:
    shape = PRUNED["lenet5"]
    sizes = [
        ort_format.write(pruned("lenet5"), shape, tmp_path / "m.ort", options(precision, "dense", shape)).sizes["dense"]
        for precision in ("fp32", "fp16", "int8")
    ]
    assert sizes[0] > 1.7 * sizes[1] > 1.7 * 1.3 * sizes[2]


def test_zeros_are_kept(tmp_path: Path) -> None:
    shape, path = PRUNED["lenet5"], tmp_path / "m.ort"
    ort_format.write(pruned("lenet5"), shape, path, ExportOptions(sparse_format="dense"))
    for layer in pruned("lenet5").modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert (layer.weight.detach() + 0).numpy().tobytes() in path.read_bytes()


def test_order_changes_nothing_but_the_order(tmp_path: Path) -> None:
    onnx.write(pruned("lenet5"), PRUNED["lenet5"], tmp_path / "m.onnx", ExportOptions(sparse_format="dense"))
    raw = set()
    for attempt in range(20):  # two of them differ, with a probability of all but nothing
        path = tmp_path / f"{attempt}.ort"
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        settings.optimized_model_filepath = str(path)
        settings.add_session_config_entry("session.save_model_format", "ORT")
        settings.log_severity_level = 4
        onnxruntime.InferenceSession(tmp_path / "m.onnx", settings, providers=["CPUExecutionProvider"])
        raw.add(path.read_bytes())
    assert len(raw) > 1, "ONNX Runtime has an order of its own now: ort_order can go"
    assert len({in_order(content) for content in raw}) == 1
    content = raw.pop()
    made = in_order(content)
    assert in_order(made) == made
    before, after = root(content), root(made)
    old, new = (table.table(MODEL) for table in (before, after))
    assert content[old.position :] == made[new.position :]
    assert kernels(before.table(TYPES)) == kernels(after.table(TYPES))
    assert before.text(0) == after.text(0) != ""


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """With another order of sets and dicts by hash, and without the native operators that this one may have."""
    if found := native.library():
        onnxruntime.SessionOptions().register_custom_ops_library(str(found))
    code = (
        "import sys; from pathlib import Path; import torch; from torch import nn\n"
        "from mobileprune.export import ExportOptions, ort_format\n"
        "torch.manual_seed(0); model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))\n"
        "ort_format.write(model.eval(), (1, 6, 6), Path(sys.argv[1]), ExportOptions())\n"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    command = [sys.executable, "-c", code, str(tmp_path / "there.ort")]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    ort_format.write(model.eval(), (1, 6, 6), tmp_path / "here.ort", ExportOptions())
    assert (tmp_path / "here.ort").read_bytes() == (tmp_path / "there.ort").read_bytes()


def test_int8_without_images_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs images"):
        ort_format.write(pruned("lenet5"), PRUNED["lenet5"], tmp_path / "m.ort", ExportOptions(precision="int8"))
    assert not list(tmp_path.iterdir())


def test_the_target_is_registered() -> None:
    target = TARGETS["ort"]
    assert (target.file, target.write, target.forms) == ("model.ort", ort_format.write, ("dense", "coo"))
