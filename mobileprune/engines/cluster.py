"""Tasks on a Ray cluster (extra ``ray``): of any size, its nodes sharing the folder of the run store."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mobileprune.engines.graph import Pool
from mobileprune.errors import TargetUnavailableError

CONNECT_SECS = 10.0
QUEUED = 10_000
"""Tasks that a cluster holds at a time: more than it has processors, so that one that grows sees what to grow for."""


@contextmanager
def pool(jobs: int, num_threads: int, address: str | None = None) -> Iterator[Pool]:
    """The cluster at ``address`` (``auto``: the one that this machine belongs to), or ``jobs`` workers made here.

    A task takes ``num_threads`` processors of a node. When the block or this process ends, Ray ends its tasks.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise TargetUnavailableError("--engine ray needs Ray: pip install 'mobileprune[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        _reach(address)
        size: dict[str, Any] = {} if address else {"num_cpus": jobs * num_threads, "include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **size)
        except (ConnectionError, ValueError) as error:
            raise TargetUnavailableError(f"no Ray cluster answers at --address {address} ({error})") from error
    try:
        yield _Cluster(ray, num_threads, QUEUED if address else jobs)
    finally:
        if ours:
            ray.shutdown()


def _reach(address: str | None) -> None:
    """TargetUnavailableError at once where nothing listens: Ray itself would try for many minutes."""
    if address is None or address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECS).close()
    except (OSError, ValueError) as error:
        raise TargetUnavailableError(
            f"no Ray cluster answers at --address {address} ({error}); give HOST:PORT, or auto for this machine's"
        ) from error


class _Cluster:
    lost: tuple[type[BaseException], ...]

    def __init__(self, ray: Any, num_threads: int, slots: int) -> None:
        errors = ray.exceptions
        self.size = max(1, int(ray.cluster_resources().get("CPU", 1)) // num_threads)
        self.slots = slots
        self.lost = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )
        self._cause_of = errors.RayTaskError
        self._remote = ray.remote(num_cpus=num_threads, max_retries=0)(_call)

    def submit(self, work: Callable[[Any], Any], argument: Any) -> Future[Any]:
        outer: Future[Any] = Future()

        def hand_on(inner: Future[Any]) -> None:
            error = inner.exception()
            if error is None:
                outer.set_result(inner.result())
            else:  # of a task's own error Ray gives one that wraps it
                outer.set_exception(error.cause if isinstance(error, self._cause_of) else error)

        self._remote.remote(work, argument).future().add_done_callback(hand_on)
        return outer


def _call(work: Callable[[Any], Any], argument: Any) -> Any:
    return work(argument)
