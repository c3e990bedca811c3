"""The Python API: values in, values out, nothing printed; and verbs that share their name with a subpackage."""

from __future__ import annotations

import copy
import importlib
import inspect
import pydoc
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from support.runtimes import each_target
from support.tiny import TINY

import mobileprune
from mobileprune.artifact import Artifact
from mobileprune.bench import BenchResult
from mobileprune.config import Config
from mobileprune.errors import ConfigError, MobilepruneError, UsageError
from mobileprune.evaluate import AttackResult
from mobileprune.foreign import ForeignResult
from mobileprune.inspection import Difference
from mobileprune.inspection.explanation import Explanation
from mobileprune.models.folder import ModelFolder
from mobileprune.pipeline.context import Context
from mobileprune.results import Audited, ReportResult

api = importlib.import_module("mobileprune.api")


def test_every_verb_returns_a_value_and_prints_nothing(artifacts, store, tmp_path, capfd, quick_bench) -> None:
    ctx, artifact, table = mobileprune.context(store), artifacts["onnx"], tmp_path / "t.npz"
    np.savez(
        table,
        outputs=np.random.default_rng(0).normal(size=(60, 3)),
        labels=np.arange(60) % 3,
        member=np.arange(60) < 30,
    )
    capfd.readouterr()
    made = mobileprune.export(tmp_path / "out", ctx=ctx, **TINY)
    results = {
        Context: ctx,
        Config: mobileprune.configure(sparsity=0.5),
        ModelFolder: mobileprune.train(tmp_path / "dense", ctx=ctx, members=60, epochs=3),
        Artifact: made.artifact,
        BenchResult: mobileprune.bench(artifact, ctx=ctx, min_runs=5, min_secs=0),
        AttackResult: mobileprune.attack(artifact, ctx=ctx),
        Audited: mobileprune.audit(artifact, ctx=ctx),
        ForeignResult: mobileprune.attack(outputs=table, ctx=ctx),
        dict: mobileprune.inspect(artifact),
        Difference: mobileprune.compare(artifact, artifact),
        Explanation: mobileprune.explain(artifact),
        ReportResult: mobileprune.report(artifact, tmp_path / "report", ctx=ctx),
    }
    pruned = mobileprune.prune(tmp_path / "pruned", tmp_path / "dense", ctx=ctx, method="magnitude", retrain_epochs=1)
    assert capfd.readouterr() == ("", "")
    assert all(type(value) is kind for kind, value in results.items())
    assert pruned.info.dense_weights_sha256 == results[ModelFolder].weights_sha256
    assert made.audit.verdict.overall == "inconclusive"
    assert set(made.audit.attack.subjects) == {"dense", "source", "artifact"}
    assert made.paths["html"] == tmp_path / "out" / "report.html"
    assert results[ReportResult].paths["json"] == tmp_path / "report" / "report.json"


@each_target
def test_an_export_is_the_same_bytes_whatever_was_exported_before(artifacts, store, tmp_path, target) -> None:
    """The same model from the same store twice in one process; only the export itself is done again."""
    shutil.copytree(store, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "export")
    pipeline = importlib.import_module("mobileprune.pipeline.export")
    config = mobileprune.configure(target=target, **TINY)
    ctx = mobileprune.context(tmp_path / "runs")
    train, prune = (importlib.import_module(f"mobileprune.pipeline.{name}") for name in ("train", "prune"))
    folder = prune.prune(train.train(config, ctx), config, ctx)
    again = pipeline.export(folder, config, ctx)
    assert [step.reused for step in ctx.store.done] == [True, True, False]
    assert again.manifest.sha256 == Artifact.load(artifacts[target]).manifest.sha256


def test_data_that_changed_between_two_calls_are_read_again(tmp_path) -> None:
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "a.npz", images=rng.integers(0, 256, (90, 12, 12), np.uint8), labels=np.arange(90) % 3)
        options = {"dataset": f"npz:{tmp_path / 'a.npz'}", "epochs": 1}
        found.append(mobileprune.train(tmp_path / str(seed), **options).info.split_sha256)
    assert found[0] != found[1]


def test_the_package_offers_exactly_the_functions_of_the_api() -> None:
    functions = {
        name
        for name, value in vars(api).items()
        if inspect.isfunction(value) and value.__module__ == api.__name__ and not name.startswith("_")
    } | {"compare", "configure", "inspect", "log"}  # of mobileprune.inspection, options and tracking
    assert set(mobileprune.VERBS) == functions
    assert list(mobileprune.VERBS) == sorted(functions)
    assert functions | {"__version__"} <= set(dir(mobileprune)), "dir() and completion show what there is"
    assert functions <= set(mobileprune.__all__)


