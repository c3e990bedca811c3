"""What else runs the same networks: engines with and without sparse kernels, int8, and fewer channels."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from kernel_cases import PATTERNS, SIDES, Network, narrow, network, pruned
from kernel_engines import Open, Opened, converted, engine, old_opset, plain, quantised
from kernel_sessions import Running, options, verified
from kernel_torch import csr
from numpy.typing import NDArray
from quiet import compare, in_process

from mobileprune.export import litert, mnn
from mobileprune.export.onnx.int8 import quantise, slim

WIDTH = 0.316  # squared: a tenth of the weights
LIMIT = 1e-4
"""Of the error of engines, whose order of additions is their own."""


@dataclass(frozen=True)
class Peer:
    """``prepare`` converts a network in an empty folder. ``limit``: of its error, None where it has to differ.
    ``zeros``: whether it matters where they are, so that each pattern is measured."""

    words: str
    prepare: Callable[[Network, Path], Open]
    limit: float | None = LIMIT
    zeros: bool = True


def running(make: Callable[[int], Callable[[], NDArray[np.float32]]]) -> Open:
    """In this process, by what ``make`` makes for a number of threads."""

    def opened(threads: int, python: str) -> Opened:
        run = make(threads)
        return nullcontext((run(), in_process(run)))

    return opened


def _session(proto: onnx.ModelProto, case: Network) -> Open:
    return running(lambda threads: Running(proto, case.image, options(threads)))


def ort_int8(case: Network, folder: Path) -> Open:
    return _session(slim(quantise(case.proto, case.noise), case.proto), case)


def ort_narrow(name: str, case: Network, folder: Path) -> Open:
    return _session(narrow(name, WIDTH).proto, case)


def torch_csr(case: Network, folder: Path) -> Open:
    return running(partial(csr, case.model, case.image))


def _peers(name: str) -> dict[str, tuple[str, list[Peer]]]:
    """Name -> the module that it needs beyond the project's own, and what is measured."""
    return {
        "int8": ("", [Peer("ONNX Runtime int8", ort_int8, None, zeros=False)]),
        "narrow": ("", [Peer(f"ONNX Runtime, width x{WIDTH}", partial(ort_narrow, name), None, zeros=False)]),
        "openvino": (
            "openvino",
            [
                Peer("OpenVINO", engine("openvino", plain)),
                Peer("OpenVINO int8", engine("openvino", quantised), None, zeros=False),
            ],
        ),
        "mnn": (
            "MNN",
            [
                Peer("MNN", engine("mnn", converted(mnn.write, "dense"), "mnn"), zeros=False),
                Peer("MNN sparse", engine("mnn", converted(mnn.write, "sparse"), "mnn")),
            ],
        ),
        "litert": (
            "ai_edge_litert",
            [
                Peer("LiteRT", engine("litert", converted(litert.write, "dense"), "tflite"), zeros=False),
                Peer("LiteRT sparse", engine("litert", converted(litert.write, "sparse"), "tflite")),
            ],
        ),
        "deepsparse": ("deepsparse", [Peer("DeepSparse", engine("deepsparse", old_opset))]),
        "torch": ("", [Peer("torch CSR", torch_csr)]),
    }


PEERS = tuple(_peers(next(iter(SIDES))))


def peers(
    name: str, sparsity: float, wanted: list[str], pythons: dict[str, str], threads: list[int], rounds: int
) -> list[dict[str, Any]]:
    """A row for each peer, pattern and number of threads: compared with dense ONNX Runtime, or why it is not."""
    dense, rows, known = network(name), list[dict[str, Any]](), _peers(name)
    cases = {pattern: pruned(dense, pattern, sparsity) for pattern in PATTERNS}
    for key in wanted:
        module, variants = known[key]
        python = pythons.get(key, sys.executable)
        there = not module or not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode
        for peer in variants:
            for pattern, case in list(cases.items())[: None if peer.zeros else 1]:
                row = {"peer": peer.words, "pattern": pattern if peer.zeros else "", "sparsity": sparsity}
                measured = _rows(peer, case, threads, rounds, python) if there else [{"refused": "not installed"}]
                rows += [row | found for found in measured]
                print(name, peer.words, row["pattern"], *map(_short, measured), flush=True)
    return rows


def _rows(peer: Peer, case: Network, threads: list[int], rounds: int, python: str) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            opened = peer.prepare(case, Path(folder))
            for number in threads:
                baseline = Running(case.proto, case.image, options(number))
                with opened(number, python) as (answer, subject):
                    error = None if peer.limit is None else verified(baseline(), answer, peer.words, peer.limit)
                    found = compare(in_process(baseline), subject, rounds=rounds)
                rows.append({"threads": number, "error": error, **found.to_dict()})
        except Exception as error:  # of engines and converters: a peer that fails must not end the run
            rows.append({"refused": " ".join(str(error).replace(folder, "").split())[:200]})
    return rows


def _short(row: dict[str, Any]) -> str:
    return f"{row['threads']}: {row['ratio']['value']:.2f}x" if "ratio" in row else row["refused"]
