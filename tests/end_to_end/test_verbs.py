"""Every verb through the command line, on real files: exit codes, stdout and stderr, JSON, and the way of the data."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from jsonschema import Draft202012Validator
from PIL import Image

import mobileprune
from mobileprune import schemas

pytestmark = pytest.mark.usefixtures("quick_bench")
FAST = ("--method", "magnitude", "--retrain-epochs", "1", "--target", "torchscript-lite")
ON_ARTIFACT = {
    "inspect": (0, "90.00%"),
    "bench": (0, "latency p50"),
    "attack": (0, "modified_entropy"),
    "audit": (4, "verdict: inconclusive"),
    "report": (0, "attack AUC, canaries"),
}


def read(text: str, verb: str) -> dict[str, Any]:
    """The JSON document, which must be strict JSON and keep to the schema of ``verb``."""
    document: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    schema = {"$ref": f"#/$defs/{verb}", "$defs": schemas.document()["$defs"]}
    Draft202012Validator(schema).validate(document)
    return document


@pytest.mark.parametrize(
    ("verb", "target"),
    [*((verb, "onnx") for verb in ON_ARTIFACT), *((v, "torchscript-lite") for v in ("inspect", "audit"))],
)
def test_a_verb_on_an_artifact(command, artifacts, tmp_path, verb, target) -> None:
    """Table to stdout, progress to stderr, JSON to a file; with ``--json -`` stdout is JSON and nothing else."""
    argv = [verb, artifacts[target], *(["-o", tmp_path] if verb == "report" else [])]
    argv += ["--num-runs", 5, "--min-secs", 0] if verb == "bench" else []
    code, words = ON_ARTIFACT[verb]
    shown = command(*argv, "--json", tmp_path / "result.json")
    assert (shown.code, words in shown.out) == (code, True), shown
    assert "ask for outputs" not in shown.out
    assert ("reused" in shown.err) == (verb != "inspect")
    in_file = read((tmp_path / "result.json").read_text(), verb)
    piped = command(*argv, "--json", "-", "--quiet")
    assert (piped.code, piped.err) == (code, "")
    assert read(piped.out, verb)["schema"] == in_file["schema"] == f"mobileprune.{verb}/1"
    if verb in ("attack", "audit", "report"):
        notes = in_file.get("audit", in_file)["notes"]
        assert notes
        assert all(shown.out.count(note) == 1 for note in notes)
    if verb == "report":
        assert {path.name for path in tmp_path.iterdir()} > {"report.html", "report.md", "report.json", "card.html"}


def test_the_command_in_processes_of_its_own(artifacts) -> None:
    """``python -m`` with all its imports and measurements, and the installed script."""
    argv = [sys.executable, "-m", "mobileprune.cli.main", "bench", artifacts["onnx"], "--num-runs", "5", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    memory = read(done.stdout, "bench")["artifact"]["peak_memory_bytes"]
    assert memory is None or memory > 1 << 20
    script = Path(sys.executable).with_name("mobileprune")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mobileprune {mobileprune.__version__}\n"


def test_an_identical_export_reuses_every_step_and_says_so(command, artifacts, tiny, tmp_path) -> None:
    argv = ["export", "-o", tmp_path / "out", "--target", "onnx", *tiny]
    done = command(*argv, "--json", "-")
    document = read(done.out, "export")
    assert done.code == 0
    assert [step["step"] for step in document["steps"]] == ["train", "prune", "export", "export", *["query"] * 3]
    assert [step["of"] for step in document["steps"][2:]] == [
        "pruned lenet5, onnx",
        "dense lenet5, onnx",
        "dense baseline",
        "PyTorch source",
        "exported file",
    ]
    assert all(step["reused"] for step in document["steps"])
    assert len(re.findall(r"reused", done.err)) == len(document["steps"])
    first = read(command("inspect", artifacts["onnx"], "--json").out, "inspect")
    assert document["manifest"]["sha256"] == first["sha256"]
    assert command(*argv, "-q").code == 0, "the same artifact may be written to its own place again"


def test_an_existing_output_is_replaced_only_by_force(command, artifacts, tiny, tmp_path) -> None:
    out = shutil.copytree(artifacts["torchscript-lite"], tmp_path / "out")
    before = (out / "manifest.json").read_bytes()
    argv = ["export", "-q", "-o", out, *tiny, *FAST, "--sparsity", "0.5"]
    assert command(*argv).code == 2
    assert (out / "manifest.json").read_bytes() == before
    assert command(*argv, "--force").code == 0
    document = read(command("inspect", out, "--json").out, "inspect")
    assert document["lineage"]["prune"]["sparsity"] == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_surely_differs_is_said_before_any_work(command, artifacts, tiny, tmp_path, monkeypatch) -> None:
    """The same error, and the same way out, as when only the finished file shows it."""
    monkeypatch.setattr("mobileprune.api.run_train", lambda config, ctx: pytest.fail("work was begun"))
    out = shutil.copytree(artifacts["onnx"], tmp_path / "out")
    for flags, named in {
        ("--sparsity", "0.5"): "--sparsity",
        ("--seed", "1", "--epochs", "4"): "--seed, --epochs",
        ("--precision", "int8", "--opset", "20", "--lr", "0.1", "--canaries", "0", "--method", "random"): (
            "--canaries, --lr, --method, --precision, ..."
        ),
        ("--target", "torchscript-lite"): "--target",
    }.items():
        done = command("export", "-q", "-o", out, *tiny, *flags)
        assert done.code == 2
        assert f"out exists and was made otherwise ({named}); choose another -o or give --force to replace" in done.err
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["lineage"]["versions"]["torch"] = "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert "(version of torch)" in command("export", "-q", "-o", out, *tiny).err
    monkeypatch.undo()
    assert "nowhere.pt: no such checkpoint" in command("export", "-q", "-o", out, "--checkpoint", "nowhere.pt").err


def test_train_prune_export_as_a_chain_keep_what_the_model_was_made_from(command, artifacts, tmp_path) -> None:
    """Seed, members and canaries are said once, to ``train``; the later verbs read them from the model folder."""
    dense, pruned, out = (tmp_path / name for name in ("dense", "pruned", "out"))
    data = ["--members", 40, "--canaries", 0.2, "--seed", 7]
    made = read(command("train", "-o", dense, "--epochs", 1, *data, "--json", "-").out, "train")
    assert made["sparsity"]["prunable_zeros"] == 0
    argv = ["prune", dense, "-o", pruned, "--sparsity", 0.75, *FAST[:4]]
    thin = read(command(*argv, "--json", "-").out, "prune")
    assert thin["split_sha256"] == made["split_sha256"]
    assert thin["sparsity"]["prunable_zeros"] == round(0.75 * thin["sparsity"]["prunable_total"])
    as_it_is = read(command("export", pruned, "-o", out, *FAST[4:], "--json", "-").out, "export")
    lineage = as_it_is["manifest"]["lineage"]
    assert lineage["weights_sha256"] == thin["weights_sha256"]
    assert lineage["dense_weights_sha256"] == made["weights_sha256"]
    assert as_it_is["manifest"]["sparsity"] == thin["sparsity"]
    assert lineage["data"] == {
        "dataset": "digits",
        "members": 40,
        "canaries": 0.2,
        "redraw": None,
        "seed": 7,
        "split_sha256": made["split_sha256"],
    }
    assert command("export", pruned, "-o", out, *FAST[4:], "-q").code == 0, "the same may be written there again"
    assert "(pruned or not)" in command("export", dense, "-o", out, *FAST[4:], "-q").err
    assert as_it_is["audit"]["data"]["counts"]["canary_members"] == 8
    assert sorted(as_it_is["audit"]["subjects"]) == ["artifact", "dense", "source"]


def test_export_prunes_a_dense_model_when_a_sparsity_is_given(command, tmp_path, tiny) -> None:
    dense = tmp_path / "dense"
    made = read(command("train", "-o", dense, *tiny[:4], "--json", "-").out, "train")
    found = {}
    for name, options in {"thin": (*FAST, "--sparsity", "0.5"), "whole": FAST[4:]}.items():
        done = command("export", dense, "-o", tmp_path / name, *options, "--json", "-")
        found[name] = read(done.out, "export")["manifest"]
    assert found["thin"]["lineage"]["dense_weights_sha256"] == made["weights_sha256"]
    assert found["thin"]["sparsity"]["prunable_zeros"] == found["thin"]["sparsity"]["prunable_total"] // 2
    assert found["whole"]["lineage"]["weights_sha256"] == made["weights_sha256"]
    assert (found["whole"]["sparsity"]["prunable_zeros"], found["whole"]["lineage"]["prune"]) == (0, None)


def test_a_defence_changes_the_weights_and_keeps_the_budget(command, tmp_path, tiny) -> None:
    found = [
        read(command("prune", "-o", tmp_path / defense[:4], *tiny, "--defense", defense, "--json", "-").out, "prune")
        for defense in ("none", "minmax:0.5")
    ]
    assert found[0]["weights_sha256"] != found[1]["weights_sha256"]
    for value in found:
        assert value["sparsity"]["prunable_zeros"] == round(0.9 * value["sparsity"]["prunable_total"])


def test_config_flag_and_dry_run(command, store, tmp_path) -> None:
    """Flags win over ``--config``; ``--save-config`` writes what was used; a dry run makes nothing."""
    (tmp_path / "in.toml").write_text(
        'seed = 3\n[prune]\ndefense = "minmax:0.5"\nsparsity = 0.8\n[export]\ntarget = "onnx"\n'
    )
    steps = sorted(store.rglob("step.json"))
    argv = ["export", "-o", tmp_path / "out", "--config", tmp_path / "in.toml", "--sparsity", 0.7, "--dry-run"]
    done = command(*argv, "--save-config", tmp_path / "saved.toml", "--json", "-")
    config = read(done.out, "config")["config"]
    assert (config["seed"], config["prune"]["defense"], config["prune"]["sparsity"]) == (3, "minmax:0.5", 0.7)
    again = command("export", "--config", tmp_path / "saved.toml", "--dry-run", "--json", "-")
    assert read(again.out, "config")["config"] == config
    assert command(*argv).out == (tmp_path / "saved.toml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.toml", "saved.toml"]
    assert sorted(store.rglob("step.json")) == steps


def noise(members: int = 90, nonmembers: int = 90) -> dict[str, np.ndarray]:
    """Images and labels with nothing to learn, which a model can only know by heart; who is a member is stated."""
    rng = np.random.default_rng(0)
    total = members + nonmembers
    images, labels = rng.integers(0, 256, (total, 12, 12), np.uint8), rng.integers(0, 3, total)
    return {"images": images, "labels": labels, "member": np.arange(total) < members}


@pytest.fixture
def npz(tmp_path: Path) -> str:
    np.savez(tmp_path / "noise.npz", **noise())
    return f"npz:{tmp_path / 'noise.npz'}"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    data = noise()
    for index, (image, label, member) in enumerate(zip(*data.values(), strict=True)):
        place = tmp_path / "noise" / ("members" if member else "nonmembers") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{index:03d}.png")
    return f"folder:{tmp_path / 'noise'}"


POLICIES = {
    "pass": (("--max-auc", "0.99", "--max-canary-auc", "1"), 0),
    "inconclusive": ((), 4),
}


@pytest.mark.parametrize("outcome", POLICIES)
def test_the_policy_decides_the_exit_code(command, artifacts, outcome) -> None:
    options, code = POLICIES[outcome]
    done = command("audit", artifacts["onnx"], *options, "--json", "-")
    verdict = read(done.out, "audit")["verdict"]
    assert (done.code, verdict["exit_code"], verdict["overall"]) == (code, code, outcome), verdict["sentence"]


def test_a_model_that_knows_its_members_by_heart_fails(command, npz, tmp_path) -> None:
    """The user's own images with stated membership; the path is in no file and has to be said again to audit."""
    dataset = ("--dataset", npz)
    train = ["train", "-o", tmp_path / "dense", *dataset, "--epochs", 60, "--batch-size", 8]
    assert command(*train).code == 0
    argv = ["export", tmp_path / "dense", "-o", tmp_path / "out", *dataset, *FAST[4:], "--json", "-"]
    document = read(command(*argv).out, "export")
    assert document["audit"]["data"]["membership"] == "stated"
    assert str(tmp_path) not in json.dumps(document["manifest"])
    done = command("audit", tmp_path / "out", *dataset, "--json", "-")
    assert (done.code, read(done.out, "audit")["verdict"]["overall"]) == (3, "fail")
    assert command("audit", tmp_path / "out").code == 1