@pytest.mark.parametrize("verb", mobileprune.VERBS)
def test_a_verb_looks_like_its_function(verb) -> None:
    offered, function = getattr(mobileprune, verb), getattr(api, verb)
    assert callable(offered)
    assert offered.__name__ == verb
    assert inspect.signature(offered) == inspect.signature(function)
    if function.__doc__:
        assert inspect.getdoc(offered) == inspect.getdoc(function)
        assert function.__doc__.split()[0] in pydoc.render_doc(offered)


def test_every_verb_is_documented() -> None:
    undocumented = [verb for verb in mobileprune.VERBS if not getattr(api, verb).__doc__]
    assert undocumented == []


def test_a_verb_can_be_copied() -> None:
    """As pickle and copy.deepcopy of a value that holds one do it."""
    assert copy.copy(mobileprune.train).__name__ == "train"


@pytest.mark.parametrize("name", ["export", "bench", "audit", "report"])
def test_importing_a_subpackage_does_not_hide_the_verb(name) -> None:
    module = importlib.import_module(f"mobileprune.{name}")
    assert inspect.ismodule(module)
    assert sys.modules[f"mobileprune.{name}"] is module
    assert getattr(mobileprune, name) is not module
    assert callable(getattr(mobileprune, name))
    setattr(mobileprune, name, module)  # what an import does
    assert callable(getattr(mobileprune, name))


def test_submodules_can_be_reached_through_the_verb() -> None:
    import mobileprune.audit.rates as rates
    import mobileprune.export.onnx as onnx
    from mobileprune.audit import rates as same
    from mobileprune.export.onnx import write

    assert rates is same
    assert inspect.ismodule(rates)
    assert onnx.write is write
    with pytest.raises(AttributeError, match="no_such_name"):
        mobileprune.export.no_such_name  # noqa: B018
    with pytest.raises(AttributeError):
        mobileprune.inspect.no_such_name  # noqa: B018


def test_configure_lays_options_over_the_defaults() -> None:
    config = mobileprune.configure(sparsity=0.5, target="torchscript-lite", seed=3, defense="minmax:0.1")
    changed = config.to_dict()
    assert (changed["prune"].pop("sparsity"), changed["export"].pop("target"), changed.pop("seed")) == (
        0.5,
        "torchscript-lite",
        3,
    )
    assert changed["prune"].pop("defense") == "minmax:0.1"
    plain = Config().to_dict()
    for section, key in (("prune", "sparsity"), ("prune", "defense"), ("export", "target")):
        del plain[section][key]
    assert changed == {key: value for key, value in plain.items() if key != "seed"}


def test_configure_reads_what_a_model_folder_was_made_from(store, tmp_path) -> None:
    ctx = mobileprune.context(store)
    mobileprune.train(tmp_path / "dense", ctx=ctx, members=40, canaries=0.2, seed=7, epochs=1)
    config = mobileprune.configure(tmp_path / "dense", sparsity=0.5)
    expected = mobileprune.configure(members=40, canaries=0.2, seed=7, sparsity=0.5)
    assert config == expected


def test_configure_names_every_problem() -> None:
    with pytest.raises(ConfigError, match=r"--epochs 0: must be at least 1; --sparsity 1: must be in \[0, 1\)") as info:
        mobileprune.configure(sparsity=1, epochs=0)
    assert len(info.value.problems) == 2
    with pytest.raises(UsageError, match=r"effort=Effort\(references=...\), or the flag --references"):
        mobileprune.configure(references=2)
    with pytest.raises(UsageError, match=r"effort=Effort\(queries=...\)"):
        mobileprune.audit("nowhere", queries=2)
    with pytest.raises(UsageError, match="unknown option 'sparsty': did you mean 'sparsity'"):
        mobileprune.configure(sparsty=0.5)


def test_errors_are_exceptions_of_one_family(tmp_path) -> None:
    for call in (
        lambda: mobileprune.inspect(tmp_path),
        lambda: mobileprune.export(tmp_path / "out", target="tflite"),
        lambda: mobileprune.train(tmp_path / "out", dataset="npz:nowhere"),
        lambda: mobileprune.context(num_threads=0),
    ):
        with pytest.raises(MobilepruneError):
            call()
    assert list(Path(tmp_path).iterdir()) == []
