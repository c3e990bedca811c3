"""Every bad input is one line on stderr with the documented exit code, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from mobileprune.artifact import Artifact
from mobileprune.errors import UsageError
from mobileprune.models import build
from mobileprune.runtimes import open_runtime

pytestmark = pytest.mark.usefixtures("quick_bench")
FAST = ("--method", "magnitude", "--retrain-epochs", "1", "--target", "torchscript-lite")
FILES = {"onnx": "model.onnx", "torchscript-lite": "model.ptl"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an empty run store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILEPRUNE_RUNS", "runs")
    return tmp_path


@pytest.fixture
def refused(command, here) -> Callable[..., str]:
    """Run a command line that must be refused with ``code``; nothing may appear or change in ``here``."""

    def run(*argv: object, code: int) -> str:
        before = tree(here)
        done = command(*argv, "-q")
        assert done.out == ""
        assert done.err.startswith("mobileprune: error: "), done.err
        assert done.err.count("\n") == 1, done.err
        assert done.code == code, done.err
        assert tree(here) == before
        return done.err

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes, and every folder but those of the run store, which may be there empty."""
    found = {path.relative_to(folder): path for path in folder.rglob("*")}
    kept = {name.as_posix(): path for name, path in found.items() if path.is_file() or name.parts[0] != "runs"}
    return {name: path.read_bytes() if path.is_file() else None for name, path in kept.items()}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export --sparsity -0.1", "--sparsity -0.1: must be in [0, 1)"),
        ("export --sparsity 1", "--sparsity 1.0: must be in [0, 1)"),
        ("export --sparsity nan", "--sparsity nan: must be in [0, 1)"),
        ("export --sparsity abc", "--sparsity: invalid float value: 'abc'"),
        (
            "export --sparsity 2 --epochs 0 --lr -1",
            "--epochs 0: must be at least 1; --lr -1.0: must be in [1e-08, 10]; --sparsity 2.0: must be in [0, 1)",
        ),
        ("export --num-threads 0", "--num-threads 0: must be at least 1"),
        ("export --max-auc 2 --alpha nan", "max_auc must lie in 0.5..1, got 2.0; alpha must lie between 0 and 0.5"),
        ("export --norm layer", "choose from 'batch', 'group'"),
        ("exprot", "did you mean 'export'?"),
        ("export --sparsty 0.9", "did you mean '--sparsity'?"),
        (
            "export --method mai",
            "unknown pruning method 'mai': did you mean 'mia'? choose from admm, gradual, magnitude, mia, ",
        ),
        ("export --model lenet", "unknown model 'lenet': did you mean 'lenet5'?"),
        ("export --dataset digit", "unknown data set 'digit': did you mean 'digits'?"),
        (
            "export --target onx",
            "unknown target 'onx': did you mean 'onnx'? choose from executorch, litert, mnn, onnx, ort",
        ),
        ("export --model no_such_module:build", "cannot import"),
        ("export --config missing.toml", "--config missing.toml"),
        ("bench out --num-runs 0", "--num-runs must be at least 1"),
        ("audit out --max-canary-auc 0.4", "max_canary_auc must lie in 0.5..1, got 0.4"),
        ("audit out --auc-margin 0", "auc_margin must lie between 0 and 1, got 0.0"),
        ("report", "required: ARTIFACT"),
        ("", "required: VERB"),
    ],
)
def test_wrong_usage_is_exit_2(refused, line, words) -> None:
    assert words in refused(*line.split(), code=2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inspect nowhere", "nowhere is not an artifact: no manifest.json"),
        ("audit nowhere", "nowhere is not an artifact"),
        ("export nowhere", "nowhere is not a model folder"),
        ("export --dataset folder:nowhere", "folder:nowhere: no such folder; expected PATH/<class>"),
        ("export --dataset npz:nowhere.npz", "npz:nowhere.npz: no such file"),
        ("export --dataset mnist", "mnist is not embedded: give --data-dir DIR"),
        ("export --checkpoint nowhere.pt", "nowhere.pt: no such checkpoint"),
        ("export --members 900", "--members must lie between 20 and"),
    ],
)
def test_what_is_not_there_is_exit_1(refused, line, words) -> None:
    assert words in refused(*line.split(), code=1)