def test_a_report_names_the_files_of_members_that_stand_out_and_nothing_else_does(command, tmp_path) -> None:
    """Of noise that was learned by heart. What may be handed on, and what is logged by CI, names nobody."""
    for index, (image, label, member) in enumerate(zip(*noise(110, 160).values(), strict=True)):
        place = tmp_path / "noise" / ("members" if member else "nonmembers") / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"portrait{index:03d}.png")
    out, dataset = tmp_path / "out", ("--dataset", f"folder:{tmp_path / 'noise'}")
    some = ("--epochs", 40, "--batch-size", 8, "--method", "magnitude", "--sparsity", 0.1, "--retrain-epochs", 0)
    for_ci = ("--junit", tmp_path / "ci.xml", "--summary", tmp_path / "ci.md")
    assert command("export", "-o", out, *dataset, *some, *for_ci).code == 0
    examples = json.loads((out / "report.json").read_text())["audit"]["exposure"]["most_exposed"]["examples"]
    assert examples
    names = [example["file"] for example in examples]
    assert all(re.fullmatch(r"members/[0-2]/portrait\d{3}\.png", name) for name in names)
    assert all((tmp_path / "noise" / name).is_file() for name in names)
    assert f"the surest: {', '.join(names)}" in (out / "report.md").read_text()
    assert all(name in (out / "report.html").read_text() for name in names)
    assert f"the surest: {', '.join(names)}" in command("attack", out, *dataset).out
    handed_on = {path for path in out.iterdir() if not path.name.startswith("report.")}
    assert {path.name for path in handed_on} == {"model.onnx", "manifest.json", "card.html"}
    assert not any(b"portrait" in path.read_bytes() for path in (*handed_on, tmp_path / "ci.xml", tmp_path / "ci.md"))
    assert not any(str(tmp_path / "noise") in path.read_text() for path in out.glob("report.*"))


