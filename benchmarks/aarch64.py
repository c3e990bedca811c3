"""How many instructions do the native operators save on a phone's processor? aarch64 binaries under emulation.

    python benchmarks/aarch64.py [--networks vgg16_bn,...] [--work DIR]

The networks of kernels.py with 90 % zeros. ONNX Runtime's own aarch64 build runs each with its dense kernels and with
the native operators, one image, one thread, and each sparse convolution alone as well; what is executed within a run is
counted; of layers of one shape the first one, times their number. Counts repeat on a loaded machine and say nothing of
caches: they are no time. Native answers are held against those of dense ONNX Runtime on x86. Needs what `mobileprune
devices setup qemu` prepares; writes results/aarch64.md too. With --work DIR a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from kernel_cases import PATTERNS, network, pruned
from kernel_sessions import Running, options, verified
from numpy.typing import NDArray
from onnx import helper
from record import RESULTS, kept, record

from mobileprune import native
from mobileprune.devices import open_device
from mobileprune.devices.job import Job, Model
from mobileprune.devices.profiles import PROFILES
from mobileprune.devices.session import DeviceSession
from mobileprune.errors import MobilepruneError
from mobileprune.export.onnx.native import NATIVE, choose
from mobileprune.export.onnx.native.layers import Graph, Layer
from mobileprune.export.onnx.native.measure import alone
from mobileprune.files import sha256

SIDES = {"vgg16_bn": 32, "resnet18": 112, "mobilenetv2": 224}
"""Of the images: those of kernels.py, but for ResNet-18, which at 224 takes four times as long."""
ZEROS = 0.9
KINDS = ("stock", "native")
LIMIT = 1e-4
"""Of the largest difference between an answer there and here, as a share of the largest output."""
REPEATS = 2
SPREAD = 1e-3
"""Of the counts of a network, relative."""


@dataclass(frozen=True)
class Case:
    """One model as stock and as native file, with an image."""

    facts: dict[str, Any]
    protos: dict[str, onnx.ModelProto]
    image: NDArray[np.float32]


def cases(proto: onnx.ModelProto, image: NDArray[np.float32]) -> Iterator[Case]:
    """The whole network, then its sparse convolutions that the library takes, one of each shape."""
    graph, (rewritten, kernels) = Graph(proto), choose(proto, "native")
    taken = {layer.name for layer in kernels.layers if layer.kernel == NATIVE}
    yield Case({}, {"stock": proto, "native": rewritten}, image)
    alike: dict[str, list[Layer]] = defaultdict(list)
    for layer in graph.layers():
        if layer.name in taken and "input_size" in layer.attributes and not layer.depthwise:
            alike[f"{layer.weights.shape} {sorted(layer.attributes.items())}"].append(layer)
    for first, *others in alike.values():
        pair = dict(zip(KINDS, map(flattened, alone(proto, graph, first)), strict=True))
        shape = [d.dim_value for d in pair["stock"].graph.input[0].type.tensor_type.shape.dim]
        given = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        facts = {"weights": [*first.weights.shape], "input": shape, "times": 1 + len(others)}
        yield Case(facts, pair, given)


def flattened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With an output of (1, K), as the runner wants it; a view, or one copy at most."""
    graph = proto.graph
    graph.node.append(helper.make_node("Flatten", [graph.output[0].name], ["flat"]))
    del graph.output[:]
    graph.output.append(helper.make_empty_tensor_value_info("flat"))
    return proto


