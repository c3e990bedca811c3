"""Reference models are the target's own pipeline on other members: held against that pipeline, run by hand."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mobileprune
from mobileprune.artifact import Artifact
from mobileprune.attacks import queries
from mobileprune.config import Config
from mobileprune.convert.harden import NONE
from mobileprune.engines import Engine, Pool, Task
from mobileprune.errors import DataError, UsageError
from mobileprune.export.target import DENSE
from mobileprune.files import sha256
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.export import export
from mobileprune.pipeline.inputs import pixels, splits_of
from mobileprune.pipeline.parity import source_logits
from mobileprune.pipeline.prune import prune
from mobileprune.pipeline.train import adopt, find_model
from mobileprune.runs import RunStore, StepResult
from mobileprune.runtimes import open_runtime
from mobileprune.shadows import Shadows, pipeline_of, references

train = importlib.import_module("mobileprune.pipeline.train").train  # mobileprune.train is the verb
SMALL = {
    "members": 100,
    "epochs": 2,
    "batch_size": 32,
    "method": "magnitude",
    "retrain_epochs": 1,
    "target": "torchscript-lite",
    "harden": "round:1",
}
COUNT = 4
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Made:
    """A target, its reference models, and what was heard while they were made."""

    config: Config
    artifact: Artifact
    shadows: Shadows
    context: Context
    steps: list[StepResult]
    progress: list[tuple[str, int, int]]


def exported(ctx: Context, *, pruned: bool = True, **options: Any) -> tuple[Config, Artifact]:
    config = mobileprune.configure(**SMALL | options)
    folder = train(config, ctx)
    return config, export(prune(folder, config, ctx) if pruned else folder, config, ctx)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    ctx = Context(RunStore(tmp_path_factory.mktemp("runs")))
    config, artifact = exported(ctx)
    heard: list[tuple[str, int, int]] = []
    ctx = Context(RunStore(ctx.store.root), lambda *said: heard.append(said))
    return Made(config, artifact, references(artifact, COUNT, {}, ctx), ctx, ctx.store.done, heard)


def redraw(config: Config, number: int) -> Config:
    return replace(config, data=replace(config.data, redraw=number))


def logits(shadows: Shadows) -> list[np.ndarray]:
    answers = [shadows.answers[name] for name in sorted(shadows.answers)]
    return [values for each in answers for values in (*each.examples, *each.test)]


def same(a: Shadows, b: Shadows) -> bool:
    pairs = zip(logits(a), logits(b), strict=True)
    return bool((a.inside == b.inside).all()) and all(np.array_equal(x, y) for x, y in pairs)


def test_each_reference_is_the_pipeline_run_by_hand_on_its_redraw(made: Made) -> None:
    splits, ctx = splits_of(made.config), made.context
    asked = np.concatenate([splits.members, splits.held_out])
    for r in range(COUNT):
        config = redraw(made.config, r)
        dense = train(config, ctx)
        pruned = prune(dense, config, ctx)
        plain = replace(config.export, harden=NONE, precision="fp32", sparse_format=DENSE)
        predict: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "artifact": open_runtime(export(pruned, config, ctx)).predict,
            "source": lambda x, pruned=pruned: source_logits(pruned, x),
            "dense": open_runtime(export(dense, replace(config, export=plain), ctx)).predict,
        }
        assert made.shadows.answers.keys() == predict.keys()
        for name, answers in made.shadows.answers.items():
            for found, indices in ((answers.examples[r], asked), (answers.test[r], splits.test)):
                assert found.dtype == np.float64
                assert np.array_equal(found, predict[name](pixels(splits, indices)).astype(np.float64)), (name, r)
        members = set(splits_of(config).members.tolist())
        assert made.shadows.inside[r].tolist() == [i in members for i in asked.tolist()]
    rounded = made.shadows.answers["artifact"].examples
    assert not np.array_equal(rounded[0], made.shadows.answers["source"].examples[0]), "hardened as the target is"
    assert np.array_equal(rounded[1:3][0], rounded[1])
    assert len(rounded[1:3]) == 2


def test_every_example_is_inside_exactly_half(made: Made) -> None:
    inside = made.shadows.inside
    assert (inside.dtype, inside.shape) == (np.bool_, (COUNT, 200))
    assert (inside.sum(0) == COUNT // 2).all()
    assert (inside.sum(1) == 100).all()
    assert (inside[0] == ~inside[1]).all()
    assert (inside[:, :100] == ~inside[:, 100:]).all(), "of each pair exactly one is a member"


def test_no_reference_is_the_target_or_another(made: Made) -> None:
    lineage = made.artifact.manifest.lineage
    own = {lineage["weights_sha256"], lineage["dense_weights_sha256"]}
    folders = [p.parent for kind in ("train", "prune") for p in made.context.store.root.glob(f"{kind}/*/model.json")]
    weights = [ModelFolder.load(folder).weights_sha256 for folder in folders]
    assert len(set(weights)) == len(weights) == 2 * (COUNT + 1)
    assert own < set(weights)


def test_labels_and_canaries_are_the_targets(made: Made) -> None:
    """They are what a reference was trained with: its accuracy on canaries that it learned is that of its members."""
    target = splits_of(made.config)
    for r in range(COUNT):
        other = splits_of(redraw(made.config, r))
        assert (other.labels == target.labels).all()
        assert other.counts() == target.counts()


def test_each_finished_reference_is_heard_of_and_found_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [step.step for step in made.steps[:COUNT]] == ["reference"] * COUNT
    assert [said for said in made.progress if said[0] == "references"] == [
        ("references", r + 1, COUNT) for r in range(COUNT)
    ]
    assert made.steps[1].changed == ("inputs.config.data.redraw",)
    ctx = Context(RunStore(made.context.store.root))
    monkeypatch.setattr("mobileprune.shadows.reference.train", None)  # nothing is made anew
    monkeypatch.setattr("mobileprune.shadows.pool", None)  # not even a process
    assert same(references(made.artifact, COUNT, {}, ctx, Engine(jobs=2)), made.shadows)
    assert [step.reused for step in ctx.store.done] == [True] * COUNT


def test_references_are_in_order_however_they_finish(made: Made, tmp_path: Path, monkeypatch: Any) -> None:
    def backwards(tasks: list[Task], workers: Pool, heard: Any) -> None:
        assert (len(tasks), workers.slots) == (2, 3)
        for task in reversed(tasks):
            heard(task, task.work(task.argument))

    monkeypatch.setattr("mobileprune.shadows.run", backwards)
    said: list[tuple[str, int, int]] = []
    ctx = Context(RunStore(tmp_path), lambda *heard: said.append(heard))
    references(made.artifact, 1, {}, Context(RunStore(tmp_path)))
    found = references(made.artifact, 3, {}, ctx, Engine(jobs=3))
    for a, b in zip(found.answers["artifact"].examples, made.shadows.answers["artifact"].examples[:3], strict=True):
        assert np.array_equal(a, b)
    assert said == [("references", 1, 3), ("references", 2, 3), ("references", 3, 3)]
    assert [step.reused for step in ctx.store.done] == [True, False, False]


def test_references_are_asked_about_the_copies_that_the_target_is_asked_about(made: Made, monkeypatch: Any) -> None:
    splits, ctx, copies = splits_of(made.config), Context(RunStore(made.context.store.root)), {"nearby": 3, "noisy": 1}
    images = splits.images.pixels[np.concatenate([splits.members, splits.held_out])]
    found = references(made.artifact, 2, {}, ctx, copies=copies)
    assert all(step.reused == (step.step != "reference") for step in ctx.store.done), "asked anew, not made anew"
    for r in range(2):
        config = redraw(made.config, r)
        predict = open_runtime(export(prune(train(config, ctx), config, ctx), config, ctx)).predict
        answers = found.answers["artifact"]
        assert answers.variants.keys() == copies.keys()
        assert np.array_equal(answers.examples[r], made.shadows.answers["artifact"].examples[r])
        for kind, number in copies.items():
            streams = queries.streams(kind, number, queries.SEED)
            asked = [predict(copy) for copy in queries.VARIANTS[kind](images, streams)]
            assert answers.variants[kind][r].dtype == np.float64
            assert np.array_equal(answers.variants[kind][r], np.stack(asked)), (kind, r)
    assert found.answers.keys() == made.shadows.answers.keys()
    assert not made.shadows.answers["artifact"].variants

    again = Context(RunStore(ctx.store.root))
    references(made.artifact, 2, {}, again, copies=copies)
    assert [step.reused for step in again.store.done] == [True] * 2
    monkeypatch.setattr(queries, "code", lambda: "changed")
    references(made.artifact, 1, {}, again, copies=copies)
    assert again.store.done[-1].changed == ("inputs.copies.changes",), "other copies are other answers"


@pytest.mark.long
def test_processes_that_are_killed_are_continued_to_the_answers_of_one(made: Made, tmp_path: Path) -> None:
    """Two at a time until a kill, then one."""
    code = (
        "import sys, mobileprune\nfrom pathlib import Path\nfrom mobileprune.artifact import Artifact\n"
        "from mobileprune.engines import Engine\nfrom mobileprune.shadows import references\n"
        f"references(Artifact.load(Path(sys.argv[1])), {COUNT}, {{}}, mobileprune.context(sys.argv[2]), Engine(jobs=2))"
    )
    line = [sys.executable, "-c", code, made.artifact.path, tmp_path]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not list(tmp_path.glob("reference/[!.]*")):
            assert process.poll() is None, "ended before it was killed"
            time.sleep(0.005)
    finally:
        process.kill()
        process.communicate()  # to the end of all that can write there: its workers too
    assert process.returncode == -signal.SIGKILL
    done = len(list(tmp_path.glob("reference/[!.]*")))
    assert 1 <= done < COUNT
    ctx = Context(RunStore(tmp_path))
    assert same(references(made.artifact, COUNT, {}, ctx), made.shadows)
    assert sum(step.reused for step in ctx.store.done) == done
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_target_that_was_not_pruned_has_references_that_were_not(tmp_path: Path) -> None:
    config, artifact = exported(Context(RunStore(tmp_path)), pruned=False, redraw=1, harden="none")
    ctx = Context(RunStore(tmp_path))
    found = references(artifact, 2, {}, ctx)
    assert found.answers.keys() == {"artifact", "source"}
    assert not (tmp_path / "prune").exists()
    draws = [
        json.loads(p.read_bytes())["inputs"]["config"]["data"]["redraw"] for p in tmp_path.glob("train/*/step.json")
    ]
    assert sorted(draws) == [1, 2, 3], "of a redraw neither itself nor its complement"
    assert (found.inside[0] == ~found.inside[1]).all()
    members = splits_of(redraw(config, 2)).members
    asked = np.concatenate([splits_of(config).members, splits_of(config).held_out])
    assert (np.isin(asked, members) == found.inside[0]).all()


def test_retraining_has_the_options_that_it_had(made: Made, tmp_path: Path) -> None:
    """Pruning as a command of its own may take another learning rate, which only the run store knows."""
    ctx = Context(RunStore(tmp_path))
    dense = adopt(train(made.config, made.context), ctx)
    slow = replace(made.config, train=replace(made.config.train, lr=1e-5, batch_size=50))
    references(export(prune(dense, slow, ctx), slow, ctx), 1, {}, Context(RunStore(tmp_path)))
    steps = [json.loads(path.read_bytes())["inputs"] for path in tmp_path.glob("prune/*/step.json")]
    assert [(step["lr"], step["batch_size"]) for step in steps] == [(1e-5, 50)] * 2
    (trained,) = [json.loads(path.read_bytes())["inputs"]["config"] for path in tmp_path.glob("train/*/step.json")]
    assert (trained["train"]["lr"], trained["data"]["redraw"]) == (made.config.train.lr, 0)


def test_what_was_pruned_twice_cannot_be_repeated(made: Made) -> None:
    ctx, lineage = made.context, made.artifact.manifest.lineage
    once = find_model(ctx.store, lineage["weights_sha256"], made.artifact.manifest)
    assert once
    config = replace(made.config, prune=replace(made.config.prune, sparsity=0.95))
    twice = export(prune(once, config, ctx), config, ctx)
    with pytest.raises(DataError, match=r"pruned more than once.*--references 0"):
        references(twice, 2, {}, ctx)


def changed(artifact: Artifact, **parts: dict[str, Any]) -> Artifact:
    """With other values in parts of its lineage."""
    lineage = artifact.manifest.lineage
    return replace(
        artifact, manifest=replace(artifact.manifest, lineage=lineage | {k: lineage[k] | v for k, v in parts.items()})
    )


def test_the_lineage_gives_the_configuration_back(made: Made) -> None:
    assert pipeline_of(made.artifact, {}) == made.config
    assert pipeline_of(made.artifact, {"data_dir": "d"}).data == replace(made.config.data, data_dir="d")
    lineage = made.artifact.manifest.lineage
    old = {key: value for key, value in lineage["data"].items() if key != "redraw"}
    before = replace(made.artifact, manifest=replace(made.artifact.manifest, lineage=lineage | {"data": old}))
    assert pipeline_of(before, {}) == made.config, "manifests of before there were redraws"
    assert pipeline_of(changed(made.artifact, data={"redraw": 5}), {}) == redraw(made.config, 5)


def test_what_began_with_a_checkpoint_cannot_be_repeated(made: Made) -> None:
    taken_over = changed(made.artifact, train={"checkpoint": "ab" * 32})
    with pytest.raises(DataError, match=r"made from a checkpoint \(sha256 abababababab….*--references 0"):
        references(taken_over, 2, {}, made.context)


def test_a_file_alone_decides_neither_which_code_runs_nor_which_file_is_read(made: Made, tmp_path: Path) -> None:
    users = changed(made.artifact, train={"model": "my.module:net"})
    for given in ({}, {"model": "lenet5"}):
        with pytest.raises(UsageError, match=r"allow it with --model my\.module:net"):
            pipeline_of(users, given)
    assert pipeline_of(users, {"model": "my.module:net"}).train.model == "my.module:net"

    budget, other = tmp_path / "budget.toml", tmp_path / "other.toml"
    budget.write_text('"fc*" = 0.5\n')
    other.write_text('"fc*" = 0.6\n')
    shared_out = changed(made.artifact, prune={"budget": sha256(budget)})
    for given in ({}, {"budget": str(other)}, {"budget": str(tmp_path / "missing")}):
        with pytest.raises(UsageError, match="give it with --budget FILE"):
            pipeline_of(shared_out, given)
    assert pipeline_of(shared_out, {"budget": str(budget)}).prune.budget == str(budget)
    with pytest.raises(UsageError, match="give it with --budget FILE"):
        pipeline_of(changed(made.artifact, prune={"budget": str(budget)}), {})


def test_other_data_and_numbers_are_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not what .* was trained on \(digits\).*--dataset"):
        references(changed(made.artifact, data={"split_sha256": "0" * 64}), 2, {}, made.context)
    with pytest.raises(UsageError, match="--references 0: must be at least 1"):
        references(made.artifact, 0, {}, made.context)
    for copies in ({"nearby": 0}, {"distant": 1}):
        with pytest.raises(UsageError, match="at least 1 of each kind, kinds are augmented, noisy, nearby"):
            references(made.artifact, 2, {}, made.context, copies=copies)


def test_an_error_in_a_process_is_the_error(made: Made, tmp_path: Path) -> None:
    broken = changed(made.artifact, train={"model": "no_such_module:net"})
    with pytest.raises(UsageError, match="no_such_module"):
        references(broken, 2, {"model": "no_such_module:net"}, Context(RunStore(tmp_path)), Engine(jobs=2))
