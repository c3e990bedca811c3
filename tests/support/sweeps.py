"""A sweep's document as `mobileprune sweep` writes it: two methods, three sparsities, two seeds, made-up numbers."""

from __future__ import annotations

from typing import Any

METHODS, SPARSITIES, SEEDS = ("mia", "magnitude"), (0.7, 0.9, 0.95), (0, 1)


def estimate(value: float) -> dict[str, Any]:
    return {
        "value": value,
        "low": value - 0.03,
        "high": value + 0.03,
        "confidence": 0.95,
        "method": "DeLong",
        "note": None,
    }


def leakage(value: float) -> dict[str, Any]:
    return {"auc": estimate(value), "attacks": ["loss", "loss"], "upper": value + 0.02}


def mean(value: float, spread: float) -> dict[str, Any]:
    return {"mean": value, "low": value - spread, "high": value + spread, "count": len(SEEDS)}


def document() -> dict[str, Any]:
    """Accuracy falls and so do size and leakage; magnitude is less accurate at the same size and leakage."""
    points, cases = [], []
    for m, method in enumerate(METHODS):
        for s, sparsity in enumerate(SPARSITIES):
            options = {"method": method, "sparsity": sparsity}
            case = f"{method}-{sparsity}"
            accuracy, size, auc = 0.36 - 0.02 * s - 0.015 * m, 90_000 - 25_000 * s + 10 * m, 0.8 - 0.06 * s
            for seed in SEEDS:
                timed = {"value": 1.0, "low": 0.9, "high": 1.1, "confidence": 0.95}
                latency = {"artifact_ms": 0.5, "baseline_ms": 0.5, "speedup": timed, "num_threads": 1, "valid": True}
                points.append(
                    {
                        "id": f"{case}-{seed}",
                        "case": case,
                        "baseline": f"dense-{seed}",
                        "seed": seed,
                        "options": options,
                        "artifact_sha256": f"{len(points):064x}",
                        "target": "onnx",
                        "precision": "fp32",
                        "sparsity": sparsity,
                        "test_accuracy": accuracy,
                        "member_accuracy": 0.9,
                        "accuracy_drop": 100 * (0.37 - accuracy),
                        "size_bytes": size,
                        "deflated_bytes": size - 500,
                        "latency": latency | {"note": ""},
                        "auc": leakage(auc),
                        "canary_auc": leakage(auc + 0.1) if seed else None,
                        "verdict": "fail",
                        "sentence": "Fail.",
                        "misses": [],
                    }
                )
            means = {
                "test_accuracy": mean(accuracy, 0.01),
                "accuracy_drop": mean(100 * (0.37 - accuracy), 1),
                "size_bytes": mean(size, 0),
                "deflated_bytes": mean(size - 500, 0),
                "latency_ms": mean(0.5 + 0.01 * s + 0.001 * m, 0.02),
                "auc": mean(auc, 0.02),
            }
            ids = [f"{case}-{seed}" for seed in SEEDS]
            miss = [{"limit": "max_auc", "value": auc, "bound": 0.7}] if auc > 0.7 else []
            cases.append({"id": case, "options": options, "points": ids, "means": means, "rank": m, "misses": miss})
    dense = [
        {
            "id": f"dense-{seed}",
            "seed": seed,
            "options": {},
            "artifact_sha256": f"{seed:064x}",
            "test_accuracy": 0.37,
            "size_bytes": 250_000,
            "deflated_bytes": 240_000,
            "auc": leakage(0.9),
            "canary_auc": None,
        }
        for seed in SEEDS
    ]
    sentence = "mia-0.95 keeps to every limit and is the smallest."
    return {
        "schema": "mobileprune.sweep/1",
        "name": "small",
        "created": "2026-11-25T12:00:00Z",
        "base": {"model": "lenet5"},
        "grid": {"method": [*METHODS], "sparsity": [*SPARSITIES], "seed": [*SEEDS]},
        "effort": {"access": "logits", "references": 0, "queries": 1, "jobs": 1, "versions": 0},
        "limits": {"max_auc": 0.7},
        "prefer": "size_bytes",
        "objectives": [
            {"name": "test_accuracy", "better": "higher"},
            {"name": "size_bytes", "better": "lower"},
            {"name": "latency_ms", "better": "lower"},
            {"name": "auc", "better": "lower"},
        ],
        "baselines": dense,
        "points": points,
        "cases": cases,
        "front": [f"mia-{sparsity}" for sparsity in SPARSITIES],
        "chosen": {"point": "mia-0.95-0", "case": "mia-0.95", "fits": True, "sentence": sentence, "artifact": "chosen"},
        "failed": [{"options": {"method": "mia", "sparsity": 2}, "error": "sparsity must be below 1"}],
        "machine": {"cpu": "a processor", "cores": 2},
        "progress": {"done": 48, "total": 48, "seconds_left": 0.0},
        "notes": ["three latencies are not valid"],
    }
