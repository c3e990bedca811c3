"""The report's tables as rows of text: one source for terminal, Markdown and HTML. First row: the headings.

Cells with a number know where in the document of `report` it stands, which the HTML links to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobileprune.audit.verdict import GROUPS
from mobileprune.report.cells import Cell, at

Rows = list[tuple[str, ...]]
SUBJECTS = {"dense": "dense", "source": "pruned (PyTorch)", "artifact": "exported file"}
SUBJECT = ("audit", "subjects")
COSTS = {"dense": "baseline"}
"""The subjects whose costs the benchmark has under another name."""
BENCH = "bench"
UNKNOWN = "-"


def kib(count: int) -> str:
    return f"{count / 1024:,.1f} KiB"


LATENCIES = {f"latency_ms.{key}": (f"latency {key}", "{:.3f} ms".format) for key in ("p50", "p90", "p99")}
SIZES = {"size_bytes": ("file size", kib), "deflated_bytes": ("deflated", kib)}
MEMORY = {"peak_memory_bytes": ("peak memory", kib), "added_memory_bytes": ("memory added by loading", kib)}


def estimate(value: dict[str, Any], digits: int = 3) -> str:
    """``0.512 [0.480, 0.544]``, or that the sample is too small to tell."""
    if value["value"] is None:
        return "not resolvable"
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def percent(value: dict[str, Any]) -> str:
    """``90.7% [86.8%, 93.7%]``, or ``-`` of nothing."""
    return "-" if value["value"] is None else "{value:.1%} [{low:.1%}, {high:.1%}]".format(**value)


def tested(data: dict[str, Any]) -> str:
    """``test accuracy, 300 images``"""
    count = data["counts"]["test"]
    return f"test accuracy, {count:,} images" if count else "test accuracy"


def _estimate_at(value: dict[str, Any], *path: str) -> Cell:
    return at(estimate(value), *path)


def highest(measurements: dict[str, Any]) -> dict[str, Any]:
    """The attack with the highest AUC. That the best of many looks better than it is, :mod:`audit.selection` mends."""
    return max(measurements.values(), key=lambda m: m["auc"]["value"])


def kernel_rows(kernels: dict[str, Any]) -> Rows:
    rows: Rows = [("layer", "shape", "operator", "kernel", "why")]
    for layer in kernels["layers"]:
        shape = "x".join(map(str, layer["shape"]))
        rows.append((layer["name"], shape, layer["operator"], layer["kernel"], layer["why"]))
    return rows


def summary_rows(value: dict[str, Any]) -> Rows:
    """Before and after, privacy beside accuracy beside cost."""
    subjects = value["audit"]["subjects"]
    costs = {"dense": value["bench"]["baseline"], "source": None, "artifact": value["bench"]["artifact"]}
    names = [name for name in SUBJECTS if name in subjects]

    def row(title: str, cells: list[str]) -> tuple[str, ...]:
        return (title, *cells)

    rows: Rows = [row("", [SUBJECTS[n] for n in names])]
    shares = {n: percent(subjects[n]["test_accuracy"]) for n in names}
    rows.append(row(tested(value["audit"]["data"]), [at(shares[n], *SUBJECT, n, "test_accuracy") for n in names]))
    known = {n: f"{subjects[n]['accuracy']['members']:.1%}" for n in names}
    rows.append(row("accuracy on members", [at(known[n], *SUBJECT, n, "accuracy", "members") for n in names]))
    for group in GROUPS:
        if group in subjects["artifact"]["measurements"]:
            rows += _leakage_rows({n: subjects[n] for n in names}, group)

    def cost(key: str, text: Callable[[Any], str] = kib) -> list[str]:
        """Of what the benchmark measured under the dotted ``key``."""
        return [cost_cell(costs[n], BENCH, COSTS.get(n, n), key, text) for n in names]

    rows.append(row("file size", cost("size_bytes")))
    rows.append(row("deflated (app store)", cost("deflated_bytes")))
    rows.append(row("memory added by loading", cost("added_memory_bytes")))
    rows.append(row("load time", cost("load_ms", "{:.1f} ms".format)))
    rows.append(row("latency p50", cost("latency_ms.p50", "{:.3f} ms".format)))
    speed = value["bench"]["speedup"]
    if speed:
        by_name = {"dense": "1", "source": "-", "artifact": at(ratio(speed), BENCH, "speedup")}
        rows.append(row("speed-up", [by_name[n] for n in names]))
    return rows


def _leakage_rows(subjects: dict[str, Any], group: str) -> Rows:
    best = {name: subject["strongest"][group] for name, subject in subjects.items()}
    first = {name: (*SUBJECT, name, "measurements", group, found["chosen"][0]) for name, found in best.items()}
    accuracy = {n: subjects[n]["measurements"][group][place[-1]]["balanced_accuracy"] for n, place in first.items()}

    def cells(key: str) -> list[Cell]:
        return [_estimate_at(found[key], *SUBJECT, name, "strongest", group, key) for name, found in best.items()]

    return [
        (f"attack AUC, {GROUPS[group]}", *cells("auc")),
        ("  strongest attack", *(" / ".join(dict.fromkeys(found["chosen"])) for found in best.values())),
        ("  attack accuracy", *(_estimate_at(e, *first[n], "balanced_accuracy") for n, e in accuracy.items())),
        ("  TPR at 1% FPR", *cells("tpr_at_1pct_fpr")),
    ]


def ratio(value: dict[str, Any]) -> str:
    """``1.50x [1.42, 1.57]``"""
    return f"{value['value']:.2f}x [{value['low']:.2f}, {value['high']:.2f}]"


def cost_cell(costs: Mapping[str, Any] | None, place: str, name: str, key: str, text: Callable[[Any], str]) -> str:
    """What a benchmark measured under the dotted ``key`` of ``name``, artifact or baseline; UNKNOWN where it did not.

    ``place``: where a report keeps that benchmark.
    """
    path, value = key.split("."), costs
    for part in path:
        value = None if value is None else value[part]
    return UNKNOWN if value is None else at(text(value), place, name, *path)


def cost_rows(value: dict[str, Any], place: str, shown: Mapping[str, tuple[str, Callable[[Any], str]]]) -> Rows:
    """The artifact beside the baseline. ``shown``: dotted key -> words, and how its numbers are written."""
    found = {"exported file": ("artifact", value["artifact"]), "dense": ("baseline", value["baseline"])}
    columns = {words: (name, costs) for words, (name, costs) in found.items() if costs}
    rows: Rows = [("", *columns)]
    for key, (words, text) in shown.items():
        rows.append((words, *(cost_cell(costs, place, name, key, text) for name, costs in columns.values())))
    return rows


def bench_rows(value: dict[str, Any]) -> Rows:
    rows = cost_rows(value, BENCH, {**LATENCIES, "load_ms": ("load time", "{:.1f} ms".format), **SIZES, **MEMORY})
    sides = [(name, value[name]) for name in ("artifact", "baseline") if value[name]]
    rows.append(
        ("nonzero weights", *(at(f"{c['nonzeros']:,} of {c['weights']:,}", BENCH, n, "nonzeros") for n, c in sides))
    )
    if speed := value["speedup"]:
        rows.append(("speed-up", at(ratio(speed), BENCH, "speedup"), "1"))
    if (kernels := value["kernels"]) and (by := kernels["speedup"]):
        ours = at(ratio(by), BENCH, "kernels", "speedup")
        rows.append(("  by native kernels, same file", ours, *("-" for _ in sides[1:])))
    return rows


def attack_rows(value: dict[str, Any], group: str) -> Rows:
    """AUC of every attack, the subjects side by side."""
    names = [name for name in SUBJECTS if name in value["subjects"]]
    found = {name: value["subjects"][name]["measurements"][group] for name in names}
    rows: Rows = [("attack", "needs", *(f"AUC, {SUBJECTS[name]}" for name in names))]
    for attack, m in found["artifact"].items():
        place = {n: (*SUBJECT, n, "measurements", group, attack, "auc") for n in names}
        cells = [_estimate_at(found[n][attack]["auc"], *place[n]) if attack in found[n] else "-" for n in names]
        rows.append((attack, m["access"], *cells))
    return rows


def exposure_rows(value: dict[str, Any], labels: Sequence[str]) -> Rows:
    """The AUC of the strongest attack on the exported file by kind and by class, whose names are ``labels``."""
    found = value["exposure"]
    rows: Rows = [("class or kind", f"AUC of {found['attack']}")]
    names = {str(k): label for k, label in enumerate(labels) if label.strip()}
    for part, said in (("by_kind", {}), ("by_class", names)):
        place = ("audit", "exposure", part)
        rows += [(said.get(key, key), _estimate_at(e, *place, key)) for key, e in found[part].items()]
    return rows


def rate_rows(value: dict[str, Any], group: str) -> Rows:
    """What else every attack reaches on the exported file."""
    columns = {
        "attack accuracy": "balanced_accuracy",
        "TPR at 1% FPR": "tpr_at_1pct_fpr",
        "TPR at 0.1% FPR": "tpr_at_01pct_fpr",
        "PPV, 1% members": "ppv_at_prior_1pct",
        "PPV, 10% members": "ppv_at_prior_10pct",
    }
    rows: Rows = [("attack", *columns)]
    for name, m in value["subjects"]["artifact"]["measurements"][group].items():
        place = (*SUBJECT, "artifact", "measurements", group, name)
        rows.append((name, *(_estimate_at(m[key], *place, key) for key in columns.values())))
    return rows


def layer_rows(value: dict[str, Any]) -> Rows:
    """Zeros of every layer, and what its weights take in the file where the file tells."""
    layers, stored = value["manifest"]["sparsity"]["layers"], value["contents"]["layers"]
    rows: Rows = [("layer", "shape", "zeros", "weights", "sparsity", "bytes", "entropy, bytes")]
    for name, layer in layers.items():
        shape = "x".join(map(str, layer["shape"]))
        share = at(f"{layer['zeros'] / layer['total']:.4f}", "manifest", "sparsity", "layers", name)
        there = stored.get(name, {})
        found = {key: there.get(key) for key in ("stored_bytes", "bound_bytes")}
        sizes = [
            "-" if size is None else at(f"{size:,}", "contents", "layers", name, key) for key, size in found.items()
        ]
        rows.append((name, shape, f"{layer['zeros']:,}", f"{layer['total']:,}", share, *sizes))
    return rows


def measured_rows(compared: dict[str, Any]) -> Rows:
    """What two reports measured, side by side, from the JSON value of a comparison."""
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        "verdict": ("verdict", str),
        "test_accuracy": ("test accuracy", "{:.1%}".format),
        "auc": (f"attack AUC, {GROUPS['all']}", estimate),
        "attack": ("  strongest attack", str),
        "canary_auc": (f"attack AUC, {GROUPS['canaries']}", estimate),
        "canary_attack": ("  strongest attack", str),
        "latency_p50_ms": ("latency p50", "{:.3f} ms".format),
    }
    rows: Rows = [("", "A", "B")]
    for key, (words, write) in shown.items():
        if key in compared["measured"]:
            rows.append((words, *("-" if x is None else write(x) for x in compared["measured"][key])))
    return rows
