"""Devices by the first word of their name: ``DEVICES``. ``open_device`` is the only way to one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mobileprune.devices.base import CountingTransport, Done, Transport
from mobileprune.errors import DeviceError, unknown


def _local(name: str) -> Transport:
    from mobileprune.devices.local import LocalTransport

    return LocalTransport(name)


def _qemu(name: str) -> Transport:
    from mobileprune.devices.qemu import QemuTransport

    return QemuTransport(name)


def _ssh(name: str) -> Transport:
    from mobileprune.devices.ssh import SshTransport

    return SshTransport(name)


def _adb(name: str) -> Transport:
    from mobileprune.devices.adb import AdbTransport

    return AdbTransport(name)


DEVICES: dict[str, Callable[[str], Transport]] = {
    "local": _local,
    "qemu": _qemu,
    "ssh": _ssh,
    "adb": _adb,
}

PRIVATE = ("adb", "ssh")
"""Kinds whose names tell who somebody is."""


def kind_of(name: str) -> str:
    """``qemu`` of ``qemu:cortex-a53``, ``ssh`` of ``ssh://user@host``; UsageError when there is no such kind."""
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise unknown("device", name, DEVICES)
    return kind


def shown_name(name: str) -> str:
    """For results that leave this machine: the name, but for hosts and serial numbers only their kind."""
    kind = name.partition(":")[0]
    return kind if kind in PRIVATE else name


@contextmanager
def open_device(name: str) -> Iterator[Transport]:
    """The device ``name`` with a fresh working folder, which is removed at the end, after errors and Ctrl-C too.

    Raises UsageError for an unknown kind of device, DeviceError for one that cannot be had.
    """
    transport = DEVICES[kind_of(name)](name)
    try:
        yield transport
    except BaseException:
        with contextlib.suppress(DeviceError):  # of a device that is lost: what broke first is to be told
            transport.close()
        raise
    else:
        transport.close()


__all__ = ["DEVICES", "CountingTransport", "Done", "Transport", "kind_of", "open_device", "shown_name"]
