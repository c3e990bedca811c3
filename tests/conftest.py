"""What many tests share: nobody's environment, one run store, and one tiny artifact for each target."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.tiny import TINY

from mobileprune.onnx_runtime import TELEMETRY

os.environ[TELEMETRY] = "1"  # tests load the library themselves, some before mobileprune does
settings.register_profile("deterministic", deadline=None, derandomize=True)  # no seed and no load decides a test
settings.load_profile("deterministic")

OF_THE_USER = ("SOURCE_DATE_EPOCH", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS")


@dataclass(frozen=True)
class Done:
    """What a command line left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run store of all tests that bring none of their own."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session", autouse=True)
def environment(store: Path) -> Iterator[None]:
    """No setting of the user's reaches a test, and no test reaches the user's run store."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("MOBILEPRUNE_") or n in OF_THE_USER]:
            patch.delenv(name)
        patch.setenv("MOBILEPRUNE_RUNS", str(store))
        yield


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Flags of the smallest whole run; it learns nothing, in well under a second."""
    return tuple(text for name, value in TINY.items() for text in (f"--{name.replace('_', '-')}", str(value)))


@pytest.fixture(scope="module")
def quick_bench() -> Iterator[None]:
    """In a whole module what takes a run its time is small, and all of it there; see ``_quick_bench``."""
    with pytest.MonkeyPatch.context() as patch:
        _quick_bench(patch)
        yield


@pytest.fixture
def exporter_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's exporter runs once for each network, over all tests that ask for this."""
    from support.exporter import once

    target: Any = importlib.import_module("mobileprune.export.onnx")
    monkeypatch.setattr(target, "convert", once(target.convert))


@pytest.fixture(scope="session")
def artifacts(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target that is installed -> artifact folder, not to be changed; its baseline and source are in ``store``."""
    from support.runtimes import INSTALLED

    import mobileprune

    folder = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as patch:
        _quick_bench(patch)
        ctx = mobileprune.context(store)
        made = {name: mobileprune.export(folder / name, ctx=ctx, target=name, **TINY) for name in INSTALLED}
        return {name: result.artifact.path for name, result in made.items()}


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """``command("audit", folder)`` runs the command line in this process: torch is imported once for all tests."""

    def run(*argv: object) -> Done:
        from mobileprune.cli.main import main

        capfd.readouterr()
        code = main([str(part) for part in argv])
        return Done(code, *capfd.readouterr())

    return run


def _quick_bench(patch: pytest.MonkeyPatch) -> None:
    """Few timed runs where the options leave it open, no processes for memory, little for the slowest attack."""
    bench: Any = importlib.import_module("mobileprune.bench")  # mobileprune.bench is the verb
    api: Any = importlib.import_module("mobileprune.api")
    regression: Any = importlib.import_module("mobileprune.attacks.quantile_regression")
    patch.setattr(regression, "ROWS", regression.LEAST)
    patch.setattr(bench, "peak_load_memory", lambda command: bench.Memory(None, None, "not measured in this test"))
    patch.setattr(bench, "LOADS", 1)
    patch.setattr(bench, "interleave", partial(bench.interleave, block_secs=1e-3))
    patch.setattr(api, "run_bench", partial(bench.bench, warmup_runs=1, min_runs=5, min_secs=0.0))
