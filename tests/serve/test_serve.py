"""The page to explore: it shows what was found and nothing else, whatever the address says, and writes nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from mobileprune.files import sha256

WHOLE = {"good", "other", "elsewhere", "badreport", "altered", "caf?"}


def shown(server: Any, query: str = "") -> set[str]:
    return {name.split("/")[1] for name in server.artifacts(f"/{query}") if "/store/" not in name}


def test_what_was_found_is_listed(server: Any) -> None:
    """No link is followed, nothing half-written shown, nothing of other programs, nothing too deep; no named pipe is
    waited for, and what no page can show is left out."""
    assert shown(server) == WHOLE
    assert any("/store/export/" in name for name in server.artifacts())
    text = server.get("/").text
    for step in ("export", "prune", "query", "train"):
        assert re.search(rf"\d+ {step}\b", text), step
    assert "0123456789ab" in text, "the step that is under way"


def test_a_filter_keeps_lines_with_every_word(server: Any) -> None:
    assert shown(server, "?q=good%20LENET5") == {"good"}
    assert shown(server, "?q=nowhere") == set()
    answer = server.get("/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status == 200
    assert "<script" not in answer.text


def test_following_renews_the_page_without_a_script(server: Any) -> None:
    assert '<meta http-equiv="refresh" content="3">' in server.get("/?follow").text
    assert 'http-equiv="refresh"' not in server.get("/").text


def test_an_artifact_with_its_report_and_card(server: Any) -> None:
    key = {name.split("/")[-1]: key for name, key in server.artifacts().items()}["good"]
    assert "conv1.weight" in server.get(f"/artifact/{key}").text
    assert "Is this model safe to ship?" in server.get(f"/report/{key}").text
    assert "Model privacy card" in server.get(f"/card/{key}").text


def test_two_artifacts_side_by_side(server: Any) -> None:
    keys = {name.split("/")[-1]: key for name, key in server.artifacts().items()}
    text = server.get(f"/compare?a={keys['good']}&b={keys['other']}").text
    assert "The model files are the same, byte for byte." in text
    assert "attack AUC, all members" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text, "the dataset that one of them names"
    assert "<script" not in text


def test_a_folder_whose_name_is_not_utf8_has_its_pages(server: Any) -> None:
    key = {name.split("/")[-1]: key for name, key in server.artifacts().items()}["caf?"]
    for page in ("artifact", "report", "card"):
        answer = server.get(f"/{page}/{key}")
        assert answer.status == 200, page
    assert server.get(f"/compare?a={key}&b={key}").status == 200


def test_a_sweep_that_is_a_named_pipe_is_not_waited_for(server: Any) -> None:
    (key,) = re.findall(r'<a href="/sweep/([0-9a-f]+)">[^<]*/pipes</a>', server.get("/").text)
    answer = server.get(f"/sweep/{key}")
    assert answer.status == 422
    assert "not a regular file" in answer.text


def test_numbers_side_by_side_come_with_what_sets_them_apart(server: Any) -> None:
    """The notes of `mobileprune compare`: what was measured on other images or machines, and what was not read."""
    keys = {name.split("/")[-1]: key for name, key in server.artifacts().items()}
    assert "nothing measured" not in server.get(f"/compare?a={keys['good']}&b={keys['other']}").text
    text = server.get(f"/compare?a={keys['good']}&b={keys['elsewhere']}").text
    assert "attack AUC, all members" in text
    assert "latency is of other machines, versions or numbers of threads" in text
    assert "the latency of B is not valid: &lt;script&gt;alert(1)&lt;/script&gt;" in text
    text = server.get(f"/compare?a={keys['badreport']}&b={keys['good']}").text
    assert "nothing measured of A: report.json is not what this mobileprune writes" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("name", "page", "why"), [("altered", "artifact", "altered or truncated"), ("badreport", "report", "audit")]
)
def test_a_damaged_one_is_said_to_be_so(server: Any, name: str, page: str, why: str) -> None:
    key = {found.split("/")[-1]: key for found, key in server.artifacts().items()}[name]
    answer = server.get(f"/{page}/{key}")
    assert answer.status == 422
    assert why in answer.text
    assert "<script" not in answer.text


HOSTILE = [
    "/../../../../etc/passwd",
    "/artifact/../../etc/passwd",
    "/artifact/..%2f..%2fetc%2fpasswd",
    "/artifact/%2e%2e/%2e%2e/etc/passwd",
    "/report/%00",
    "/report/good",
    "/report//etc/passwd",
    "//etc/passwd",
    "/card/" + "a" * 5000,
    "/artifact/" + "0" * 20,
    "/sweep/" + "0" * 20,
    "/compare?a=../../etc/passwd&b=/etc/passwd",
    "/compare",
    "/compare?a[]=1&b=%ff%fe",
    "/manifest.json",
    "/static/../manifest.json",
    "/model.onnx",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_address_is_a_path(server: Any, path: str) -> None:
    answer = server.get(path)
    assert answer.status in (400, 404), answer.status
    assert "root:" not in answer.text
    assert "mobileprune-artifact" not in answer.text


def test_an_item_answers_only_as_what_it_is(server: Any) -> None:
    key = next(iter(server.artifacts().values()))
    assert server.get(f"/sweep/{key}").status == 404
    assert server.get(f"/artifact/{key}/manifest.json").status == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0", "::1"])
def test_a_request_must_name_this_machine(server: Any, host: str) -> None:
    """DNS rebinding: a name of the attacker's that leads here."""
    answer = server.get("/", host=host)
    assert answer.status == 400
    assert "served" not in answer.text


