"""The exported files that all tests of runtimes start from."""

from __future__ import annotations

import pytest
from support.runtimes import INSTALLED, MEAN, SHAPE, STD, network

from mobileprune.convert.preprocessing import Baked
from mobileprune.export import TARGETS, ExportOptions


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], bytes]:
    """(target, preprocessing baked) -> exported file."""
    folder, made = tmp_path_factory.mktemp("exported"), {}
    for target in INSTALLED:
        for baked in (False, True):
            model = Baked(network(), MEAN, STD).eval() if baked else network()
            TARGETS[target].write(model, SHAPE, folder / "model", ExportOptions())
            made[target, baked] = (folder / "model").read_bytes()
    return made
