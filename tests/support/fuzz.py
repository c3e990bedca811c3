"""``python fuzz.py SEEDS KIND COUNT``: open COUNT mutations of the file SEEDS/KIND, print what came of them as JSON."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

import mobileprune.runtimes.onnx_checks
import mobileprune.runtimes.torchscript_lite  # noqa: F401
from mobileprune.artifact import Artifact
from mobileprune.errors import ArtifactError
from mobileprune.runtimes import open_runtime, trial

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.runtimes import MANIFEST, SHAPE

Mutation = Callable[[bytes, random.Random], bytes]
BATCH = 500
SECS_A_FILE = 10
USERS = 5
EXTREMES = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 127, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
OPERATORS = (
    *(
        "Loop",
        "If",
        "Scan",
        "Expand",
        "Tile",
        "Range",
        "ConstantOfShape",
        "Resize",
        "Pad",
        "OneHot",
        "NonZero",
        "Gather",
    ),
    *(
        "ScatterElements",
        "Conv",
        "Gemm",
        "MatMul",
        "Einsum",
        "Reshape",
        "Transpose",
        "Slice",
        "Concat",
        "Split",
        "Cast",
    ),
    *(
        "Identity",
        "Relu",
        "Softmax",
        "MaxPool",
        "RandomNormalLike",
        "SequenceEmpty",
        "Optional",
        "DequantizeLinear",
        "X",
    ),
)


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, rng: random.Random) -> bytes:
    changed, size = bytearray(content), rng.choice((1, 2, 4, 8))
    at = rng.randrange(len(changed))
    changed[at : at + size] = rng.choice((b"\x00", b"\xff", b"\x80", b"\x7f", rng.randbytes(1))) * size
    return bytes(changed)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def splice(content: bytes, rng: random.Random) -> bytes:
    """A piece of the file put elsewhere, or taken away."""
    start, at = rng.randrange(len(content)), rng.randrange(len(content))
    piece = content[start : start + rng.choice((1, 4, 16, 64, 256))]
    return content[:at] + rng.choice((piece, b"")) + content[at + rng.choice((0, len(piece))) :]


def parts_of(message: Any) -> list[Any]:
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                found += parts_of(item)
    return found


def fields(content: bytes, rng: random.Random) -> bytes:
    """One to three fields of the parsed model set to something else: what bytes at random do not reach."""
    model = onnx.load_model_from_string(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        message = rng.choice(parts_of(model))
        present = message.ListFields()
        if present:
            _change(message, *rng.choice(present), rng)
    return model.SerializeToString()


def _change(message: Any, field: Any, value: Any, rng: random.Random) -> None:
    names = [name for part in parts_of(message) for name in (getattr(part, "name", ""),) if isinstance(name, str)]
    if rng.random() < 0.1:
        message.ClearField(field.name)
    elif field.is_repeated:
        items = list(value)
        at = rng.randrange(len(items))
        if field.message_type is None and rng.random() < 0.5:
            items[at] = _other(field, items[at], names, rng)
        else:
            items = rng.choice(
                (items[:at] + items[at + 1 :], [*items, items[at]], items[::-1], rng.sample(items, len(items)))
            )
        message.ClearField(field.name)
        getattr(message, field.name).extend(items)
    elif field.message_type is None:
        setattr(message, field.name, _other(field, value, names, rng))


def _other(field: Any, value: Any, names: list[str], rng: random.Random) -> Any:
    if field.enum_type is not None:
        return rng.choice([each.number for each in field.enum_type.values])
    if isinstance(value, str):
        return rng.choice(OPERATORS if field.name == "op_type" else ("", "input", "logits", "x" * 300, *names))
    if isinstance(value, bytes):
        return rng.choice((value[:-1], value + b"\0", b"", value[::-1], flip(value or b"\0", rng)))
    if isinstance(value, float):
        return rng.choice((0.0, -1.0, 1e30, float("inf"), float("nan")))
    low, high = (-(2**31), 2**31 - 1) if field.type == field.TYPE_INT32 else (0, 2**64 - 1)
    low = -(2**63) if field.type == field.TYPE_INT64 else low
    high = 2**63 - 1 if field.type == field.TYPE_INT64 else high
    return rng.choice([number for number in (*EXTREMES, int(value) + 1, int(value) - 1) if low <= number <= high])


def records(content: bytes, rng: random.Random) -> bytes:
    """A record of an archive changed, and its checksum with it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([n for n in kept if n.endswith(".pkl")]) if rng.random() < 0.7 else rng.choice(list(kept))
    if rng.random() < 0.05:
        del kept[name]
    else:
        kept[name] = rng.choice((flip, flip, overwrite, overwrite, splice, truncate))(kept[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each, record in kept.items():
            archive.writestr(each, record)
    return buffer.getvalue()


def mutated(content: bytes, structured: Mutation, seed: int) -> bytes:
    rng = random.Random(seed)
    chosen = rng.choice((flip, overwrite, truncate, splice, structured, structured, structured, structured))
    try:
        return chosen(content, rng)
    except (DecodeError, ValueError, TypeError):
        return flip(content, rng)


def outcome(folder: Path, target: str, content: bytes) -> str:
    """ "result", "refused", or what else came."""
    (folder / "model").write_bytes(content)
    try:
        open_runtime(Artifact(folder, replace(MANIFEST, target=target))).predict(np.ones((2, *SHAPE), np.float32))
    except ArtifactError:
        return "refused"
    except BaseException as error:
        return repr(error)[:200]
    return "result"


def resident_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def batch(folder: Path, target: str, make: Callable[[int], bytes], seeds: Sequence[int], report: int) -> None:
    """In a forked child: a line before and after each file."""
    del os.fork  # type: ignore[attr-defined]  # so that the trial runs here
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + trial.memory_limit(0), resource.RLIM_INFINITY))
    before = resident_mib()
    for seed in seeds:
        content = make(seed)
        signal.alarm(SECS_A_FILE)  # kills: a native loop would not come back to Python
        os.write(report, (json.dumps({"seed": seed}) + "\n").encode())
        said = outcome(folder, target, content)
        os.write(report, (json.dumps({"outcome": said, "growth": resident_mib() - before}) + "\n").encode())
    os._exit(0)


