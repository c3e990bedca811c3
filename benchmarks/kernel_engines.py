"""Inference engines in processes of their own (kernel_peer.py), and the files that each of them reads."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from kernel_cases import Network
from numpy.typing import NDArray
from quiet import Subject

from mobileprune.export.onnx.int8 import quantise
from mobileprune.export.target import ExportOptions

SCRIPT = Path(__file__).with_name("kernel_peer.py")
OLD_OPSET = 13  # DeepSparse knows no later ones
Opened = AbstractContextManager[tuple[NDArray[np.float32], Subject]]
"""The answer to the network's image, and what to time; the engine ends with the context."""
Open = Callable[[int, str], Opened]
"""(threads, Python to run it with)"""


def with_one_image(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` for batches of one: engines that compile ahead do it for known shapes."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return made


def plain(case: Network, path: Path) -> None:
    onnx.save_model(with_one_image(case.proto), path)


def quantised(case: Network, path: Path) -> None:
    onnx.save_model(with_one_image(quantise(case.proto, case.noise)), path)


def old_opset(case: Network, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the old one
        example = (torch.from_numpy(case.image),)
        torch.onnx.export(case.model, example, path, input_names=["input"], opset_version=OLD_OPSET, dynamo=False)


def converted(write: Any, form: str) -> Callable[[Network, Path], None]:
    """By a target of mobileprune."""

    def write_form(case: Network, path: Path) -> None:
        write(case.model, case.shape, path, ExportOptions(sparse_format=form))

    return write_form


def engine(name: str, write: Callable[[Network, Path], None], ending: str = "onnx") -> Callable[[Network, Path], Open]:
    """Of the engines of kernel_peer.py, the one called ``name``, on what ``write`` writes."""

    def prepare(case: Network, folder: Path) -> Open:
        np.save(folder / "image.npy", case.image)
        path = folder / f"model.{ending}"
        write(case, path)
        return partial(_open, name, path)

    return prepare


@contextmanager
def _open(name: str, path: Path, threads: int, python: str) -> Iterator[tuple[NDArray[np.float32], Subject]]:
    complaints = path.with_name("stderr")
    command = [python, str(SCRIPT), name, str(path), str(path.with_name("image.npy")), str(threads)]
    with complaints.open("w") as file:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        answer = _line(child, complaints)["output"]
        yield np.array(answer, np.float32)[None], partial(_ask, child, complaints)
    finally:
        child.kill()
        child.communicate()


def _ask(child: subprocess.Popen[str], complaints: Path, secs: float) -> tuple[list[float], float]:
    assert child.stdin
    child.stdin.write(f"{secs}\n")
    child.stdin.flush()
    said = _line(child, complaints)
    return said["times"], said["cpu"]


def _line(child: subprocess.Popen[str], complaints: Path) -> dict[str, Any]:
    assert child.stdout
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"it ended: ...{' '.join(complaints.read_text().split())[-160:]}")
    found: dict[str, Any] = json.loads(line)
    return found
