"""Where the time goes: ONNX Runtime's own profile, summed by node and by type of operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mobileprune.errors import DeviceError
from mobileprune.schemas import parse

KERNEL = "_kernel_time"
WARMUP_RUNS = 2
"""First runs of every node that do not count."""


@dataclass(frozen=True)
class NodeTime:
    """``mean_us``: microseconds of one inference; ``share`` of all nodes' time."""

    node: str
    operator: str
    runs: int
    mean_us: float
    share: float


def node_times(content: bytes) -> list[NodeTime]:
    """From a profile (Chrome's trace format), the longest first; DeviceError if it is none."""
    try:
        events = parse(content)
        found = _durations(events)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise DeviceError(f"the device's profile is damaged ({str(error)[:100]}); try again") from error
    counted = {key: times[WARMUP_RUNS:] or times for key, times in found.items()}
    means = {key: sum(times) / len(times) for key, times in counted.items()}
    total = sum(means.values()) or 1.0
    rows = [NodeTime(*key, len(counted[key]), mean, mean / total) for key, mean in means.items()]
    return sorted(rows, key=lambda row: (-row.mean_us, row.node))


def by_operator(nodes: list[NodeTime]) -> dict[str, dict[str, float]]:
    """Operator -> its nodes, their microseconds of one inference, and their share; the longest first."""
    found: dict[str, dict[str, float]] = {}
    for node in nodes:
        row = found.setdefault(node.operator, {"nodes": 0, "mean_us": 0.0, "share": 0.0})
        row["nodes"] += 1
        row["mean_us"] += node.mean_us
        row["share"] += node.share
    return dict(sorted(found.items(), key=lambda item: -item[1]["mean_us"]))


def _durations(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """(Node, operator) -> microseconds of every run."""
    found: dict[tuple[str, str], list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            key = (_printable(name.removesuffix(KERNEL)), _printable(event["args"]["op_name"]))
            found.setdefault(key, []).append(float(event["dur"]))
    return found


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:200])
