"""Real adbd and adb in a network namespace of their own: it asks nobody for a key, so only loopback reaches it.

``MOBILEPRUNE_TEST_ADBD`` names the folder that ``.ci/adbd`` made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = os.environ.get("MOBILEPRUNE_TEST_ADBD", "")
ADBD = "usr/lib/android-sdk/platform-tools/adbd"
LIBRARIES = "/usr/lib/x86_64-linux-gnu/android"
PORT = 5700
"""Not 5555 and the next 30, where adb finds emulators of its own accord."""
TOOLS = ("sh", "mkdir", "rm", "mv", "cat", "wc", "chmod", "uname", "sleep", "pwd", "kill", "ps", "id", "ls", "df")
REASON = "needs adb, root, and the folder that .ci/adbd makes in MOBILEPRUNE_TEST_ADBD"
_PROGRAMS = all(shutil.which(name) for name in ("adb", "unshare", "nsenter", "chroot"))
AVAILABLE = bool(ROOT) and os.path.isfile(os.path.join(ROOT, ADBD)) and os.getuid() == 0 and _PROGRAMS
WAIT_SECS = 20.0


@dataclass(frozen=True)
class Phone:
    root: Path
    bin: Path
    process: subprocess.Popen[bytes]

    @property
    def path(self) -> str:
        """PATH with the ``adb`` of the namespace in front."""
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def files(self) -> Path:
        return self.root / "data/local/tmp"

    def adb(self, *words: str) -> str:
        done = subprocess.run(
            [self.bin / "adb", *words], capture_output=True, text=True, timeout=WAIT_SECS, check=False
        )
        return done.stdout + done.stderr

    def attach(self, host: str = "127.0.0.1") -> str:
        """Its serial. Every address of loopback leads to the same adbd, so that there can be several."""
        serial, until = f"{host}:{PORT}", time.monotonic() + WAIT_SECS
        while f"{serial}\tdevice" not in self.adb("devices"):
            self.adb("connect", serial)
            assert time.monotonic() < until, self.adb("devices")
            time.sleep(0.05)
        return serial

    def stop(self) -> None:
        """As when its cable is pulled: all that runs on it ends."""
        self.process.kill()
        self.process.wait()


@contextmanager
def phone(folder: Path) -> Iterator[Phone]:
    root, home, programs = folder / "root", folder / "home", folder / "bin"
    shutil.copytree(ROOT, root, symlinks=True)
    for name in ("data/local/tmp", "proc", "dev", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/data/local/tmp:/bin/sh\n")
    home.mkdir()
    programs.mkdir()
    up = f'"{root}/bin/busybox" ip link set lo up && echo up && exec sleep infinity'
    network = subprocess.Popen(["unshare", "--net", "sh", "-c", up], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert network.stdout is not None
    assert network.stdout.readline() == b"up\n"  # before that it would be this machine's network that is entered
    enter = ["nsenter", f"--net=/proc/{network.pid}/ns/net"]
    inside = (
        "mount -t proc proc $0/proc && mount --bind /dev $0/dev && exec chroot $0 /bin/busybox env -i PATH=/bin "
        f"HOME=/data/local/tmp ADBD_PORT={PORT} LD_LIBRARY_PATH={LIBRARIES} /{ADBD}"
    )
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    with (folder / "log").open("wb") as log:
        command = [*enter, *namespaces, "sh", "-c", inside, str(root)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    client = programs / "adb"
    client.write_text(f'#!/bin/sh\nexec {" ".join(enter)} env HOME={home} ADB_MDNS=0 {shutil.which("adb")} "$@"\n')
    client.chmod(0o755)
    made = Phone(root, programs, process)
    try:
        yield made
    finally:
        made.adb("kill-server")
        made.stop()
        network.stdout.close()
        network.kill()
        network.wait()
