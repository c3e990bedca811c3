"""Every kind of leak, planted in a real lite archive, is found there, and nothing else."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.lint import IMAGES, SHAPE, exported, found
from torch import nn

from mobileprune.errors import ArtifactError, MobilepruneError
from mobileprune.export.lint import Finding, lint
from mobileprune.export.lint import archive as archive_rules

pytestmark = pytest.mark.filterwarnings("ignore:Lite Interpreter is deprecated:DeprecationWarning")


class Keeps(nn.Module):
    """Adds something of ``kept`` to the logits."""

    def __init__(self, **kept: torch.Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 5)
        for name, value in kept.items():
            self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)) + sum(value.sum() for value in self.buffers())


def lite(*, whole: bool = False, **kept: torch.Tensor) -> bytes:
    """As somebody else may save it: not frozen; ``whole``: and not stripped."""
    content = bytes(
        torch.jit.trace(Keeps(**kept).eval(), torch.zeros(2, *SHAPE))._save_to_buffer_for_lite_interpreter()
    )
    return (
        content if whole else archive({n: c for n, c in records(content).items() if not re.search("code/|traced", n)})
    )


def records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def archive(kept: dict[str, bytes], **options: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as file:  # type: ignore[arg-type]
        for name, content in kept.items():
            file.writestr(name, content)
    return buffer.getvalue()


def with_record(name: str, content: bytes = b"x") -> bytes:
    return archive(records(exported("residual", "torchscript-lite")) | {f"archive/{name}": content})


def with_comment() -> bytes:
    buffer = io.BytesIO(exported("residual", "torchscript-lite"))
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = b"from Ada"
    return buffer.getvalue()


def twice() -> bytes:
    kept = records(exported("residual", "torchscript-lite"))
    buffer = io.BytesIO(archive(kept))
    with zipfile.ZipFile(buffer, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("archive/version", b"8\n")
    return buffer.getvalue()


def padded() -> bytes:
    """Something else in the bytes that align records."""
    content = exported("residual", "torchscript-lite")
    at = content.index(b"ZZZZZZZZ")
    return content[:at] + b"from Ada" + content[at + 8 :]


ARCHIVE_LEAKS: dict[str, tuple[set[str], Callable[[], bytes]]] = {
    "images": ({"images"}, lambda: lite(kept=torch.from_numpy(IMAGES))),
    "mask": ({"mask"}, lambda: lite(kept=(torch.rand(5, 192) < 0.1).float())),
    "boolean mask": ({"mask"}, lambda: lite(kept=torch.rand(5, 192) < 0.1)),
    "leftover of pruning": ({"pruning"}, lambda: lite(weight_orig=torch.rand(5, 192))),
    "optimizer state": ({"optimizer"}, lambda: lite(exp_avg=torch.rand(5, 192))),
    "bundled inputs": ({"data"}, lambda: lite(_bundled_inputs_deflated_forward=torch.rand(7))),
    "source": ({"record", "source"}, lambda: with_record("code/net.txt", b"def forward(self):\n")),
    "deflated source": (
        {"source"},
        lambda: archive({"archive/version": b"def forward(self):\n" * 50}, compression=zipfile.ZIP_DEFLATED),
    ),
    "extra file": ({"record"}, lambda: with_record("extra/notes.txt")),
    "debug handles": ({"record"}, lambda: with_record("mobile_debug_handles.pkl", b"N.")),
    "path": ({"path", "record"}, lambda: with_record("extra/log", b"/home/ada/data")),
    "tensor that nothing names": ({"unused"}, lambda: with_record("constants/77.storage", bytes(40))),
    "comment": ({"hidden"}, with_comment),
    "bytes before the archive": ({"hidden"}, lambda: b"from Ada's disk: #7" + exported("residual", "torchscript-lite")),
    "padding": ({"hidden"}, padded),
    "record said twice": ({"record"}, twice),
}  # fmt: skip


@pytest.mark.parametrize("leak", ARCHIVE_LEAKS)
def test_a_leak_in_a_lite_archive_is_found_and_nothing_else(tmp_path: Path, leak: str) -> None:
    rules, plant = ARCHIVE_LEAKS[leak]
    assert {each.rule for each in found(plant(), tmp_path, ".ptl")} == rules
    with pytest.raises(MobilepruneError, match="must not leave this machine"):
        lint(tmp_path / "model.ptl", SHAPE)


def test_weights_in_a_lite_archive_are_no_leak(tmp_path: Path) -> None:
    assert found(lite(kept=torch.rand(5, 192)), tmp_path, ".ptl") == []


def test_the_images_that_a_model_was_traced_with_are_found(tmp_path: Path) -> None:
    """What torch itself stores, unless the module is frozen before it is saved."""
    leaks = found(lite(whole=True), tmp_path, ".ptl")
    assert Finding("images", "traced_inputs.pkl", "tensor of shape (2, 3, 8, 8): 2 images?") in leaks
    assert {"source", "path", "record"} <= {each.rule for each in leaks}


def test_an_archive_that_unpacks_to_very_much_is_refused(tmp_path: Path) -> None:
    content = bytearray(archive({"archive/version": bytes(10)}))
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = b"\xff\xff\xff\xfe"
    content = (
        content[: content.index(b"PK\x01\x02")]
        + 2 * content[content.index(b"PK\x01\x02") : content.index(b"PK\x05\x06")]
    )
    with pytest.raises(ArtifactError, match="cannot be read as"):
        found(bytes(content), tmp_path, ".ptl")


BROKEN = {
    "many opcodes": (lambda: archive({"archive/data.pkl": b"\x80\x02" + b"N" * 10 + b"."}), "more than 10 opcodes"),
    "in two pickles": (
        lambda: archive({f"archive/{i}.pkl": b"\x80\x02" + b"N" * 4 + b"." for i in range(2)}),
        "more than 10 opcodes",
    ),
    "no pickle": (lambda: archive({"archive/data.pkl": b"\x80\x02NN"}), r"record data\.pkl is no pickle"),
    "many records": (lambda: archive({f"archive/{i}": b"" for i in range(6)}), "6 records, more than 5"),
    "a bomb": (
        lambda: archive({"archive/version": bytes(5000)}, compression=zipfile.ZIP_DEFLATED),
        "unpacks to more than 1,000 bytes beyond its own",
    ),
    "another bomb": (
        lambda: archive({"archive/version": bytes(500)}, compression=zipfile.ZIP_BZIP2),
        "is compressed as no such archive is",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_archive_that_would_take_long_is_refused(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in {"MAX_OPCODES": 10, "MAX_RECORDS": 5, "MAX_GROWTH": 1000}.items():
        monkeypatch.setattr(archive_rules, name, most)
    make, words = BROKEN[case]
    with pytest.raises(ArtifactError, match=words):
        found(make(), tmp_path, ".ptl")
