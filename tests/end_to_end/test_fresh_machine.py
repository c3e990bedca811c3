"""On a machine that has nothing: no compiler on PATH, no network; and help that costs no heavy import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobileprune.cli.grammar import VERBS

HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "rich", "jinja2", "jsonschema", "PIL", "scipy", "sklearn")
NO_NETWORK = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(LOG, "a") as log:
            print(event, args[1:], file=log)
        raise OSError("this test has no network")
sys.addaudithook(refuse)
"""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment with an empty PATH, a home of its own, and every connection refused and written down."""
    (tmp_path / "site").mkdir()
    (tmp_path / "empty").mkdir()
    hook = NO_NETWORK.replace("LOG", repr(str(tmp_path / "connections")))
    (tmp_path / "site" / "sitecustomize.py").write_text(hook)
    return {"PATH": str(tmp_path / "empty"), "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path / "home")}


def run(*argv: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True)


def test_the_bare_machine_really_refuses_connections(bare, tmp_path) -> None:
    for call in ("create_connection(('localhost', 9))", "create_connection(('127.0.0.1', 9))"):
        done = run("-c", f"import socket; socket.{call}", cwd=tmp_path, env=bare)
        assert "this test has no network" in done.stderr
    assert len((tmp_path / "connections").read_text().splitlines()) == 2


@pytest.mark.slow
def test_an_export_needs_neither_compiler_nor_network(bare, tiny, tmp_path) -> None:
    """From nothing to an artifact with its report; the run store is in the home folder, which did not exist."""
    argv = ("-m", "mobileprune.cli.main", "export", "-o", "out", *tiny, "--json", "result.json")
    done = run(*argv, cwd=tmp_path, env=bare)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "connections").exists()
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["manifest"]["parity"]["top1_agreement"] == 1.0
    assert sorted(path.name for path in (tmp_path / "out").glob("report.*")) == [
        "report.html",
        "report.json",
        "report.md",
    ]
    assert (tmp_path / "home" / ".cache" / "mobileprune" / "export").is_dir()


SHOW = f"""
import sys
from mobileprune.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
print(code, *sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_imports_nothing_heavy(argv, tmp_path) -> None:
    done = run("-c", SHOW, *argv, cwd=tmp_path, env=dict(os.environ))
    assert done.stderr.split() == ["0"]
    assert "mobileprune" in done.stdout


@pytest.mark.parametrize("argv", [["exprot"], ["export", "--no-such-flag"], ["export", "--sparsity", "abc"]], ids=str)
def test_wrong_usage_imports_nothing_heavy(argv, tmp_path) -> None:
    done = run("-c", SHOW, *argv, cwd=tmp_path, env=dict(os.environ))
    assert done.stderr.splitlines()[-1] == "2"
