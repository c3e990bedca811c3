"""What a ``.pte`` file may hold, read off it before ExecuTorch sees it.

The file names the operators and backends that it wants; what other libraries have registered in this process is not
for it. The runtime verifies the rest of the structure itself.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from mobileprune.errors import ArtifactError
from mobileprune.flatbuffer import MalformedError, root

MAGIC = b"ET12"
BACKENDS = ("XnnpackBackend",)
NAMESPACES = ("aten::", "dim_order_ops::", "executorch_prim::")
METHOD = "forward"
PLANS, NAME, CHAINS, OPERATORS, DELEGATES = 1, 0, 5, 6, 7  # fields of the schema
INSTRUCTIONS, INSTRUCTION_KIND = 2, 0
JUMP = 4  # of the union InstructionArguments


def check(content: bytes, path: Path) -> None:
    """ArtifactError unless ``content`` is one method, ``forward``, of a classifier's operators and without jumps."""
    if content[4:8] != MAGIC:
        raise ArtifactError(f"{path}: is no .pte file: bytes 4 to 8 are {content[4:8]!r}, must be {MAGIC!r}")
    try:
        plans = list(root(content).tables(PLANS))
        names = [plan.text(NAME) for plan in plans]
        operators = {op.text(NAME) for plan in plans for op in plan.tables(OPERATORS)}
        backends = {backend.text(NAME) for plan in plans for backend in plan.tables(DELEGATES)}
        chains = chain.from_iterable(plan.tables(CHAINS) for plan in plans)
        jumps = any(i.integer(INSTRUCTION_KIND, "B") == JUMP for c in chains for i in c.tables(INSTRUCTIONS))
    except MalformedError as error:
        raise ArtifactError(f"{path}: corrupt .pte file ({error}); export again") from error
    if names != [METHOD]:
        raise ArtifactError(f"{path}: its methods are {names[:8]}, must be [{METHOD!r}]")
    bad = [op for op in operators if not op.startswith(NAMESPACES)] + [b for b in backends if b not in BACKENDS]
    if jumps:
        bad.append("jumps")
    if bad:
        listed = ", ".join(name[:80] for name in sorted(bad)[:8])
        raise ArtifactError(f"{path}: uses what an image classifier does not need: {listed}")
