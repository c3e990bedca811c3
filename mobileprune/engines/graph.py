"""Tasks that need each other, run on any pool of workers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from heapq import heappop, heappush
from typing import Any, Protocol

from mobileprune.errors import MobilepruneError

ATTEMPTS = 3
"""How often a task is given out whose worker is lost: a machine may go, but a task that kills every worker must end."""


@dataclass(frozen=True)
class Task:
    """``work(argument)``, to be done after the tasks named in ``needs``.

    ``work`` is a function of a module, and its argument and result can be pickled. It may run twice.
    """

    name: str
    work: Callable[[Any], Any]
    argument: Any
    needs: tuple[str, ...] = ()


class Pool(Protocol):
    """Workers. ``size``: how many tasks they do at a time; ``slots``: how many are given out; ``lost``: what a
    future raises of a lost worker."""

    size: int
    slots: int
    lost: tuple[type[BaseException], ...]

    def submit(self, work: Callable[[Any], Any], argument: Any) -> Future[Any]: ...


def raise_it(task: Task, error: MobilepruneError) -> None:
    raise error


def run(
    tasks: Sequence[Task],
    pool: Pool,
    heard: Callable[[Task, Any], None],
    failed: Callable[[Task, MobilepruneError], None] = raise_it,
) -> None:
    """``heard(task, result)`` of every task as it finishes; of those that can start the earlier one goes first.

    ``failed(task, error)`` of one that raises MobilepruneError, and of all that need it, which are not run. By default,
    and for any other exception, the error is raised here. A task whose worker is lost is given out again.
    """
    sorter = _sorter(tasks)
    place = {task.name: index for index, task in enumerate(tasks)}
    users = defaultdict(list)
    for task in tasks:
        for need in task.needs:
            users[need].append(task)
    ready = sorted(place[name] for name in sorter.get_ready())
    running: dict[Future[Any], Task] = {}
    attempts: dict[str, int] = defaultdict(int)
    over: set[str] = set()

    def fail(task: Task, error: MobilepruneError) -> None:
        if task.name not in over:
            over.add(task.name)
            failed(task, error)
            for user in users[task.name]:
                fail(user, error)

    while ready or running:
        while ready and len(running) < pool.slots:
            task = tasks[heappop(ready)]
            attempts[task.name] += 1
            running[pool.submit(task.work, task.argument)] = task
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda f: place[running[f].name]):
            task = running.pop(future)
            try:
                result = future.result()
            except MobilepruneError as error:
                fail(task, error)  # of what needs it, none is ever ready
            except pool.lost as error:
                if attempts[task.name] == ATTEMPTS:
                    raise MobilepruneError(
                        f"a worker process died {ATTEMPTS} times at {task.name}, perhaps for lack of memory; "
                        "give fewer --jobs: what is finished is kept"
                    ) from error
                heappush(ready, place[task.name])
            else:
                heard(task, result)
                sorter.done(task.name)
                for name in sorter.get_ready():
                    heappush(ready, place[name])


def _sorter(tasks: Sequence[Task]) -> TopologicalSorter[str]:
    """Prepared; ValueError, before any work, where the tasks are no graph."""
    needs = {task.name: task.needs for task in tasks}
    if len(needs) < len(tasks):
        raise ValueError("two tasks have the same name")
    if unknown := {need for task in tasks for need in task.needs} - needs.keys():
        raise ValueError(f"tasks need what is no task: {sorted(unknown)}")
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"tasks need each other in a circle: {', '.join(error.args[1])}") from None
    return sorter
