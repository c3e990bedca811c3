"""A device that OpenSSH's client reaches: ``ssh://user@host:port``, or a host of the user's ssh configuration.

Only a host whose key is known is spoken to, and only with a key that asks no question. Nothing but ``sh`` and the usual
small tools are needed there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from mobileprune.devices.base import cause
from mobileprune.devices.client import spoken
from mobileprune.devices.shell import PART, TRANSFER_SECS, ShellTransport, mode_of, parent_of
from mobileprune.errors import DeviceError, DeviceLostError, UsageError, last_line

OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "ClearAllForwardings": "yes",
    "RequestTTY": "no",
}
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
SIZE_BYTES = 64
"""Of the line that says how large a file is, at most."""


class SshTransport(ShellTransport):
    def __init__(self, name: str) -> None:
        self._to = _target(name)
        super().__init__(name, '"${TMPDIR:-/tmp}"')

    def push(self, source: Path, remote: str) -> None:
        """Through the shell's input, so that devices without sftp do; a part of a file is never given its name."""
        self._path(remote)
        try:
            with source.open("rb") as file:
                arrived = f"[ $(wc -c <{PART}) -eq {os.fstat(file.fileno()).st_size} ]"
                placed = f"{parent_of(remote)} && mv -f {PART} ./{shlex.quote(remote)}"
                steps = f"cat >{PART} && {arrived} && chmod {mode_of(source)} {PART} && {placed}"
                script = f"cd {self._there} && {{ {steps} || {{ rm -f {PART}; exit 9; }}; }}"
                done = spoken(self.name, self._client(script), stdin=file, timeout_secs=TRANSFER_SECS)
        except subprocess.TimeoutExpired:
            raise DeviceLostError(f"{self.name}: {remote} was not sent within {TRANSFER_SECS:g} s") from None
        except OSError as error:
            raise DeviceError(f"{self.name}: cannot send {remote}: {cause(error)}") from error
        self._moved(done.returncode, done.stderr, f"cannot write {remote} there")

    def pull(self, remote: str, target: Path, *, max_bytes: int) -> None:
        """The size comes first, so that a part of a file is not taken for it."""
        name = shlex.quote(self._path(remote))
        with tempfile.TemporaryFile() as came:
            try:
                done = spoken(
                    self.name,
                    self._client(f"wc -c <{name} && cat {name}"),
                    timeout_secs=TRANSFER_SECS,
                    stdout=came,
                    brought=lambda: os.fstat(came.fileno()).st_size,
                    max_bytes=SIZE_BYTES + max_bytes,
                )
                self._moved(done.returncode, done.stderr, f"cannot read {remote} from there")
                came.seek(0)
                size, rest = came.readline(SIZE_BYTES).strip(), os.fstat(came.fileno()).st_size - came.tell()
                if not re.fullmatch(rb"[0-9]{1,15}", size) or rest != int(size):
                    raise DeviceLostError(f"{self.name}: {remote} came back incomplete")
                if rest > max_bytes:
                    raise DeviceError(f"{self.name}: {remote} has {rest:,} bytes, more than the {max_bytes:,} expected")
                with target.open("wb") as file:
                    shutil.copyfileobj(came, file)
            except subprocess.TimeoutExpired:
                raise DeviceLostError(f"{self.name}: {remote} did not come within {TRANSFER_SECS:g} s") from None
            except OSError as error:
                raise DeviceError(f"{self.name}: cannot fetch {remote}: {cause(error)}") from error

    def _moved(self, code: int, stderr: bytes, what: str) -> None:
        said = stderr.decode(errors="replace")
        if code == 255:
            self._failed(said)
        if code:
            raise DeviceError(f"{self.name}: {what}: {_line(said) or 'it arrived incomplete'}")

    def _client(self, script: str) -> list[str]:
        options = [text for name, value in OPTIONS.items() for text in ("-o", f"{name}={value}")]
        # Whatever the login shell is, it has to know single quotes only.
        return [_ssh(self.name), *options, *self._to, "exec sh -c " + shlex.quote(script)]

    def _failed(self, stderr: str) -> NoReturn:
        said, by_hand = _line(stderr) or "the connection broke", " ".join(["ssh", *self._to])
        if "IDENTIFICATION HAS CHANGED" in stderr:
            raise DeviceError(
                f"{self.name}: the host's key is not the one in your known_hosts: another machine may be answering. "
                "Find out why; only then remove the old key with ssh-keygen -R"
            )
        if "Host key verification failed" in stderr or "host key is known" in stderr:
            raise DeviceError(
                f"{self.name}: the host's key is not in your known_hosts. Connect once by hand ({by_hand}), compare "
                "the fingerprint that it shows with the device's, and accept it"
            )
        if "Permission denied" in stderr:
            raise DeviceError(
                f"{self.name}: {said}; a key that asks no question is needed: ssh-copy-id, and ssh-add for one with a "
                "passphrase"
            )
        if "Could not resolve hostname" in stderr or "Bad configuration option" in stderr:
            raise DeviceError(f"{self.name}: {said}")
        raise DeviceLostError(f"{self.name}: no connection: {said}")


def _target(name: str) -> list[str]:
    """What ssh is given: [-p, port]? [-l, user]? --, host. A host may not look like an option or bring a command."""
    try:
        parts = urlsplit(name)
        user, host, port = parts.username, parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"device {name!r}: {error}; it must be ssh://user@host:port") from None
    # urlsplit makes the host lower case, which a host of the user's configuration need not be
    host = host and next(iter(re.findall(re.escape(host), parts.netloc.rpartition("@")[2], re.IGNORECASE)), host)
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.password)
    if not host or not plain or not _HOST.fullmatch(host) or not (user is None or _WORD.fullmatch(user)):
        raise UsageError(f"device {name!r}: must be ssh://user@host:port, with nothing after it")
    return [*(["-p", str(port)] if port else []), *(["-l", user] if user else []), "--", host]


def _ssh(name: str) -> str:
    found = shutil.which("ssh")
    if not found:
        raise DeviceError(f"{name}: ssh is not installed; on Debian and Ubuntu: apt-get install openssh-client")
    return found


def _line(stderr: str) -> str:
    return last_line("\n".join(line for line in stderr.splitlines() if not line.startswith("Warning: ")))
