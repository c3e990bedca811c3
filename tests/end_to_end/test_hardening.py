"""``--harden`` the whole way: in the file, in the manifest, in the audit, and nowhere else."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.tiny import TINY

import mobileprune
from mobileprune import evaluate
from mobileprune.artifact import Artifact, write_artifact
from mobileprune.config import ExportConfig
from mobileprune.errors import ParityError
from mobileprune.evaluate import results
from mobileprune.files import sha256
from mobileprune.runtimes import open_runtime

pytestmark = pytest.mark.usefixtures("quick_bench")
Made = dict[str, Any]
pipeline = importlib.import_module("mobileprune.pipeline.parity")


@pytest.fixture(scope="module")
def made(artifacts: dict[str, Path], store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """target -> the verb's result for a hardened export of the model that ``artifacts`` has unhardened."""
    folder, ctx = tmp_path_factory.mktemp("hardened"), mobileprune.context(store)
    specs = {"onnx": "round:1", "torchscript-lite": "label-only"}
    return {
        name: mobileprune.export(folder / name, ctx=ctx, target=name, harden=spec, **TINY)
        for name, spec in specs.items()
    }


def aucs(attack: evaluate.AttackResult, subject: str) -> dict[str, float | None]:
    return {name: m.auc.value for name, m in attack.subjects[subject].measurements["all"].items()}


@pytest.mark.parametrize("target", ["onnx", "torchscript-lite"])
def test_only_the_file_is_hardened(made: Made, artifacts, store, target) -> None:
    """The dense baseline and the source are those of the plain export, to the last bit."""
    ctx = mobileprune.context(store)
    plain, hardened = Artifact.load(artifacts[target]), made[target].artifact
    assert hardened.manifest.lineage == plain.manifest.lineage | {"export": hardened.manifest.lineage["export"]}
    assert hardened.manifest.sha256 != plain.manifest.sha256
    assert (hardened.manifest.output_name, hardened.manifest.num_classes) == ("logits", 10)
    baselines = [evaluate.relatives(artifact, {}, ctx).baseline for artifact in (plain, hardened)]
    assert all(b is not None and b.manifest.lineage["export"]["harden"] == "none" for b in baselines)
    assert len({b.manifest.sha256 for b in baselines if b}) == 1
    before, after = mobileprune.attack(artifacts[target], ctx=ctx), made[target].audit.attack
    for name in ("dense", "source"):
        assert aucs(before, name) == aucs(after, name)
    assert aucs(before, "artifact") != aucs(after, "artifact")
    assert before.subjects["artifact"].accuracy == after.subjects["artifact"].accuracy, "labels are as they were"
    assert not [note for note in before.notes if "hardened" in note]
    (note,) = [note for note in after.notes if "hardened" in note]
    assert hardened.manifest.lineage["export"]["harden"] in note
    assert "cut this last layer off" in note


def test_label_only_leaves_the_gap_attack(made: Made) -> None:
    found = aucs(made["torchscript-lite"].audit.attack, "artifact")
    assert set(found) == {"gap"}


def test_rounded_answers_are_rounded(made: Made) -> None:
    artifact = made["onnx"].artifact
    x = np.random.default_rng(0).uniform(size=(50, *artifact.manifest.input_shape)).astype(np.float32)
    p = np.exp(open_runtime(artifact).predict(x).astype(np.float64))
    np.testing.assert_allclose(p * 10, np.round(p * 10), atol=1e-5)


def test_a_file_that_rounds_up_does_not_pass_the_pipelines_parity(made: Made, store, tmp_path) -> None:
    artifact: Artifact = made["onnx"].artifact
    source = evaluate.relatives(artifact, {}, mobileprune.context(store)).source
    splits = evaluate.audit_data(artifact, {})
    wanted = ExportConfig(**artifact.manifest.lineage["export"])
    recorded = pipeline.check_parity(artifact, source, splits, wanted)
    assert recorded == artifact.manifest.parity
    assert recorded["unstable"] < 0.05 * recorded["inputs"]
    proto = onnx.load(artifact.model_path)
    (node,) = (n for n in proto.graph.node if n.op_type == "Round")
    node.op_type = "Ceil"
    onnx.save(proto, tmp_path / "m.onnx")
    wrong = replace(artifact.manifest, sha256=sha256(tmp_path / "m.onnx"))
    with pytest.raises(ParityError, match="differs from the PyTorch model"):
        pipeline.check_parity(write_artifact(tmp_path / "wrong", tmp_path / "m.onnx", wrong), source, splits, wanted)


def test_many_unstable_inputs_are_said(made: Made) -> None:
    artifact: Artifact = made["onnx"].artifact
    for unstable, notes in ((8, 1), (9, 2)):
        parity = artifact.manifest.parity | {"inputs": 163, "unstable": unstable}
        changed = Artifact(artifact.path, replace(artifact.manifest, parity=parity))
        assert len([*results._hardening_notes(changed)]) == notes


def test_a_hardening_that_hides_nothing_of_these_classes_is_refused_and_nothing_written(
    command, tiny, tmp_path
) -> None:
    done = command("export", "-o", tmp_path / "out", *tiny, "--harden", "topk:9")
    assert (done.code, "topk:9 hides nothing of 10 classes" in done.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_spec_is_refused_before_any_training(command, tiny, tmp_path) -> None:
    done = command("export", "-o", tmp_path / "out", "--runs", tmp_path / "runs", *tiny, "--harden", "rounds:2")
    assert (done.code, "did you mean 'round'" in done.err) == (2, True)
    assert not [*tmp_path.rglob("step.json")]
