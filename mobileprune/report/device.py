"""What a device did, as rows of text: what a file costs there, and how its answers differ from this machine's."""

from __future__ import annotations

from typing import Any

from mobileprune.report.tables import Rows, estimate

MAX_NODES = 15
"""Of a profile that a table shows; the JSON has all."""
UNKNOWN = "-"


def device_sentence(value: dict[str, Any]) -> str:
    """Where it was measured, and with what."""
    device = value["device"]
    where = f"{device['name']}, {device['platform']}, ONNX Runtime {device['runtime']}"
    how = "emulated: instructions of one inference, no times" if device["emulated"] else "batch 1"
    pinned = f", CPUs {value['cpus']}" if value["cpus"] else ""
    return f"{where}: {how}, {value['num_threads']} thread(s){pinned}"


def device_bench_rows(value: dict[str, Any]) -> Rows:
    """The artifact beside the baseline."""
    columns = {
        name: costs for name, costs in (("exported file", value["artifact"]), ("dense", value["baseline"])) if costs
    }
    rows: Rows = [("", *columns)]

    def row(words: str, cells: list[str]) -> None:
        if any(cell != UNKNOWN for cell in cells):
            rows.append((words, *cells))

    found = [*columns.values()]
    for key in ("p50", "p90", "p99"):
        row(f"latency {key}", [f"{c['latency_ms'][key]:.3f} ms" if c["latency_ms"] else UNKNOWN for c in found])
    row("load time", [_ms(c["load_ms"]) for c in found])
    row("first run", [_ms(c["first_run_ms"]) for c in found])
    row("instructions per inference", [_count(c["instructions"]) for c in found])
    for words, key in {"file size": "size_bytes", "deflated": "deflated_bytes"}.items():
        row(words, [f"{c[key] / 1024:,.1f} KiB" for c in found])
    for words, key in {"peak memory": "peak_memory_bytes", "memory added by loading": "added_memory_bytes"}.items():
        row(words, [UNKNOWN if c[key] is None else f"{c[key] / 1024:,.1f} KiB" for c in found])
    if speed := value["speedup"]:
        row("speed-up", [f"{speed['value']:.2f}x [{speed['low']:.2f}, {speed['high']:.2f}]", "1"])
    if fewer := value["fewer_instructions"]:
        row("fewer instructions", [f"{fewer:.2f}x", "1"])
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
        rows.append((name, estimate(value["auc"][group][name]), estimate(difference, digits=4)))
    return rows


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f} ms"


def _count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"