@pytest.mark.parametrize(
    "toml", ["seed = ", "[prun]\nsparsity = 0.5", "[prune]\nsparsty = 0.5", "[prune]\nprune_epochs = 'x'"]
)
def test_a_bad_configuration_file_is_exit_2(refused, here, toml) -> None:
    (here / "c.toml").write_text(toml)
    refused("export", "--config", "c.toml", code=2)


def resign(folder: Path, **changes: object) -> None:
    """Let the manifest fit the model file again, and change some of its fields."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["sha256"] = hashlib.sha256((folder / manifest["file"]).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize("verb", ["inspect", "bench", "attack", "audit", "report"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "sha256"])
def test_a_file_that_is_not_the_manifests_is_refused_by_every_verb(refused, artifacts, here, verb, damage) -> None:
    out = shutil.copytree(artifacts["onnx"], here / "out")
    if damage == "sha256":
        text = (out / "manifest.json").read_text()
        sha256 = json.loads(text)["sha256"]
        (out / "manifest.json").write_text(text.replace(sha256, "0" * 64))
    else:
        raw = bytearray((out / "model.onnx").read_bytes())
        raw[-1] ^= 1
        (out / "model.onnx").write_bytes(raw[:1000] if damage == "truncated" else raw)
    message = refused(verb, "out", code=1)
    assert ("model.onnx: has 1,000 bytes" if damage == "truncated" else "model.onnx: sha256 is") in message
    assert "altered or truncated: export again" in message


@pytest.mark.parametrize("target", FILES)
@pytest.mark.parametrize("keep", [0, 0.5, None], ids=["empty", "half", "junk"])
def test_a_corrupt_file_is_refused_even_if_the_manifest_fits_it(refused, artifacts, here, target, keep) -> None:
    model = shutil.copytree(artifacts[target], here / "out") / FILES[target]
    raw = model.read_bytes()
    model.write_bytes(b"x" * len(raw) if keep is None else raw[: int(keep * len(raw))])
    resign(here / "out")
    for verb in ("bench", "attack"):
        assert FILES[target] in refused(verb, "out", code=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 3}, "format version 3, this mobileprune reads 2"),
        ({"file": "../model.onnx"}, "file"),
        ({"std": [0.0]}, "std"),
        ({"std": [1.0, 1.0]}, "one number for each of the 1 channels"),
        ({"target": "tflite"}, "tflite"),
        ({"num_classes": 11}, "returned outputs of shape"),
        ({"input_shape": [1, 12, 12]}, "Expected: 28"),
        ({"input_name": "x"}, "its manifest says ['x']"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(refused, artifacts, here, change, words) -> None:
    resign(shutil.copytree(artifacts["onnx"], here / "out"), **change)
    assert words in refused("attack", "out", code=1)


def test_a_manifest_of_other_data_is_refused(refused, artifacts, here) -> None:
    out = shutil.copytree(artifacts["onnx"], here / "out")
    lineage = json.loads((out / "manifest.json").read_bytes())["lineage"]
    for change in ({"seed": 1}, {"members": 61}, {"split_sha256": "0" * 64}):
        resign(out, lineage=lineage | {"data": lineage["data"] | change})
        message = refused("audit", "out", code=1)
        assert "is not what out was trained on" in message
        assert "say where it is with --dataset and --data-dir" in message


@pytest.mark.parametrize("target", FILES)
@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (2, 3, 28, 28), (2, 1, 28, 27), (1, 2, 1, 28, 28)])
def test_a_runtime_refuses_another_shape(artifacts, target, shape) -> None:
    runtime = open_runtime(Artifact.load(artifacts[target]))
    with pytest.raises(UsageError, match=r"input of shape .* does not fit this model: it takes \(N, 1, 28, 28\)"):
        runtime.predict(np.zeros(shape, np.float32))
    assert runtime.predict(np.zeros((0, 1, 28, 28), np.float32)).shape == (0, 10)


def weights() -> dict[str, torch.Tensor]:
    return build("lenet5", num_classes=10, input_shape=(1, 28, 28), seed=0).state_dict()


class Exploit:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("kind", ["nan", "pickle", "other model", "truncated"])
def test_a_bad_checkpoint_is_exit_1(refused, here, kind) -> None:
    values = weights()
    if kind == "nan":
        values["fc1.bias"][3] = torch.nan
    if kind == "other model":
        values["fc1.bias"] = torch.zeros(3)
    torch.save(values, here / "w.pt")
    if kind == "pickle":
        (here / "w.pt").write_bytes(pickle.dumps({"fc1.bias": Exploit()}))
    if kind == "truncated":
        (here / "w.pt").write_bytes((here / "w.pt").read_bytes()[:5000])
    words = {
        "nan": "'fc1.bias' holds NaN",
        "pickle": "holds more than weights",
        "other model": "does not fit the model",
    }
    assert words.get(kind, "corrupt") in refused("train", "--checkpoint", "w.pt", "-o", "out", code=1)
    assert not (here / "pwned").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def build(:", "cannot import"),
        ("raise RuntimeError('no GPU')", "no GPU"),
        ("def build(num_classes): raise ValueError('too many')", "too many"),
        ("def build(num_classes): return num_classes", "must return a torch.nn.Module"),
        ("build = 3", "build is not a function"),
    ],
)
def test_a_user_model_that_cannot_be_built_is_exit_2(refused, here, monkeypatch, code, words) -> None:
    (here / "bad_net.py").write_text(code)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "bad_net", raising=False)
    assert words in refused("train", "--model", "bad_net:build", "-o", "out", code=2)


@pytest.mark.parametrize("verb", ["train", "prune", "export"])
@pytest.mark.parametrize("taken", ["file", "folder"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_taken_output_is_refused_before_any_work(refused, here, tiny, verb, taken, force) -> None:
    """With ``--force`` too: what is not of mobileprune is not replaced."""
    if taken == "file":
        (here / "out").write_text("a thesis")
    else:
        (here / "out").mkdir()
        (here / "out" / "thesis.txt").write_text("a thesis")
    refused(verb, "-o", "out", *tiny[: 4 if verb == "train" else 8], *force, code=2)


@pytest.mark.parametrize("verb", ["train", "prune", "export", "report"])
def test_an_output_below_a_file_cannot_be_written(refused, artifacts, here, monkeypatch, store, tiny, verb) -> None:
    monkeypatch.setenv("MOBILEPRUNE_RUNS", str(store))
    (here / "file").write_text("")
    first = [artifacts["onnx"]] if verb == "report" else tiny[: 4 if verb == "train" else 8]
    assert "cannot write file/out" in refused(verb, *first, "-o", "file/out", code=1)


@pytest.mark.parametrize("flag", [True, False], ids=["--runs", "MOBILEPRUNE_RUNS"])
def test_a_run_store_that_cannot_be_written_is_exit_1(refused, here, monkeypatch, flag) -> None:
    (here / "file").write_text("")
    monkeypatch.setenv("MOBILEPRUNE_RUNS", "file/runs")
    message = refused("train", "-o", "out", *(["--runs", "file/other"] if flag else []), code=1)
    assert f"cannot write the run store file/{'other' if flag else 'runs'}" in message
    assert "choose another with --runs DIR" in message


@pytest.fixture
def model(here, command, monkeypatch, store) -> Path:
    """A model folder trained on the user's own images, 12x12 pixels."""
    monkeypatch.setenv("MOBILEPRUNE_RUNS", str(store))
    rng = np.random.default_rng(0)
    np.savez("own.npz", images=rng.integers(0, 256, (90, 12, 12), np.uint8), labels=rng.integers(0, 3, 90))
    assert command("train", "-o", "dense", "--dataset", "npz:own.npz", "--epochs", 1).code == 0
    return here / "dense"