def lives(folder: Path, target: str, make: Callable[[int], bytes], seeds: list[int]) -> bool:
    """Whether a user's process, which tries files in children, runs all these, every time it does."""
    for _ in range(USERS):
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os._exit(any(outcome(folder, target, make(seed)) != "result" for seed in seeds))
        if os.waitpid(pid, 0)[1]:
            return False
    return True


def main(seeds: Path, kind: str, count: int) -> None:
    target, structured = ("torchscript-lite", records) if kind == "lite" else ("onnx", fields)
    good = (seeds / kind).read_bytes()
    trial.TIMEOUT_SECS = SECS_A_FILE
    said: dict[str, Any] = {"result": 0, "refused": 0, "died": 0, "other": {}, "growth_mib": 0}
    os.chdir(seeds)
    with tempfile.TemporaryDirectory() as work:
        make = lambda seed: mutated(good, structured, seed)  # noqa: E731
        done = 0
        while done < count:
            reader, writer = os.pipe()
            run: list[int] = []  # what users' processes would hold of this batch: refusals come from a trial's process
            pid = os.fork()
            if pid == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                batch(Path(work), target, make, range(done, min(done + BATCH, count)), writer)
            os.close(writer)
            with open(reader) as lines:
                for line in lines:
                    value = json.loads(line)
                    if "outcome" in value:
                        done += 1
                        said["growth_mib"] = max(said["growth_mib"], value["growth"])
                        if value["outcome"] == "result":
                            run.append(done - 1)
                        if value["outcome"] in ("result", "refused"):
                            said[value["outcome"]] += 1
                        else:
                            said["other"][done - 1] = value["outcome"]
            ended = os.waitpid(pid, 0)[1]
            if ended:  # of file `done`, or of the memory that a file refused before it had damaged: what do users see?
                alone = outcome(Path(work), target, make(done))
                said["died"] += 1
                accepted = [*run, done] if alone == "result" else run
                if alone not in ("result", "refused") or not lives(Path(work), target, make, accepted):
                    said["other"][done] = f"{alone} after status {ended}"
                done += 1
    said["files"] = sorted(path.name for path in seeds.iterdir())
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
