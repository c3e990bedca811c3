"""A real Ray cluster of two nodes on this machine: the same files as without it, also when a worker is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mobileprune
from mobileprune.artifact import Artifact
from mobileprune.engines import Engine, Task, pool, run
from mobileprune.errors import ArtifactError, MobilepruneError, TargetUnavailableError
from mobileprune.shadows import references
from mobileprune.sweep.run import SweepOptions
from mobileprune.sweep.timing import TimingOptions

BASE = {"members": 60, "epochs": 2, "retrain_epochs": 1, "method": "magnitude"}
PLAN = {"base": BASE, "grid": {"sparsity": [0.5, 0.9], "precision": ["fp32", "int8"], "seed": [0, 1]}}
HOW = SweepOptions(timing=TimingOptions(warmup_runs=1, min_runs=5, min_secs=0.0))


def test_without_ray_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TargetUnavailableError, match=r"--engine ray needs Ray: pip install 'mobileprune\[ray\]'"):
        pool(Engine("ray"), 1).__enter__()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        made.shutdown()


def workers_of(cluster: Any) -> list[int]:
    """Process ids of the cluster's workers that are at a task."""
    nodes = [process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in nodes and b"ray::_call" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def files(value: dict[str, Any]) -> dict[str, str]:
    return {json.dumps([p["options"], p["seed"]]): p["artifact_sha256"] for p in value["points"]}


@pytest.mark.long
def test_a_sweep_gives_the_same_files_as_here_though_a_worker_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    here = mobileprune.sweep(PLAN, tmp_path / "here", ctx=mobileprune.context(tmp_path / "one"), how=HOW)
    runs, killed = tmp_path / "many", list[int]()

    def kill() -> None:
        """A worker at the first task that begins after a training is done."""
        while not killed:
            if list(runs.glob("train/[!.]*")) and (found := workers_of(cluster)):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()
    how = SweepOptions(Engine("ray", address=cluster.address), timing=HOW.timing)
    there = mobileprune.sweep(PLAN, tmp_path / "there", ctx=mobileprune.context(runs), how=how)
    assert killed
    assert files(there.value) == files(here.value)
    assert len(files(here.value)) == 8
    assert len(list(runs.glob("train/[!.]*"))) == 2, "a dense model is trained once"
    assert [*(runs / "partial").iterdir()] == []


@pytest.mark.long
def test_reference_models_are_the_same_from_a_cluster(cluster: Any, artifacts: dict[str, Path], tmp_path: Path) -> None:
    artifact = Artifact.load(artifacts["onnx"])
    here = references(artifact, 2, {}, mobileprune.context(tmp_path / "one"))
    there = references(artifact, 2, {}, mobileprune.context(tmp_path / "many"), Engine("ray", address=cluster.address))
    for a, b in zip(here.answers["artifact"].examples, there.answers["artifact"].examples, strict=True):
        assert (a == b).all()


@pytest.mark.long
def test_errors_of_tasks_are_raised_as_themselves_and_lost_workers_end(cluster: Any, tmp_path: Path) -> None:
    with pool(Engine("ray", address=cluster.address), 1) as workers:
        assert workers.size == 2
        with pytest.raises(ArtifactError, match="is not an artifact"):
            run([Task("a", Artifact.load, tmp_path)], workers, lambda *_: None)
        with pytest.raises(MobilepruneError, match="a worker process died 3 times at a"):
            run([Task("a", os._exit, 3)], workers, lambda *_: None)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:1"])
def test_a_cluster_that_does_not_answer_is_said(address: str) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(TargetUnavailableError, match=f"no Ray cluster answers at --address {address} "):
        pool(Engine("ray", address=address), 1).__enter__()
