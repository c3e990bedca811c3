"""A real server in a process of its own, over a folder with artifacts, something hostile and a run store."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.servers import Start, started

NAMELESS = os.fsdecode(b"caf\xff")
"""A name that is not UTF-8."""
EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


@dataclass(frozen=True)
class Server:
    port: int
    folder: Path

    def raw(self, request: bytes) -> Answer:
        """Sent as it is: no client library tidies the path or adds a Host."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            got = b""
            while chunk := connection.recv(1 << 16):
                got += chunk
        head, _, body = got.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(first.split()[1]), headers, body.decode("utf-8", "replace"))

    def get(self, path: str, *, host: str = "127.0.0.1", method: str = "GET") -> Answer:
        lines = (f"{method} {path} HTTP/1.1", f"Host: {host}:{self.port}", "Connection: close", "Content-Length: 0")
        return self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def artifacts(self, page: str = "/") -> dict[str, str]:
        """Name of each artifact of the list -> its key."""
        found = re.findall(r'<a href="/artifact/([0-9a-f]+)">([^<]+)</a>', self.get(page).text)
        return {name: key for key, name in found}


@pytest.fixture(scope="session")
def folder(artifacts: dict[str, Path], store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``good``, ``other`` and ``elsewhere`` (a busy machine) are whole; ``altered`` is not what its manifest says."""
    place = tmp_path_factory.mktemp("served")
    deep = "deep/er/and/deeper/still/too-deep"
    for name in ("good", "other", "elsewhere", "altered", "badreport", NAMELESS, "surrogate", deep, ".writing"):
        shutil.copytree(artifacts["onnx"], place / name)
    (place / "altered" / "model.onnx").write_bytes(b"something else")
    manifest = json.loads((place / "other" / "manifest.json").read_text())
    manifest["lineage"]["data"]["dataset"] = manifest["labels"][0] = EVIL
    (place / "other" / "manifest.json").write_text(json.dumps(manifest))
    report = json.loads((place / "elsewhere" / "report.json").read_text())
    report["bench"] |= {"num_threads": 7, "valid": False, "note": EVIL}
    (place / "elsewhere" / "report.json").write_text(json.dumps(report))
    manifest["labels"][0] = "\ud800"
    (place / "surrogate" / "manifest.json").write_text(json.dumps(manifest))
    (place / "pipes").mkdir()
    for name in ("manifest.json", "report.json", "sweep.json"):
        os.mkfifo(place / "pipes" / name)
    (place / "badreport" / "report.json").write_text('{"schema": "mobileprune.report/1", "audit": "<script>"}')
    (place / "nothing").mkdir()
    (place / "nothing" / "manifest.json").write_text('{"name": "a web app"}')
    secret = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(artifacts["onnx"], secret / "secret")
    (place / "linked").symlink_to(secret / "secret")
    (place / "half").mkdir()
    (place / "half" / "manifest.json").symlink_to(secret / "secret" / "manifest.json")
    shutil.copytree(store, place / "store")
    (place / "store" / "partial" / "0123456789abcdef").mkdir(parents=True)
    return place


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    with started() as start:
        yield start


@pytest.fixture(scope="session")
def server(start: Start, folder: Path) -> Server:
    pytest.importorskip("uvicorn", reason="needs the extra: pip install '.[serve]'")
    _, line = start(folder)
    return Server(int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", line)[1]), folder)
