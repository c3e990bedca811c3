"""Foreign models and tables of answers, and the AUC by its definition."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from scipy.stats import rankdata

import mobileprune

COUNT, CLASSES = 90, 4
SHAPE = (3, 6, 6)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (COUNT, *SHAPE), np.uint8)
LABELS = RNG.integers(0, CLASSES, COUNT)
MEMBER = np.arange(COUNT) < 40
WEIGHT = RNG.normal(size=(int(np.prod(SHAPE)), CLASSES)).astype(np.float32)
MODULE = """
import numpy as np
known = np.load({path!r})
x, y = known["images"][known["member"]] / 255, known["labels"][known["member"]]

def memory(images):
    assert images.dtype == np.float32 and images.shape[1:] == (3, 6, 6) and 0 <= images.min() <= images.max() <= 1
    near = ((images[:, None] - x[None]) ** 2).sum((2, 3, 4)).argmin(1)
    sure = np.where(((images - x[near]) ** 2).sum((1, 2, 3)) < 1e-3, 0.97, 0.4)[:, None]
    return np.where(np.arange(4) == y[near][:, None], sure, (1 - sure) / 3)

def of_the_batch(images):
    return np.stack([images.mean((1, 2, 3)), np.full(len(images), -images.mean()), *np.zeros((2, len(images)))], 1)

def two(images):
    return np.full((len(images), 2), -1.0)

def twelve(images):
    return np.tile(np.arange(12.0), (len(images), 1))

def flat(images):
    return np.zeros(len(images))

def unfinished(images):
    return np.full((len(images), 4), np.nan)

def broken(images):
    raise RuntimeError("no GPU\\nhere")

number = 3
"""


def linear_onnx(path: Path, *, last: bool = False, batch: int | str = "N", name: str = "x:0", kind: int = 1) -> Path:
    """(x - 0) W of flattened images, as somebody's exporter names it; ``last``: channels come last."""
    size = (*SHAPE[1:], SHAPE[0]) if last else SHAPE
    weight = WEIGHT.reshape(*SHAPE, CLASSES).transpose(1, 2, 0, 3).reshape(-1, CLASSES) if last else WEIGHT
    nodes = [
        helper.make_node("Cast", [name], ["c"], to=1),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, [batch, *size])],
        [helper.make_tensor_value_info("y", 1, None)],
        initializer=[numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def linear_ptl(path: Path) -> Path:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(WEIGHT.shape[0], CLASSES, bias=False)).eval()
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(WEIGHT.T))
    traced = torch.jit.trace(module, torch.zeros(1, *SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.freeze(traced)._save_for_lite_interpreter(str(path))
    return path


def linear_ort(path: Path) -> Path:
    import onnxruntime

    settings_ = onnxruntime.SessionOptions()
    settings_.optimized_model_filepath = str(path)
    settings_.add_session_config_entry("session.save_model_format", "ORT")
    settings_.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    source = linear_onnx(path.with_suffix(".onnx"))
    onnxruntime.InferenceSession(str(source), settings_, providers=["CPUExecutionProvider"])
    return path


def expected(pixels: np.ndarray[Any, Any], mean: float = 0.0, std: float = 1.0) -> np.ndarray[Any, Any]:
    return ((pixels.astype(np.float64) - mean) / std).reshape(len(pixels), -1) @ WEIGHT


def auc(members: np.ndarray[Any, Any], nonmembers: np.ndarray[Any, Any]) -> float:
    """The slow obvious one."""
    ranks = rankdata([*members, *nonmembers])
    return (ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2) / (len(members) * len(nonmembers))


def table(count: int = 120, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    labels, member = rng.integers(0, classes, count), np.arange(count) % 2 == 0
    outputs = rng.normal(size=(count, classes)) + 2.0 * member[:, None] * (np.arange(classes) == labels[:, None])
    return {"outputs": outputs, "labels": labels, "member": member}


def saved(folder: Path, **arrays_: Any) -> Path:
    np.savez(folder / "t.npz", **arrays_)
    return folder / "t.npz"


def as_csv(path: Path, values: dict[str, Any], prefix: str) -> Path:
    """As a spreadsheet writes it: with a byte-order mark, its own end of lines, and a column of its own."""
    classes = values["outputs"].shape[1]
    lines = [",".join(["row", "label", *(f"{prefix}{k}" for k in reversed(range(classes))), "member"])]
    for i, row in enumerate(values["outputs"]):
        cells = [repr(float(v)) for v in row[::-1]]
        lines.append(",".join([str(i), str(values["labels"][i]), *cells, "TRUE" if values["member"][i] else "false"]))
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n")
    return path


def subject_of(path: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = mobileprune.attack(outputs=path, **options).to_dict()["subjects"]["artifact"]
    return found
