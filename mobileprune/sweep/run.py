"""From a plan to the written result: tasks on an engine, timings one by one, front and choice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mobileprune.artifact import Artifact
from mobileprune.bench import machine
from mobileprune.config import Effort
from mobileprune.engines import HERE, Engine, Task, pool, run
from mobileprune.errors import ConfigError, MobilepruneError, unknown
from mobileprune.options import check_options
from mobileprune.pipeline.context import Context
from mobileprune.pipeline.inputs import with_whole_paths
from mobileprune.report import write_sweep_report
from mobileprune.report.sweep_tables import options_text
from mobileprune.runs import RunStore
from mobileprune.sweep import output
from mobileprune.sweep import plan as plans
from mobileprune.sweep.clock import Clock
from mobileprune.sweep.document import document
from mobileprune.sweep.limits import PREFERENCES, Limits
from mobileprune.sweep.plan import Plan
from mobileprune.sweep.tasks import Graph, graph
from mobileprune.sweep.timing import TimingOptions, timed
from mobileprune.sweep.work import Finished, do

SAVE_SECS, SAVE_SHARE = 5.0, 50.0
TIMED = "timing"
PROBLEMS = 10

Values = dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """One more of ``total`` tasks is done. ``of``: to what; ``error``: why it could not be."""

    kind: str
    of: str
    done: int
    total: int
    seconds: float
    reused: bool
    seconds_left: float | None
    error: str = ""


@dataclass(frozen=True)
class SweepOptions:
    """Everything about a sweep but what is swept."""

    engine: Engine = HERE
    effort: Effort = field(default_factory=Effort)
    limits: Limits = field(default_factory=Limits)
    prefer: str = "size"
    timing: TimingOptions = field(default_factory=TimingOptions)
    heard: Callable[[Heard], None] | None = None

    def __post_init__(self) -> None:
        if self.prefer not in PREFERENCES:
            raise unknown("preference", self.prefer, PREFERENCES)


@dataclass(frozen=True)
class SweepResult:
    """``value``: the document; ``path``: the folder with ``sweep.json``, ``sweep.html``, ``sweep.md``, ``pareto.csv``
    and, where one fits the limits, the chosen ``artifact``."""

    value: Values
    path: Path
    artifact: Artifact | None

    @property
    def exit_code(self) -> int:
        """3 when limits were given and no artifact keeps to them."""
        chosen = self.value["chosen"]
        return 3 if chosen and not chosen["fits"] else 0

    def to_dict(self) -> Values:
        return self.value


def sweep(plan: Plan, folder: Path, context: Context, how: SweepOptions, *, force: bool = False) -> SweepResult:
    """Make and measure all points; MobilepruneError if none can be made. Interrupted, the same call goes on."""
    check(plan)
    output.check(folder, plan, force=force)
    limits = how.limits.to_dict()
    root = context.store.root.resolve()
    tasks = graph(absolute(plan), root, context.num_threads, how.effort)
    work = _Work(plan, tasks, how, limits, folder)
    with pool(how.engine, context.num_threads) as workers:
        work.clock.workers = workers.size
        run(work.given(context), workers, work.heard, work.failed)
    if not work.results or not work.of_points():
        raise MobilepruneError(f"no point could be made: {next(iter(work.errors.values()))}")
    made, alone = set(work.of_points()), Context(RunStore(root), num_threads=context.num_threads)
    for point in tasks.points:
        started = time.monotonic()
        if point in made:
            file, dense = (Artifact.load(root / work.artifact(task[point])) for task in (tasks.points, tasks.baselines))
            work.latencies[point] = timed(file, dense, how.timing, alone)
        work.count(TIMED, tasks.points[point], time.monotonic() - started, reused=point not in made)
    value = work.document()
    chosen, artifact = value["chosen"], None
    if chosen and chosen["fits"]:
        found = Artifact.load(root / work.artifact(tasks.points[chosen["point"]]))
        artifact = output.write_chosen(folder, found)
        chosen["artifact"] = output.ARTIFACT
    output.write(folder, value)
    write_sweep_report(value, folder)
    return SweepResult(value, folder, artifact)


def sweep_of(
    plan: str | Path | Mapping[str, Any],
    folder: Path,
    context: Context,
    how: SweepOptions,
    *,
    force: bool = False,
    **options: Any,
) -> SweepResult:
    """Of a file or its values: ``options`` are laid over its base, limits of ``how`` over its limits."""
    made = plans.plan(plan, **options) if isinstance(plan, Mapping) else plans.read(Path(plan), **options)
    limits = Limits.of(made.limits.to_dict(), **how.limits.to_dict())
    return sweep(made, folder, context, replace(how, limits=limits), force=force)


def check(plan: Plan) -> None:
    """ConfigError with the first problems of all points, before any work."""
    problems: dict[str, None] = {}
    for point in plan.points:
        try:
            check_options(point.config, {**plan.base, **point.options})
        except MobilepruneError as error:
            problems[f"{options_text(point.options)}: {error}" if point.options else str(error)] = None
    if problems:
        more = [f"and {len(problems) - PROBLEMS} more"] if len(problems) > PROBLEMS else []
        raise ConfigError([*list(problems)[:PROBLEMS], *more])


def absolute(plan: Plan) -> Plan:
    """For workers elsewhere."""
    return replace(plan, points=tuple(replace(p, config=with_whole_paths(p.config)) for p in plan.points))


class _Work:
    """What is known so far, written to the output every few seconds."""

    def __init__(self, plan: Plan, tasks: Graph, how: SweepOptions, limits: dict[str, float], folder: Path) -> None:
        self.plan, self.tasks, self.how, self.limits, self.folder = plan, tasks, how, limits, folder
        self.results: dict[str, Finished] = {}
        self.errors: dict[str, MobilepruneError] = {}
        self.latencies: dict[str, Values] = {}
        of_points = {tasks.points[point.id]: point.said for point in plan.points}
        self._said = {task.name: task.argument.said for task in tasks.tasks} | of_points
        kinds = [*(task.argument.kind for task in tasks.tasks), *(TIMED for _ in plan.points)]
        self._done, self._total, self._next = 0, len(kinds), 0.0
        self.clock = Clock(kinds, TIMED)

    def given(self, context: Context) -> list[Task]:
        """The tasks; those done in this process tell of their progress."""
        if not self.how.engine.here:
            return list(self.tasks.tasks)
        here = partial(do, progress=context.progress, on_wait=context.store.on_wait)
        return [replace(task, work=here) for task in self.tasks.tasks]

    def of_points(self) -> list[str]:
        """Ids of the points that were made."""
        both = ((p.id, self.tasks.points[p.id], self.tasks.baselines[p.id]) for p in self.plan.points)
        return [name for name, point, baseline in both if {point, baseline} <= self.results.keys()]

    def artifact(self, task: str) -> str:
        where = self.results[task].artifact
        assert where is not None
        return where

    def heard(self, task: Task, result: Finished) -> None:
        if result.artifact and not (task.argument.root / result.artifact).is_dir():
            raise MobilepruneError(
                f"a worker finished {task.name}, but its result is not in the run store {task.argument.root}: "
                "--runs must be a folder that all workers share under the same path"
            )
        self.results[task.name] = result
        self.count(task.argument.kind, task.name, result.seconds, reused=result.reused)

    def failed(self, task: Task, error: MobilepruneError) -> None:
        self.errors[task.name] = error
        self.count(task.argument.kind, task.name, 0.0, reused=True, error=str(error))

    def count(self, kind: str, task: str, seconds: float, *, reused: bool, error: str = "") -> None:
        self._done += 1
        self.clock.finished(kind, None if reused else seconds)
        if self.how.heard:
            left = self.clock.seconds_left()
            self.how.heard(Heard(kind, self._said[task], self._done, self._total, seconds, reused, left, error))
        if (now := time.monotonic()) > self._next:
            output.write(self.folder, self.document())
            took = time.monotonic() - now  # of a large sweep: it must not be all that is done
            self._next = now + max(SAVE_SECS, SAVE_SHARE * took)

    def document(self) -> Values:
        return document(
            self.plan,
            self.tasks,
            self.results,
            self.errors,
            self.latencies,
            self.limits,
            self.how.prefer,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            effort=self.how.effort.to_dict(),
            machine=machine(),
            progress={"done": self._done, "total": self._total, "seconds_left": self.clock.seconds_left()},
        )
