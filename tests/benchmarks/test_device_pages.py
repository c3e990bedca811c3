"""The pages of benchmarks on devices say what their results say, and those meet what was asked of them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(params=["aarch64", "devices"])
def benchmark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The script as a module, and its newest result."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(request.param)
    yield module, json.loads(max((FOLDER / "results").glob(f"*-{request.param}.json")).read_text("utf-8"))
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == FOLDER:
            del sys.modules[name]


def test_the_page_is_that_of_the_newest_result(benchmark: tuple[Any, dict[str, Any]]) -> None:
    module, value = benchmark
    written = (FOLDER / "results" / f"{module.__name__}.md").read_text("utf-8")
    assert module.page(value) == written
    assert "ARM latency" not in written
    assert " ms" not in written
