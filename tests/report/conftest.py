"""The document of a real report, to be changed by each test."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest


@pytest.fixture(scope="session")
def original(artifacts) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((artifacts["onnx"] / "report.json").read_text())
    return value


@pytest.fixture
def value(original) -> dict[str, Any]:
    return copy.deepcopy(original)