NET = """from torch import nn
def build(num_classes, input_shape):
    channels, height, width = input_shape
    features = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ACTIVATION(), nn.Flatten()]
    return nn.Sequential(*features, nn.Linear(4 * height * width, num_classes))
"""


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The user's own network in a package beside them."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "net.py").write_text(NET.replace("ACTIVATION", "ReLU"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    for module in ("lab", "lab.net"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return "lab.net:build"


@pytest.mark.parametrize(("suffix", "source"), [(".safetensors", "npz"), (".pt", "folder"), (".pt", "digits")])
def test_a_checkpoint_is_judged_only_where_its_members_are_known(
    command, net, request, tmp_path, suffix, source
) -> None:
    """Under one policy: a pass with stated membership, inconclusive where nobody knows what it was trained on."""
    known, path = source != "digits", tmp_path / f"w{suffix}"
    torch.manual_seed(0)
    weights = importlib.import_module("lab.net").build(*((3, (1, 12, 12)) if known else (10, (1, 28, 28)))).state_dict()
    torch.save(weights, path) if suffix == ".pt" else safetensors.torch.save_file(weights, path)
    dataset = ("--dataset", request.getfixturevalue(source)) if known else ()
    data = dataset or ("--members", 60, "--canaries", 0)
    argv = ["export", "-o", tmp_path / "out", "--model", net, "--checkpoint", path, *data, *FAST]
    ran = command(*argv, "--sparsity", 0.5, "--json", "-")
    assert ran.code == 0, ran.err
    document = read(ran.out, "export")
    assert document["manifest"]["lineage"]["held_out_unseen"] is known
    assert document["audit"]["data"]["membership"] == ("stated" if known else "drawn")
    done = command("audit", tmp_path / "out", *dataset, "--max-auc", 0.95)
    assert done.code == (0 if known else 4), done.out
    assert ("it is not known what the checkpoint was trained on" in done.out) is not known


def test_changed_code_of_the_users_model_is_not_answered_with_an_old_result(command, net, npz, tmp_path) -> None:
    argv = ["train", "--model", net, "--dataset", npz, "--epochs", 1, "--json", "-"]
    first = read(command(*argv, "-o", tmp_path / "a").out, "train")
    (tmp_path / "lab" / "net.py").write_text(NET.replace("ACTIVATION", "Sigmoid"))
    for module in ("lab", "lab.net"):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    second = read(command(*argv, "-o", tmp_path / "b").out, "train")
    assert second["weights_sha256"] != first["weights_sha256"]