def test_a_request_without_a_host_is_refused(server: Any) -> None:
    assert server.raw(b"GET / HTTP/1.0\r\n\r\n").status == 400
    assert server.get("/", host="localhost").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_there_is_nothing_but_reading(server: Any, method: str) -> None:
    key = next(iter(server.artifacts().values()))
    for path in ("/", f"/artifact/{key}", "/compare"):
        assert server.get(path, method=method).status in (400, 405)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/artifact/x"])
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_is_guarded(server: Any, path: str, host: str) -> None:
    headers = server.get(path, host=host).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"A" * 100_000 + b"\r\n\r\n"],
    ids=["tls", "short", "long"],
)
def test_garbage_harms_nothing(server: Any, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    assert server.get("/").status == 200


def test_only_the_loopback_address_is_bound(server: Any) -> None:
    sockets = Path("/proc/net/tcp")
    if not sockets.is_file():
        pytest.skip("only Linux lists its sockets in /proc")
    listening = [line.split()[1] for line in sockets.read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [place for place in listening if int(place.split(":")[1], 16) == server.port] == [
        f"0100007F:{server.port:04X}"
    ]


def test_nothing_is_written(server: Any) -> None:
    def state() -> dict[str, tuple[str, int]]:
        files = (path for path in server.folder.rglob("*") if path.is_file())
        return {str(path): (sha256(path), path.stat().st_mtime_ns) for path in files}

    before = state()
    for key in server.artifacts().values():
        for page in ("artifact", "report", "card"):
            server.get(f"/{page}/{key}")
    assert state() == before


def test_what_appears_is_found_and_what_goes_is_not(server: Any) -> None:
    new = server.folder / "new"
    (server.folder / "good").rename(new)
    try:
        assert "new" in shown(server)
        assert "good" not in shown(server)
    finally:
        new.rename(server.folder / "good")


def test_it_ends_quietly_on_ctrl_c(start: Any, folder: Path, tmp_path: Path) -> None:
    process, _ = start(folder, "--json", tmp_path / "serve.json")
    assert process.stderr.readline() == "Ctrl-C stops it\n"
    document = json.loads((tmp_path / "serve.json").read_text())
    assert document["schema"] == "mobileprune.serve/1"
    assert document["folders"] == [str(folder)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (0, "")
    assert err == ""


def test_bad_input_is_refused(command: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("serve", folder / "nowhere")
    assert (done.code, "is not a folder" in done.err) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = command("serve", folder, "--port", taken.getsockname()[1])
        assert (done.code, "choose another --port" in done.err) == (1, True)
    done = command("serve", folder, "--port", 99_999)
    assert (done.code, "choose another --port" in done.err) == (1, True)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mobileprune.serve.app")
    done = command("serve", folder)
    assert (done.code, "pip install 'mobileprune[serve]'" in done.err) == (5, True)
    assert os.path.isdir(folder)