@pytest.mark.parametrize(
    "options",
    [("--epochs", 5), ("--lr", 0.1), ("--batch-size", 8), ("--checkpoint", "w.pt"), ("--epochs", 5, "--sparsity", 0.5)],
    ids=str,
)
def test_an_option_that_a_trained_model_leaves_no_effect_is_exit_2(refused, model, options) -> None:
    message = refused("export", model, "-o", "out", "--dataset", "npz:own.npz", *options, code=2)
    assert f"{options[0]} would have no effect; leave it out" in message


@pytest.mark.parametrize("options", [("--seed", 5), ("--members", 25), ("--canaries", 0.1), ("--dataset", "digits")])
@pytest.mark.parametrize("pruning", [(), ("--sparsity", 0.5, *FAST[:4])], ids=["as it is", "pruning"])
def test_other_data_than_the_models_are_refused(refused, model, options, pruning) -> None:
    """They would have no effect on what is trained already, and parity and audit would be about other images."""
    argv = ["export", model, "-o", "out", *FAST[4:], "--dataset", "npz:own.npz", *options, *pruning]
    refused(*argv, code=1)


@pytest.mark.parametrize("verb", ["prune", "export"])
def test_a_model_of_own_images_asks_for_them(refused, model, verb) -> None:
    assert "--dataset" in refused(verb, model, "-o", "out", code=1)


