"""Do zeros make the exported file faster? Whole networks in ONNX Runtime, with the native operators against without.

    python benchmarks/kernels.py [--networks vgg16_bn,...] [--sparsity 0.7,0.8,0.9,0.95] [--threads 1,2]
                                 [--peers openvino,...] [--peer-python NAME=PYTHON]

One image, float32, both sides in turn in one process, and only while the machine is quiet (quiet.py). The answer of
each side is held against the dense one's first. Peers are timed in processes of their own, against the same dense
ONNX Runtime; one that is not installed is reported as that, and one that needs another Python gets it by
``--peer-python``. Writes results/kernels-INSTRUCTIONS.md beside the JSON.
"""

from __future__ import annotations

import argparse
from typing import Any

from kernel_cases import PATTERNS, SIDES, Network, network, pruned
from kernel_layers import layers, limit_gmacs
from kernel_peers import PEERS, peers
from kernel_sessions import Running, native_library, options, rewritten, verified, weights
from publish_kernels import write
from quiet import compare, in_process
from record import record

from mobileprune.files import sha256

SPARSITIES, THREADS = (0.7, 0.8, 0.9, 0.95), (1, 2)
CENTRE = 0.9
"""The sparsity at which layers and peers are measured."""


def case(found: Network, threads: list[int], rounds: int) -> dict[str, Any]:
    """One sparse network: against dense ONNX Runtime at each number of threads, and the first number against others."""
    native, count = rewritten(found.proto)
    rows, running = {}, {}
    for number in threads:
        dense = Running(found.proto, found.image, options(number))
        ours = running[number] = Running(native, found.image, options(number, native_library()))
        error = verified(dense(), ours(), "native operators")
        compared = compare(in_process(dense), in_process(ours), rounds=rounds)
        rows[str(number)] = {"error": error, **compared.to_dict()}
    scaling = {
        str(number): compare(in_process(running[threads[0]]), in_process(running[number]), rounds=rounds).to_dict()
        for number in threads[1:]
    }
    return {"native_layers": count, **weights(found.proto), "threads": rows, "scaling": scaling}


def measured(name: str, sparsities: list[float], threads: list[int], rounds: int, limit: float) -> dict[str, Any]:
    dense, rows = network(name), {}
    for pattern in PATTERNS:
        for sparsity in sparsities:
            found = pruned(dense, pattern, sparsity)
            row = case(found, threads, rounds)
            if sparsity == CENTRE:
                row["layers"] = layers(found, limit)
            rows[f"{pattern} {sparsity:g}"] = row
            ratios = ", ".join(f"{n}: {r['ratio']['value']:.2f}x" for n, r in row["threads"].items())
            print(f"{name} {pattern} {sparsity:g}: {ratios}", flush=True)
    return {"side": SIDES[name], "cases": rows}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(SIDES))
    parser.add_argument("--sparsity", default=",".join(map(str, SPARSITIES)))
    parser.add_argument("--threads", default=",".join(map(str, THREADS)))
    parser.add_argument("--rounds", type=int, default=7, help="quiet pairs of blocks, at least 5")
    parser.add_argument("--peers", default=",".join(PEERS), help="empty for none")
    parser.add_argument("--peer-python", action="append", default=[], metavar="NAME=PYTHON")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sparsities, threads = [*map(float, args.sparsity.split(","))], [*map(int, args.threads.split(","))]
    pythons = dict(each.split("=", 1) for each in args.peer_python)
    value: dict[str, Any] = {"library_sha256": sha256(native_library()), "limit_gmacs": limit_gmacs(), "networks": {}}
    for name in args.networks.split(","):
        found = value["networks"][name] = measured(name, sparsities, threads, args.rounds, value["limit_gmacs"])
        if args.peers:
            found["peers"] = peers(name, CENTRE, args.peers.split(","), pythons, threads, args.rounds)
        path = record("kernels", value)  # after each: the next takes long
        write()
    print(path)


if __name__ == "__main__":
    main()
