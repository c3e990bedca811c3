"""Where tasks run: in this process, in processes of this machine, or on a cluster. One graph of tasks for all of them.

Results go through the run store, which every worker reaches under the same path, so a task is a few hundred bytes, may
run twice without harm, and what a lost worker had finished stays.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mobileprune.engines import cluster, local
from mobileprune.engines.graph import Pool, Task, run
from mobileprune.errors import UsageError, unknown

__all__ = ["ENGINES", "HERE", "Engine", "Pool", "Task", "pool", "run"]

ENGINES: dict[str, Callable[[int, int, str | None], AbstractContextManager[Pool]]] = {
    "local": local.pool,
    "ray": cluster.pool,
}
"""Name -> a pool for so many tasks at a time, of so many threads each, at an address."""


@dataclass(frozen=True)
class Engine:
    """``jobs`` at a time; ``address`` of a running cluster, whose size then says how many."""

    name: str = "local"
    jobs: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise unknown("engine", self.name, ENGINES)
        if self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs}: must be at least 1")
        if self.address and self.name == "local":
            raise UsageError(f"--address {self.address} has no effect without --engine ray; leave it out")

    @property
    def here(self) -> bool:
        """Whether tasks run in this process."""
        return self.name == "local" and self.jobs == 1


HERE = Engine()


def pool(engine: Engine, num_threads: int) -> AbstractContextManager[Pool]:
    """The workers of ``engine``, until the block ends; TargetUnavailableError when they cannot be had."""
    return ENGINES[engine.name](engine.jobs, num_threads, engine.address)
