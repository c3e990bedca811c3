"""This machine as a device: its own temporary folder, its own processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mobileprune.devices.base import Done, cause, remote_name
from mobileprune.errors import DeviceError
from mobileprune.native import this_platform


def installed_runtime() -> Path | None:
    """The libonnxruntime of the installed wheel, which its own Python module uses."""
    found = find_spec("onnxruntime")
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        names = sorted(Path(folder, "capi").glob("libonnxruntime.*"))
        if names:
            return names[0]
    return None


class LocalTransport:
    emulated = False

    def __init__(self, name: str) -> None:
        if name != "local":
            raise DeviceError(f"device {name!r}: this machine is just 'local'")
        self.name, self.platform, self.runtime = name, this_platform(), installed_runtime()
        self._folder = new_folder()

    def push(self, source: Path, remote: str) -> None:
        target = self._folder / remote_name(remote)
        temporary = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, temporary)
            os.replace(temporary, target)
        except OSError as error:
            raise DeviceError(f"{self.name}: cannot write {remote} there: {cause(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def run(self, command: Sequence[str], *, timeout_secs: float) -> Done:
        return execute(self.name, command, self._folder, timeout_secs, called=command[0])

    def pull(self, remote: str, target: Path, *, max_bytes: int) -> None:
        source = self._folder / remote_name(remote)
        try:
            if (size := source.stat().st_size) > max_bytes:
                raise DeviceError(f"{self.name}: {remote} has {size:,} bytes, more than the {max_bytes:,} expected")
            shutil.copyfile(source, target)
        except OSError as error:
            raise DeviceError(f"{self.name}: cannot read {remote} from there: {cause(error)}") from error

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class NullTransport(LocalTransport):
    """The twin without a device, for tests: ``respond(command, folder)`` is what runs there, in this process."""

    def __init__(
        self,
        respond: Callable[[Sequence[str], Path], Done],
        *,
        name: str = "null",
        platform: str | None = None,
        emulated: bool = False,
    ) -> None:
        self.name, self.platform, self.runtime = name, platform or this_platform(), installed_runtime()
        self.emulated = emulated
        self._respond, self._folder = respond, new_folder()

    def run(self, command: Sequence[str], *, timeout_secs: float) -> Done:
        return self._respond(command, self._folder)


def execute(
    name: str,
    argv: Sequence[str],
    folder: Path,
    timeout_secs: float,
    *,
    called: str,
    environment: Mapping[str, str] | None = None,
) -> Done:
    """``argv`` as a process of this machine in ``folder``; errors are of the device ``name`` and what it ``called``."""
    try:
        done = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, timeout=timeout_secs, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name}: {called} did not finish within {timeout_secs:g} s") from None
    except OSError as error:
        raise DeviceError(f"{name}: cannot run {called}: {cause(error)}") from error
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def new_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="mobileprune-device-"))
    except OSError as error:
        raise DeviceError(f"local: cannot make a working folder: {cause(error)}; set TMPDIR") from error
