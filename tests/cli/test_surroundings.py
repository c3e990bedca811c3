"""However it is started, ended or broken, the command line says one line and leaves nothing half-done."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mobileprune import inspection
from mobileprune.atomic import atomic_folder
from mobileprune.cli.surroundings import Terminated
from mobileprune.files import sha256


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.ones((3, 4), np.float32), "weight")
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    shapes = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", c]) for name, c in (("x", 3), ("y", 4))]
    graph = helper.make_graph([node], "graph", shapes[:1], shapes[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


CLOSED = [" ".join(some) for n in (1, 2, 3) for some in itertools.combinations(("<&-", ">&-", "2>&-"), n)]


@pytest.mark.skipif(os.name != "posix", reason="a shell that closes streams")
@pytest.mark.parametrize("closed", CLOSED)
def test_closed_streams_are_no_place_for_anything(model: Path, tmp_path: Path, closed: str) -> None:
    """What is opened next would have the number of a closed one, and what is printed would go into it."""
    before, out = sha256(model), tmp_path / "out.json"
    line = [
        "sh",
        "-c",
        f'exec "$@" {closed}',
        "sh",
        sys.executable,
        "-m",
        "mobileprune",
        "inspect",
        model,
        "--json",
        out,
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("model.onnx" in done.stdout) == (" >&-" not in f" {closed}")
    assert json.loads(out.read_bytes())["sha256"] == before == sha256(model)


def test_every_name_of_a_file_can_be_printed() -> None:
    program = r"from mobileprune.cli.surroundings import open_streams; open_streams(); print('caf\udcff \ud800')"
    env = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True)
    assert (done.returncode, done.stdout.strip()) == (0, rb"caf\udcff \ud800")


@pytest.mark.parametrize("given", ["abc", "-1", "1.5", "9" * 17, "9" * 5000, "٣"])
def test_a_date_that_is_none_is_said_before_any_work(command: Any, model: Path, monkeypatch: Any, given: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    monkeypatch.setattr(inspection, "inspect", lambda path: pytest.fail("worked"))
    done = command("inspect", model)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        f"mobileprune: error: SOURCE_DATE_EPOCH={given[:40]!r}: must be whole seconds since 1970"
    )


def test_a_bug_is_called_one_and_shown_in_full_only_when_asked(command: Any, model: Path, monkeypatch: Any) -> None:
    def broken(path: Path) -> None:
        raise KeyError("no such\nthing")

    monkeypatch.setattr(inspection, "inspect", broken)
    done = command("inspect", model)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "a bug of mobileprune in inspect: KeyError: " in done.err
    assert "run it again with -v and report what it says" in done.err
    whole = command("inspect", model, "-v")
    assert (whole.code, whole.out) == (1, "")
    assert "Traceback" in whole.err
    assert whole.err.endswith(done.err)


@pytest.mark.parametrize("verb", ["inspect --bogus", "inspect nothere.onnx"])
def test_verbose_changes_no_exit_code(command: Any, verb: str) -> None:
    done, whole = command(*verb.split()), command(*verb.split(), "-v")
    assert whole.code == done.code > 0
    assert whole.err.endswith(done.err)


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """By bash, with the code of the first program that fails; buffered, as a user's Python is."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    line = f'mobileprune() {{ "{sys.executable}" -m mobileprune "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120)


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="bash, for its pipefail")


@needs_bash
@pytest.mark.parametrize("reader", ["head -c 20", "true"])
@pytest.mark.parametrize("form", ["", "--json -"])
def test_a_reader_who_leaves_early_does_not_turn_a_failure_into_success(model: Path, form: str, reader: str) -> None:
    proto = onnx.load(model)
    proto.metadata_props.extend(onnx.StringStringEntryProto(key=f"path{i}", value=f"/home/a/{i}") for i in range(3000))
    onnx.save(proto, model)
    done = shell(f"mobileprune inspect --lint {model} {form} --quiet | {reader}")
    assert (done.returncode, done.stderr) == (3, "")


@needs_bash
def test_a_reader_who_leaves_early_does_not_keep_a_file_from_being_written(model: Path, tmp_path: Path) -> None:
    done = shell(f"mobileprune inspect {model} --json {tmp_path}/out.json 2>&1 | true")
    assert done.returncode == 0
    assert json.loads((tmp_path / "out.json").read_bytes())["sha256"] == sha256(model)


@needs_bash
@FULL
@pytest.mark.parametrize("line", ["--version", "--help", "inspect {model}", "inspect {model} --json -"])
def test_a_full_disk_at_stdout_is_an_error_of_one_line(model: Path, line: str) -> None:
    done = shell(f"mobileprune {line.format(model=model)} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "mobileprune: error: system: No space left on device; free some, or choose other folders with -o and --runs\n"
    )


def test_a_pipe_that_is_not_stdout_and_breaks_is_an_error(command: Any, model: Path, monkeypatch: Any) -> None:
    def broken(path: Path) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(inspection, "inspect", broken)
    done = command("inspect", model)
    assert (done.code, done.err) == (1, "mobileprune: error: system: Broken pipe\n")


def test_what_a_strangers_file_says_cannot_speak_to_the_terminal(command: Any, model: Path) -> None:
    proto = onnx.load(model)
    proto.graph.node[0].name = "\x1b]0;PWN\x07\x1b[2J"
    proto.graph.node[0].op_type = "\x1b[2JNone"
    onnx.save(proto, model)
    for done in (command("inspect", model), command("inspect", model.parent / "\x1b[2J.onnx")):
        assert "\x1b" not in done.out + done.err
        assert "\x07" not in done.out + done.err


@pytest.fixture
def at_sigterm() -> Iterator[None]:
    """Whatever a test sets, the tests after it have what was set before."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("at_sigterm")
def test_sigterm_ends_it_as_ctrl_c_does(command: Any, model: Path, monkeypatch: Any) -> None:
    def ended(path: Path) -> None:
        with atomic_folder(model.parent / "out"):
            signal.raise_signal(signal.SIGTERM)
        pytest.fail("went on")

    monkeypatch.setattr(inspection, "inspect", ended)
    done = command("inspect", model)
    assert (done.code, done.out) == (143, "")
    assert done.err == "mobileprune: interrupted; the same command continues where it stopped\n"
    assert list(model.parent.iterdir()) == [model], "no temporary folder"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("at_sigterm")
def test_whoever_ignores_sigterm_goes_on_ignoring_it(command: Any, model: Path, monkeypatch: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    real = inspection.inspect

    def asked(path: Path) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return real(path)

    monkeypatch.setattr(inspection, "inspect", asked)
    assert command("inspect", model).code == 0
    assert issubclass(Terminated, KeyboardInterrupt), "so that all who clean up after Ctrl-C do so here"


@pytest.mark.usefixtures("at_sigterm")
def test_a_signal_whose_exception_python_drops_comes_again(command: Any, model: Path, monkeypatch: Any) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def asked(path: Path) -> None:
        Dropping()
        time.sleep(30)
        pytest.fail("went on")

    hook = sys.unraisablehook
    monkeypatch.setattr(inspection, "inspect", asked)
    done = command("inspect", model)
    said = "mobileprune: interrupted; the same command continues where it stopped\n"
    assert (done.code, done.err) == (143, said)
    assert sys.unraisablehook is hook


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_exceptions_that_python_drops_are_told_as_ever(command: Any, model: Path, monkeypatch: Any) -> None:
    class Dropping:
        def __del__(self) -> None:
            raise ValueError

    told: list[Any] = []
    real = inspection.inspect
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    monkeypatch.setattr(inspection, "inspect", lambda path: Dropping() and real(path))
    assert command("inspect", model).code == 0
    assert told == [ValueError]


HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Whoever runs the tests in the background ignores Ctrl-C, and children inherit that."""
IMPORTING = """
import sys
from mobileprune.cli.main import main

native = []

def interrupt(frame, event, arg):
    if event == "c_call" and arg.__module__ == "torch._C" and arg.__name__.endswith("_init"):
        native.append(arg)
    elif event == "call" and ({moment}):
        sys.setprofile(None)
        print("sent")
        signal.raise_signal(signal.{name})
        print("waits")

sys.setprofile(interrupt)
sys.exit(main(["train", "-o", "out", "--runs", "runs"]))
"""
IN_PYTHON = "frame.f_code.co_name == '_find_and_load' and frame.f_back.f_globals['__name__'] == 'torch'"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(("moment", "waits"), [("native", True), (IN_PYTHON, False)], ids=["native", "Python"])
def test_a_signal_while_torch_is_imported_waits_where_it_must(
    tmp_path: Path, name: str, code: int, moment: str, waits: bool
) -> None:
    """An exception in a function that C++ calls there ends the process by ``std::terminate``."""
    program = HEED + IMPORTING.format(moment=moment, name=name)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    said = "mobileprune: interrupted; the same command continues where it stopped\n"
    assert (done.stdout, done.stderr, done.returncode) == ("sent\nwaits\n" if waits else "sent\n", said, code)
    assert not (tmp_path / "out").exists()


def test_a_module_that_calls_the_command_line_when_imported_can_be_interrupted(model: Path) -> None:
    """The import is around the work, not in it: nobody waits for its end."""
    program = (
        "import threading; from mobileprune.cli.main import main; from mobileprune.cli import looking\n"
        "def asked(args, console): signal.raise_signal(signal.SIGINT); threading.Event().wait(5); return 0\n"
        "looking.inspect = asked; code = main(['inspect', 'x'])"
    )
    (model.parent / "calls.py").write_text(HEED + program)
    line = [sys.executable, "-c", "import sys; from calls import code; sys.exit(code)"]
    assert subprocess.run(line, cwd=model.parent, capture_output=True).returncode == 130