def test_a_folder_never_decides_which_code_is_run(refused, model, here, monkeypatch) -> None:
    (here / "evil.py").write_text("open('pwned', 'x')\n")
    monkeypatch.syspath_prepend(here)
    record = json.loads((model / "model.json").read_bytes()) | {"model": "evil:build"}
    (model / "model.json").write_text(json.dumps(record))
    for verb in ("prune", "export"):
        message = refused(verb, model, "-o", "out", "--dataset", "npz:own.npz", code=2)
        assert "allow it with --model evil:build" in message


def test_a_file_that_computes_something_else_is_not_written(refused, here, monkeypatch, store, tiny) -> None:
    monkeypatch.setenv("MOBILEPRUNE_RUNS", str(store))
    message = refused("export", "-o", "out", *tiny, "--atol", 0, "--rtol", 0, code=1)
    assert "more than --atol 0 and --rtol 0 allow; nothing was written" in message


def test_an_output_that_is_no_artifact_is_named_as_that(refused, here) -> None:
    """--force would not replace it, so it is not recommended."""
    (here / "out" / "other").mkdir(parents=True)
    for more in ([], ["--force"]):
        message = refused("export", "-o", "out", *more, code=2)
        assert "out exists and is not an artifact, which --force does not replace; choose another -o" in message


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The kernel refuses longer files, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("verb", ["train", "export", "report"])
def test_a_full_disk_is_exit_1(refused, artifacts, here, monkeypatch, store, tiny, verb) -> None:
    """The kernel refuses weights (250 kB), then the exported file (34 kB), then report.html."""
    if verb == "report":
        monkeypatch.setenv("MOBILEPRUNE_RUNS", str(store))
        (here / "out").mkdir()
    if verb == "export":
        shutil.copytree(store, here / "runs")
    first = {"train": tiny[:4], "export": (*tiny, "--bake-preprocessing"), "report": [artifacts["onnx"]]}
    with no_file_beyond({"train": 100_000, "export": 20_000, "report": 5_000}[verb]):
        refused(verb, *first[verb], "-o", "out", code=1)


@pytest.mark.parametrize(
    "damaged",
    [
        "query/*/logits.safetensors",
        "train/*/model.json",
        "train/*/weights.safetensors",
        "export/*/artifact/manifest.json",
        "export/*/artifact/model.onnx",
    ],
)
def test_a_damaged_run_store_is_one_line_that_names_the_place(refused, artifacts, here, store, damaged) -> None:
    shutil.copytree(store, here / "runs")
    for file in (here / "runs").glob(damaged):
        file.write_bytes(file.read_bytes()[:50])
    assert "runs/" in refused("audit", artifacts["onnx"], code=1)


def test_json_to_something_that_is_no_file_does_not_replace_it(command, artifacts, here) -> None:
    """``--json /dev/stdout`` as root once replaced the device; a pipe stands for it here."""
    os.mkfifo(here / "pipe")
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert command("inspect", artifacts["onnx"], "--json", here / "pipe").code == 0
        got = os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert (here / "pipe").is_fifo()
    assert json.loads(got)["schema"] == "mobileprune.inspect/1"
