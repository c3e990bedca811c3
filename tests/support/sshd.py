"""A real sshd on loopback with throwaway keys, and an ``ssh`` that knows it: nobody's own keys or hosts are touched."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
REASON = "needs openssh-server and openssh-client"
AVAILABLE = bool(
    SSHD and shutil.which("ssh") and shutil.which("ssh-keygen") and (os.getuid() or shutil.which("unshare"))
)
WAIT_SECS = 10.0


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def path(self) -> str:
        """PATH with the ``ssh`` that uses the throwaway keys in front."""
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def know(self, key: Path) -> None:
        """The one host key that is known for the server."""
        kind, public, *_ = key.read_text().split()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {public}\n")

    def children(self) -> list[int]:
        """Processes of open connections."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [(int(a), int(b)) for a, b in (line.split() for line in listed.splitlines())]
        return [pid for pid, parent in pairs if parent == self.process.pid]

    def cut(self) -> None:
        """Ends every open connection from the server's side."""
        for pid in self.children():
            os.kill(pid, 9)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    folder.chmod(0o700)
    for key in ("host", "other", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    port = _free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n"
        f"StrictModes no\nPidFile none\nSubsystem sftp internal-sftp\nMaxStartups 100\n"
    )
    (folder / "config").write_text(
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile /dev/null\n"
    )
    (folder / "bin").mkdir()
    client = folder / "bin" / "ssh"
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    client.chmod(0o755)
    command = f"exec {SSHD} -D -e -f {folder}/sshd_config"
    # As root sshd wants a folder in /run, which is its own here.
    argv = ["sh", "-c", command]
    if os.getuid() == 0:
        argv = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs tmpfs /run && mkdir /run/sshd && {command}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    made = Server(folder, port, process)
    made.know(folder / "host.pub")
    try:
        _wait(made)
        yield made
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(made: Server) -> None:
    until = time.monotonic() + WAIT_SECS
    while True:
        try:
            socket.create_connection(("127.0.0.1", made.port), timeout=1).close()
            return
        except OSError:
            if made.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"sshd did not start: {(made.folder / 'log').read_text()}") from None
            time.sleep(0.02)
