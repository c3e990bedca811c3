"""What the tests of the native library need: itself, or a C compiler. The product works without, and they skip."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.kernels import Kernels

from mobileprune import native

EXPORT = Path(__file__).parents[2] / "export"


@pytest.fixture(scope="session")
def library() -> Path:
    """The library as it was installed."""
    found = native.library()
    if found is None:
        pytest.skip(f"no native operators: {native.reason()}")
    return found


@pytest.fixture(scope="session")
def kernels(library: Path) -> Kernels:
    return Kernels(library)


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not found:
        pytest.skip("no C compiler on PATH")
    return found


@pytest.fixture(scope="session")
def sources() -> Path:
    """``export/``, which wheels do not carry."""
    return EXPORT
