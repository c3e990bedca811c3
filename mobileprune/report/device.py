"""What a device did, as rows of text: what a file costs there, and how its answers differ from this machine's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mobileprune.report.cells import at
from mobileprune.report.tables import LATENCIES, MEMORY, SIZES, UNKNOWN, Rows, cost_rows, estimate, ratio

MAX_NODES = 15
"""Of a profile that a table shows; the JSON has all."""
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
    """The artifact beside the baseline, without what is known of neither, as times on an emulated device."""
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        **LATENCIES,
        "load_ms": ("load time", "{:.1f} ms".format),
        "first_run_ms": ("first run", "{:.1f} ms".format),
        "instructions": ("instructions per inference", "{:,}".format),
        **SIZES,
        **MEMORY,
    }
    head, *rows = cost_rows(value, PLACE, shown)
    rows = [head, *(row for row in rows if any(cell != UNKNOWN for cell in row[1:]))]
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
