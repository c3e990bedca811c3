"""Every exception of mobileprune that reaches the user, and the exit code it carries.

    MobilepruneError            1  something went wrong that the user can act on
    ├── UsageError              2  an option or value is wrong (ConfigError collects several)
    │   └── ConfigError         2
    ├── DataError               1  a data set is missing, malformed or unsuitable
    ├── CheckpointError         1  weights cannot be read or do not fit the model
    ├── ArtifactError           1  an artifact is corrupt, altered or not an artifact
    ├── ParityError             1  the exported file does not compute what the model computes
    ├── TargetUnavailableError  5  the target's runtime is not installed or cannot run here
    └── DeviceError             5  a device is missing, or failed at what it was asked to do
        └── DeviceLostError     5  its connection broke: the same again may help

A finished audit that fails (exit 3) or is inconclusive (exit 4) is a result, not an exception:
see :data:`mobileprune.audit.verdict.EXIT_CODES`.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_QUOTED = 300
"""Characters of what another program or library said."""


class MobilepruneError(Exception):
    """Base of all errors shown to the user as one line: what, rule, value, way out."""

    exit_code = 1


class UsageError(MobilepruneError):
    exit_code = 2


class ConfigError(UsageError):
    """Several problems of one configuration, reported together."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return type(self), (self.problems,)  # by default the text would be taken for the problems, letter by letter


class DataError(MobilepruneError):
    pass


class CheckpointError(MobilepruneError):
    pass


class ArtifactError(MobilepruneError):
    pass


class ParityError(MobilepruneError):
    pass


class TargetUnavailableError(MobilepruneError):
    exit_code = 5


class DeviceError(MobilepruneError):
    exit_code = 5


class DeviceLostError(DeviceError):
    pass


def one_line(error: BaseException, *, kind: bool = False) -> str:
    """What ``error`` says, as messages quote it: its lines as one, cut off. ``kind``: after its class's name."""
    text = _quoted(str(error))
    return f"{type(error).__name__}: {text}" if kind else text


def last_line(text: str) -> str:
    """The last line of what a program said, where it tells what went wrong; "" where it said nothing."""
    return _quoted(next((line for line in reversed(text.splitlines()) if line.strip()), ""))


def printable(text: str) -> str:
    """Of a stranger's text: without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    return " ".join(text.split())[:MAX_QUOTED]


def unknown(kind: str, name: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is in no registry, with the nearest one suggested."""
    import difflib

    listed = sorted(choices)
    near = difflib.get_close_matches(name, listed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(listed)}")
