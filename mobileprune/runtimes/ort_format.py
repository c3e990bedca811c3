"""ONNX Runtime's own format (``.ort``), the one that builds without an ONNX parser can read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mobileprune.errors import ArtifactError
from mobileprune.flatbuffer import MalformedError, Table, root
from mobileprune.runtimes.base import RuntimeOptions, Session, checked_size
from mobileprune.runtimes.onnxruntime import bound_memory, load
from mobileprune.runtimes.trial import first_run

MAGIC = b"ORTM"
ALIGNMENT = 4
LOOPS = ("Loop", "Scan")
MODEL, GRAPH, NODES, ATTRIBUTES, BRANCH = 1, 7, 2, 10, 7  # fields of the schema
DOMAIN, SINCE_VERSION, OP_TYPE = 2, 3, 5
MAX_DEPTH = 10


def open_session(path: Path, options: RuntimeOptions) -> Session:
    """Checks the file and tries it in a child before this process lets the runtime see it."""
    content = _read(path)
    loops = {name for names in _operators(content, path).values() for name in names}.intersection(LOOPS)
    if loops:
        raise ArtifactError(
            f"{path}: uses operators that an image classifier does not need: {', '.join(sorted(loops))}"
        )
    bound_memory()
    first_run(_load, path, hashlib.sha256(content).hexdigest(), options)
    return _load(path, content, options)


def _load(path: Path, content: bytes, options: RuntimeOptions) -> Session:
    return load(path, content, options, "ORT")


def required_operators(path: Path) -> str:
    """What ``build.sh --minimal_build --include_ops_by_config FILE`` of ONNX Runtime needs to know of ``path``.

    Lines ``domain;version;operator,operator``. ArtifactError if the file is no model in this format.
    """
    found = _operators(_read(path), path)
    return "".join(
        f"{domain};{version};{','.join(sorted(found[domain, version]))}\n" for domain, version in sorted(found)
    )


def _read(path: Path) -> bytes:
    size = checked_size(path, "an .ort file")
    content = path.read_bytes()
    if content[4:8] != MAGIC:
        raise ArtifactError(f"{path}: is no .ort file: bytes 4 to 8 are {content[4:8]!r}, must be {MAGIC!r}")
    if size % ALIGNMENT:  # what is cut off may be padding, which the runtime does not miss
        raise ArtifactError(f"{path}: truncated .ort file: {size:,} bytes, must be a multiple of {ALIGNMENT}")
    return content


def _operators(content: bytes, path: Path) -> dict[tuple[str, int], set[str]]:
    """(Domain, version that an operator is unchanged since) -> operators."""
    found: dict[tuple[str, int], set[str]] = {}
    try:
        model = root(content).table(MODEL)
        graph = model and model.table(GRAPH)
        if graph is None:
            raise MalformedError("no graph inside")
        for node in _nodes(graph, MAX_DEPTH):
            key = (node.text(DOMAIN) or "ai.onnx", node.integer(SINCE_VERSION))
            found.setdefault(key, set()).add(node.text(OP_TYPE))
    except MalformedError as error:
        raise ArtifactError(f"{path}: corrupt .ort file ({error}); export again") from error
    return found


def _nodes(graph: Table, depth: int) -> Iterator[Table]:
    if not depth:
        raise MalformedError(f"branches inside branches, more than {MAX_DEPTH}")
    for node in graph.tables(NODES):
        yield node
        for attribute in node.tables(ATTRIBUTES):
            branch = attribute.table(BRANCH)
            if branch is not None:
                yield from _nodes(branch, depth - 1)
