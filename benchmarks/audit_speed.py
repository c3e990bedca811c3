"""How fast is an audit without reference models, and asking through the runtime beside a bare ONNX Runtime loop?

    python benchmarks/audit_speed.py [--examples 10000] [--repeats 15]

LeNet-5 on random images of 28 x 28: what is asked does not depend on what was learnt. The loop and ``Runtime.predict``
take the same normalised batches in turn; the ratio of medians comes with a bootstrap interval. The audit (queries,
every attack, statistics and verdict, source and dense baseline included) starts from an empty query store. RMIA is
timed on as many random examples, against a population and 4 references of the same size.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from mobileprune import api
from mobileprune.artifact import Artifact
from mobileprune.attacks import ATTACKS, Evidence, Population, References
from mobileprune.onnx_runtime import library
from mobileprune.runtimes import open_runtime

BATCH = 256


def data(examples: int, folder: Path) -> str:
    rng = np.random.default_rng(0)
    count = examples + examples // 5
    pixels = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    np.savez(folder / "random.npz", images=pixels, labels=rng.integers(0, 10, count))
    return f"npz:{folder / 'random.npz'}"


def ratio(ours: list[float], bare: list[float]) -> dict[str, float]:
    """Throughput of ours against the bare loop: of the medians, with a 95 % interval of 2,000 paired resamples."""
    a, b, rng = np.array(ours), np.array(bare), np.random.default_rng(0)
    drawn = rng.integers(0, len(a), (2000, len(a)))
    values = np.median(b[drawn], axis=1) / np.median(a[drawn], axis=1)
    low, high = np.quantile(values, [0.025, 0.975])
    return {"value": float(np.median(b) / np.median(a)), "low": float(low), "high": float(high)}


def throughput(artifact: Artifact, examples: int, repeats: int) -> dict[str, Any]:
    m = artifact.manifest
    x = np.random.default_rng(1).random((examples, *m.input_shape), dtype=np.float32)
    ort = library()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(artifact.model_path, options, providers=["CPUExecutionProvider"])
    mean, std = (np.asarray(v, np.float32)[:, None, None] for v in (m.mean, m.std))

    def bare() -> Any:
        batches = ((x[i : i + BATCH] - mean) / std for i in range(0, examples, BATCH))
        return np.concatenate([session.run(None, {m.input_name: batch})[0] for batch in batches])

    runtime = open_runtime(artifact)
    ours, loop = [], []
    np.testing.assert_allclose(runtime.predict(x[:BATCH], BATCH), bare()[:BATCH], rtol=1e-4, atol=1e-4)
    for _ in range(repeats):
        for action, times in ((lambda: runtime.predict(x, BATCH), ours), (bare, loop)):
            started = time.perf_counter()
            action()
            times.append(time.perf_counter() - started)
    return {"seconds": float(np.median(ours)), "bare_seconds": float(np.median(loop)), "ratio": ratio(ours, loop)}


def rmia(examples: int) -> float:
    """Seconds of one scoring, the median of 5."""
    rng, seconds = np.random.default_rng(2), []
    logits, labels = rng.normal(size=(10, examples, 10)), rng.integers(0, 10, examples)
    inside = np.arange(4)[:, None] % 2 == np.arange(examples) % 2
    evidence = Evidence(
        logits[0],
        labels,
        references=References(logits[2:6], inside, logits[6:10]),
        population=Population(logits[1], labels),
    )
    for _ in range(5):
        started = time.perf_counter()
        ATTACKS["rmia_online"].score(evidence)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000, help="members and held-out images together")
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = data(args.examples, folder)
        options = {"members": args.examples // 2, "epochs": 1, "method": "magnitude", "sparsity": 0.9}
        ctx = api.context(folder / "runs")
        api.export(folder / "out", ctx=ctx, dataset=dataset, retrain_epochs=1, prune_epochs=1, **options)
        seconds = []
        for _ in range(3):
            shutil.rmtree(folder / "runs" / "query")
            started = time.perf_counter()
            api.audit(folder / "out", ctx=api.context(folder / "runs"), data={"dataset": dataset})
            seconds.append(time.perf_counter() - started)
        asked = throughput(Artifact.load(folder / "out"), args.examples, args.repeats)
    found = {
        "examples": args.examples,
        "audit_seconds": sorted(seconds),
        "throughput": asked,
        "rmia_seconds": rmia(args.examples),
    }
    print(found)
    print(record("audit-speed", found))


if __name__ == "__main__":
    main()
