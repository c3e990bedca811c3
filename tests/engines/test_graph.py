"""The graph of tasks: order, what an error takes with it, lost workers. The pool is one that a test can look into."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileprune.config import ENGINES as NAMES
from mobileprune.config import Effort
from mobileprune.engines import ENGINES, Engine, Task, pool, run
from mobileprune.engines.graph import ATTEMPTS
from mobileprune.errors import DataError, MobilepruneError, UsageError


class Lost(Exception):
    pass


class Recorder:
    """Does a task at once when it is given out, and fails the first ``losing`` attempts of each."""

    lost: tuple[type[BaseException], ...] = (Lost,)

    def __init__(self, slots: int = 1, losing: int = 0) -> None:
        self.size, self.slots, self.losing = slots, slots, losing
        self.given: list[Any] = []

    def submit(self, work: Callable[[Any], Any], argument: Any) -> Future[Any]:
        self.given.append(argument)
        future: Future[Any] = Future()
        try:
            if self.given.count(argument) <= self.losing:
                raise Lost
            future.set_result(work(argument))
        except Exception as error:
            future.set_exception(error)
        return future


def same(argument: Any) -> Any:
    return argument


def refuse(argument: Any) -> Any:
    raise DataError(f"no {argument}")


def task(name: str, *needs: str, work: Callable[[Any], Any] = same) -> Task:
    return Task(name, work, name, needs)


def test_a_task_comes_after_what_it_needs_and_else_in_the_order_given() -> None:
    tasks = [task("point", "prune", "baseline"), task("prune", "train"), task("train"), task("baseline", "train")]
    workers, heard = Recorder(), {}
    run(tasks, workers, lambda done, result: heard.update({done.name: result}))
    assert workers.given == ["train", "prune", "baseline", "point"]
    assert list(heard.items()) == [(name, name) for name in workers.given]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 12), st.integers(1, 4), st.integers(0, ATTEMPTS - 1))
def test_every_task_is_heard_of_once_after_its_needs(data: st.DataObject, count: int, slots: int, losing: int) -> None:
    tasks: list[Task] = []
    for n in range(count):
        earlier = data.draw(st.sets(st.integers(0, n - 1)) if n else st.just(set()))
        tasks.append(task(f"{n}", *(f"{m}" for m in sorted(earlier))))
    shuffled = data.draw(st.permutations(tasks))
    heard: list[str] = []
    run(shuffled, Recorder(slots, losing), lambda done, result: heard.append(done.name))
    assert sorted(heard) == sorted(each.name for each in tasks)
    for each in tasks:
        assert all(heard.index(need) < heard.index(each.name) for need in each.needs)


def test_an_error_takes_what_needs_the_task_with_it_and_nothing_else() -> None:
    tasks = [task("a", work=refuse), task("b", "a"), task("c", "b", "d"), task("d"), task("e", "d")]
    heard: list[str] = []
    errors: dict[str, str] = {}
    workers = Recorder()
    run(tasks, workers, lambda done, _: heard.append(done.name), lambda t, error: errors.update({t.name: str(error)}))
    assert errors == dict.fromkeys(["a", "b", "c"], "no a")
    assert heard == ["d", "e"]
    assert workers.given == ["a", "d", "e"]


def test_an_error_is_raised_where_nobody_hears_of_it_and_a_bug_always() -> None:
    with pytest.raises(DataError, match="no a"):
        run([task("a", work=refuse)], Recorder(), lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        run([Task("a", lambda n: 1 // n, 0)], Recorder(), lambda *_: None, lambda *_: None)


def test_a_task_of_a_lost_worker_is_given_out_again_but_not_for_ever() -> None:
    heard: list[str] = []
    workers = Recorder(losing=ATTEMPTS - 1)
    run([task("a"), task("b", "a")], workers, lambda done, _: heard.append(done.name))
    assert (heard, workers.given) == (["a", "b"], ["a"] * ATTEMPTS + ["b"] * ATTEMPTS)
    with pytest.raises(MobilepruneError, match=f"a worker process died {ATTEMPTS} times at a"):
        run([task("a")], Recorder(losing=ATTEMPTS), lambda *_: None)


def test_a_graph_that_is_none_is_refused_before_any_work() -> None:
    workers = Recorder()
    with pytest.raises(ValueError, match=r"in a circle: (a, b, a|b, a, b)"):
        run([task("first"), task("a", "b"), task("b", "a", "first")], workers, lambda *_: None)
    with pytest.raises(ValueError, match="in a circle: a, a"):
        run([task("first"), task("a", "a")], workers, lambda *_: None)
    with pytest.raises(ValueError, match="what is no task: \\['c'\\]"):
        run([task("first"), task("a", "c")], workers, lambda *_: None)
    with pytest.raises(ValueError, match="two tasks have the same name"):
        run([task("a"), task("a")], workers, lambda *_: None)
    assert workers.given == []


def test_one_job_is_this_process_and_an_interrupt_ends_it_at_once() -> None:
    def interrupt(argument: Any) -> None:
        raise KeyboardInterrupt

    with pool(Engine(), 1) as workers, pytest.raises(KeyboardInterrupt):
        run([task("a", work=interrupt), task("b")], workers, lambda *_: pytest.fail("b was done"))


def test_engines_are_named_where_options_are_and_nonsense_is_refused() -> None:
    assert tuple(ENGINES) == NAMES
    assert {item.name for item in fields(Effort)} >= {"engine", "jobs", "address"}
    with pytest.raises(UsageError, match="unknown engine 'rai': did you mean 'ray'"):
        Engine("rai")
    with pytest.raises(UsageError, match="--jobs 0: must be at least 1"):
        Engine(jobs=0)
    with pytest.raises(UsageError, match="--address auto has no effect without --engine ray"):
        Engine(address="auto")
    with pytest.raises(UsageError, match="--engine ray has no effect without --references"):
        Effort(engine="ray")
