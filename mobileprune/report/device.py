"""What a device did, as rows of text: what a file costs there, and how its answers differ from this machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mobileprune.report.cells import at
from mobileprune.report.tables import Rows, estimate, ratio

MAX_NODES = 15
"""Of a profile that a table shows; the JSON has all."""
UNKNOWN = "-"
PLACE, ANSWERS = "device_bench", ("audit", "on_device")
"""Where a report keeps what was measured on a device, and how the answers there differ."""


def device_sentence(value: dict[str, Any]) -> str:
    """Where it was measured, and with what."""
    device = value["device"]
    where = f"{device['name']}, {device['platform']}, ONNX Runtime {device['runtime']}"
    how = "emulated: instructions of one inference, no times" if device["emulated"] else "batch 1"
    pinned = f", CPUs {value['cpus']}" if value["cpus"] else ""
    return f"{where}: {how}, {value['num_threads']} thread(s){pinned}"


def device_bench_rows(value: dict[str, Any]) -> Rows:
    """The artifact beside the baseline."""
    found = {"exported file": ("artifact", value["artifact"]), "dense": ("baseline", value["baseline"])}
    columns = {words: (name, costs) for words, (name, costs) in found.items() if costs}
    rows: Rows = [("", *columns)]

    def row(words: str, key: str, text: Callable[[Any], str]) -> None:
        cells = [_cost(costs, name, key, text) for name, costs in columns.values()]
        if any(cell != UNKNOWN for cell in cells):
            rows.append((words, *cells))

    for key in ("p50", "p90", "p99"):
        row(f"latency {key}", f"latency_ms.{key}", "{:.3f} ms".format)
    row("load time", "load_ms", "{:.1f} ms".format)
    row("first run", "first_run_ms", "{:.1f} ms".format)
    row("instructions per inference", "instructions", "{:,}".format)
    for words, key in {"file size": "size_bytes", "deflated": "deflated_bytes"}.items():
        row(words, key, _kib)
    for words, key in {"peak memory": "peak_memory_bytes", "memory added by loading": "added_memory_bytes"}.items():
        row(words, key, _kib)
    if speed := value["speedup"]:
        rows.append(("speed-up", at(ratio(speed), PLACE, "speedup"), "1"))
    if fewer := value["fewer_instructions"]:
        rows.append(("fewer instructions", at(f"{fewer:.2f}x", PLACE, "fewer_instructions"), "1"))
    return rows


def device_tables(value: dict[str, Any]) -> list[tuple[str, Rows]]:
    """What else was measured: checks of the timing, operators and nodes, minutes of a sustained run."""
    tables: list[tuple[str, Rows]] = []
    if value["checks"]:
        words = {True: "ok", False: "failed", None: "unknown"}
        checks: Rows = [("timing", "check", "")]
        tables.append(("", checks + [(c["name"], words[c["ok"]], c["note"]) for c in value["checks"]]))
    if value["operators"]:
        operators: Rows = [("operator", "nodes", "time", "share")]
        for name, found in value["operators"].items():
            operators.append((name, f"{found['nodes']:.0f}", f"{found['mean_us']:.1f} us", f"{found['share']:.1%}"))
        nodes: Rows = [("node", "operator", "time", "share")]
        for node in value["profile"][:MAX_NODES]:
            nodes.append((node["node"], node["operator"], f"{node['mean_us']:.1f} us", f"{node['share']:.1%}"))
        tables += [("the exported file by operator", operators), ("its nodes that take longest", nodes)]
    if value["sustained"]:
        minutes: Rows = [("minute", "latency p50", "speed of the first", "runs", "clock")]
        for each in value["sustained"]:
            clock = f"{each['frequency_khz'] / 1e6:.2f} GHz" if each["frequency_khz"] else UNKNOWN
            cells = (f"{each['p50_ms']:.3f} ms", f"{each['share']:.0%}", f"{each['runs']:,}", clock)
            minutes.append((str(each["minute"]), *cells))
        tables.append(("sustained", minutes))
    return tables


def on_device_title(value: dict[str, Any]) -> str:
    return f"the exported file on {value['device']['name']} and on this machine"


def on_device_rows(value: dict[str, Any], group: str) -> Rows:
    """AUC of every attack by this machine's answers, and how much the device's answers add to it."""
    rows: Rows = [("attack", "AUC here", "AUC there minus here")]
    for name, difference in value["auc_difference"][group].items():
        here = at(estimate(value["auc"][group][name]), *ANSWERS, "auc", group, name)
        rows.append((name, here, at(estimate(difference, digits=4), *ANSWERS, "auc_difference", group, name)))
    return rows


def _cost(costs: dict[str, Any], name: str, key: str, text: Callable[[Any], str]) -> str:
    """What was measured under the dotted ``key``; UNKNOWN where it was not, as times on an emulated device."""
    value: Any = costs
    for part in key.split("."):
        value = None if value is None else value[part]
    return UNKNOWN if value is None else at(text(value), PLACE, name, *key.split("."))


def _kib(count: int) -> str:
    return f"{count / 1024:,.1f} KiB"