def examined(case: Case, sessions: dict[str, DeviceSession], operators: Path, *, whole: bool) -> dict[str, Any]:
    """By processor, the counts of each kind of kernel; of a whole network also again, and the error."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for kind, proto in case.protos.items():
            path = Path(folder, f"{kind}.onnx")
            path.write_bytes(proto.SerializeToString())
            models[kind] = Model(path, sha256(path))
        job = Job(models["native"], case.image, baseline=models["stock"], operators=operators, warmup=1)
        for cpu, session in sessions.items():
            counts = [session.count(job) for _ in range(REPEATS if whole else 1)]
            for kind, runs in zip(("native", "stock"), zip(*counts, strict=True), strict=True):
                if max(runs) - min(runs) > SPREAD * min(runs):
                    raise RuntimeError(f"{cpu}, {kind}: counts do not repeat: {runs}")
            found[cpu] = {"native": counts[0][0], "stock": counts[0][1]}
            if whole:
                expected = Running(case.protos["stock"], case.image, options(1))()
                answer = session.run(Job(models["native"], case.image, operators=operators)).outputs
                found[cpu] |= {"runs": counts, "error": verified(expected, answer, cpu, LIMIT)}
    print(".", end="", file=sys.stderr, flush=True)
    return case.facts | found


def measured(name: str, pattern: str, sessions: dict[str, DeviceSession]) -> dict[str, Any]:
    operators = native.built_for("linux-aarch64", native.LIBRARY)
    if operators is None:
        raise MobilepruneError("the native operators for linux-aarch64 were not built: export/README.md, 'Devices'")
    made = pruned(network(name, SIDES[name]), pattern, ZEROS)
    whole, *layers = cases(made.proto, made.image)
    return {
        "whole": examined(whole, sessions, operators, whole=True),
        "layers": [examined(layer, sessions, operators, whole=False) for layer in layers],
    }


def fewer(row: dict[str, Any]) -> float:
    return float(row["stock"] / row["native"])


def summed(layers: list[dict[str, Any]], cpu: str) -> dict[str, int]:
    return {kind: sum(layer["times"] * layer[cpu][kind] for layer in layers) for kind in KINDS}


def lines(networks: dict[str, Any]) -> Iterator[str]:
    for name, patterns in networks.items():
        for pattern, found in patterns.items():
            for cpu in PROFILES:
                cells = []
                for pair in (found["whole"][cpu], summed(found["layers"], cpu)):
                    cells += [*(f"{pair[kind] / 1e6:.1f}" for kind in KINDS), f"**{fewer(pair):.2f}x**"]
                ratios = [fewer(layer[cpu]) for layer in found["layers"]]
                cells.append(f"{min(ratios):.2f}-{max(ratios):.2f}")
                worst = found["whole"][cpu]["error"]
                yield "| " + " | ".join([f"{name} {SIDES[name]}", pattern, cpu, *cells, f"{worst:.0e}"]) + " |"


def page(value: dict[str, Any]) -> str:
    head = [
        "# Instructions of an inference on aarch64\n",
        "aarch64 binaries under emulation (`devices setup qemu`), ONNX Runtime "
        f"{value['machine']['onnxruntime']}: its dense kernels and the",
        f"native operators on the same file, {value['zeros']:.0%} zeros, one image, one thread. Millions of",
        "instructions, counted between two marks: they repeat, and are no time. First whole networks, of which the",
        "first layer, the last and depthwise ones are dense; then their sparse convolutions, each alone in a file with",
        "what a call costs: sums, of layers of one shape the first times their number, and the range. Error: the",
        "largest difference of the network's native answer to dense ONNX Runtime on x86, as a share of the largest",
        "output.\n",
        "| network | zeros | processor | dense | native | fewer | layers: dense | native | fewer | range | error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines(value["networks"])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(SIDES))
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured")
    args = parser.parse_args()
    names = args.networks.split(",")
    with open_device("qemu:cortex-a53") as a53, open_device("qemu:cortex-a76") as a76:
        sessions = dict(zip(PROFILES, (DeviceSession(a53), DeviceSession(a76)), strict=True))
        networks: dict[str, Any] = {name: {} for name in names}
        for name, found in networks.items():
            for pattern in PATTERNS:
                make = partial(measured, name, pattern, sessions)
                found[pattern] = kept(args.work, f"aarch64 {name} {pattern}", make)
                print("\n".join(lines({name: {pattern: found[pattern]}})), flush=True)
    value = {"zeros": ZEROS, "sides": SIDES, "networks": networks}
    written = record("aarch64", value)
    (RESULTS / "aarch64.md").write_text(page(json.loads(written.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except MobilepruneError as problem:
        print(f"benchmarks/aarch64.py: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
