"""The newest result of kernels.py for each instruction set as a page: results/kernels-avx2.md, kernels-avx512.md.

python benchmarks/publish_kernels.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from publish import table
from record import RESULTS


def ratio(row: dict[str, Any]) -> str:
    """``2.95x [2.93, 2.98]``."""
    found = row["ratio"]
    words = f"{found['value']:.2f}x [{found['low']:.2f}, {found['high']:.2f}]"
    return words if row["quiet"] else f"{words} (busy: {row['other_load']:.1f})"


def cases(value: dict[str, Any]) -> str:
    """Whole networks, a row for each pattern, sparsity and number of threads."""
    head = ("network", "zeros", "threads", "dense", "native", "faster", "than native with one", "error", "nonzeros")
    rows = []
    for name, found in value["networks"].items():
        for zeros, row in found["cases"].items():
            for threads, one in row["threads"].items():
                scaled = row["scaling"].get(threads)
                times = [f"{one[side]:.2f} ms" for side in ("baseline_ms", "candidate_ms")]
                share = f"{row['nonzeros'] / row['weights']:.1%}"
                last = [ratio(scaled) if scaled else "", f"{one['error']:.0e}", share]
                rows.append([f"{name} {found['side']}", zeros, threads, *times, ratio(one), *last])
    return table(head, rows)


def peers(value: dict[str, Any]) -> str:
    """Everything else beside the native operators, fastest first: against the same dense ONNX Runtime."""
    head = ("network", "threads", "what", "zeros", "latency", "faster than dense ONNX Runtime", "error")
    rows = []
    for name, found in value["networks"].items():
        if "peers" not in found:
            continue
        ours = [
            {"peer": "**native operators**", "pattern": pattern, "sparsity": sparsity, "threads": int(threads), **one}
            for zeros, case in found["cases"].items()
            for pattern, sparsity in [zeros.rsplit(" ", 1)]
            for threads, one in case["threads"].items()
            if any(sparsity == f"{row['sparsity']:g}" for row in found["peers"])
        ]
        every = sorted([*ours, *found["peers"]], key=order)
        rows += [peer_line(f"{name} {found['side']}", row) for row in every]
    return table(head, rows)


def order(row: dict[str, Any]) -> tuple[int, float]:
    """By threads, then the fastest; what was refused last."""
    return int(row.get("threads", 1)), -row["ratio"]["value"] if "ratio" in row else 0.0


def peer_line(network: str, row: dict[str, Any]) -> list[str]:
    zeros = f"{row['pattern']} {float(row['sparsity']):g}" if row["pattern"] else ""
    head = [network, str(row.get("threads", "")), row["peer"], zeros]
    if "refused" in row:
        return [*head, "", row["refused"].replace("|", "/"), ""]
    error = "" if row["error"] is None else f"{row['error']:.0e}"
    return [*head, f"{row['candidate_ms']:.2f} ms", ratio(row), error]


def layers(value: dict[str, Any]) -> str:
    """Every layer, or block of layers in one operator, that the library computes, of one thread."""
    head = ("layers", "weights", "pixels", "kernel", "nonzeros", "stored", "dense", "native", "faster", "of the limit")
    parts = []
    for name, found in value["networks"].items():
        for zeros, case in found["cases"].items():
            if "layers" in case:
                rows = [layer_line(row) for row in case["layers"]]
                parts.append(f"### {name} {found['side']}, {zeros}\n\n{table(head, rows)}")
    return "\n".join(parts)


def layer_line(row: dict[str, Any]) -> list[str]:
    times = [f"{row[side]:,.0f} us" for side in ("dense_us", "native_us")]
    if not row["layers"]:
        return ["the rest", "", "", "", "", "", *times, "", ""]
    shapes = ", ".join("x".join(map(str, shape)) for shape in row["shapes"])
    names = ", ".join(name.removesuffix(".weight") for name in row["layers"])
    zeros = [f"{row['nonzeros']:,}", f"{row['stored']:.2f}"]
    rates = [f"{row['dense_us'] / row['native_us']:.2f}x", f"{row['share_of_limit']:.0%}"]
    return [names, shapes, ", ".join(map(str, row["pixels"])), row["kernel"], *zeros, *times, *rates]


INTRODUCTION = """# Sparse execution: native operators in ONNX Runtime against dense ONNX Runtime

Whole networks, one image, float32. The same share of weights is zero in every layer but the first convolution, the
last linear layer and depthwise ones. Both sides run in turn in one process, on the same weights, zeros included; blocks
in which other processes ran are left out (*busy*: there were not enough others). *Faster*: the median over pairs of
blocks, with its 95 % interval. *Error*: largest difference over the largest output.

"""
BESIDE = """
## Beside others

In the same run, on the same networks. *Width*: a dense network with about a tenth of the weights. int8 and fewer
channels give other answers, so no error is stated.

"""
BY_LAYER = """
## Layer by layer

One thread, the fastest run in ONNX Runtime's profile; activations and additions that are fused count. Where one
operator computes several layers at once, they are listed each by itself and then together; *the rest* is what the
library leaves to ONNX Runtime. *Stored*: what the kernel multiplies with, added zeros included, over the nonzeros.
*Of the limit*: its multiply-adds a second over {limit:.0f} x 10^9, the rate of a dense matrix product of ONNX Runtime
in the same run.

"""


def page(value: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {text}" for name, text in value["machine"].items())
    by_layer = BY_LAYER.format(limit=value["limit_gmacs"]) + layers(value)
    return f"{INTRODUCTION}{cases(value)}{BESIDE}{peers(value)}{by_layer}\n{value['date']}; {machine}\n"


def instruction_set(value: dict[str, Any]) -> str:
    """Of the kernels that the layers were computed by."""
    rows = (
        row
        for found in value["networks"].values()
        for case in found["cases"].values()
        for row in case.get("layers", [])
    )
    return str(next(row["kernel"] for row in rows)).split("-")[0]


def pages() -> dict[Path, str]:
    """File -> text."""
    values = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*-kernels.json"))]
    newest = {instruction_set(value): value for value in sorted(values, key=lambda value: value["date"])}
    return {RESULTS / f"kernels-{name}.md": page(value) for name, value in newest.items()}


def write() -> None:
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    write()
