"""What native code prints, and only meanwhile."""

from __future__ import annotations

import ctypes
import os

import pytest

from mobileprune.silence import silenced


def test_file_descriptors_and_c_streams_are_silent_inside_and_heard_outside(capfd: pytest.CaptureFixture[str]) -> None:
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    print("before", end=" ")
    with silenced():
        os.write(1, b"descriptor")
        os.write(2, b"descriptor")
        if libc is not None:
            libc.puts(b"c stream")
    print("after")
    assert capfd.readouterr() == ("before after\n", "")


def test_exceptions_pass_and_sound_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), silenced():
        raise ValueError("x")
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"
