"""Data that state membership, and a module of the user's."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from support.foreign import LABELS, MEMBER, MODULE, PIXELS


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "stated.npz"
    np.savez(path, images=PIXELS, labels=LABELS, member=MEMBER)
    return f"npz:{path}"


@pytest.fixture(scope="session")
def theirs(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The prefix of the functions in a module of the user's."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "their_model.py").write_text(MODULE.format(path=dataset.removeprefix("npz:")))
    sys.path.insert(0, str(folder))
    yield "their_model"
    sys.path.remove(str(folder))
