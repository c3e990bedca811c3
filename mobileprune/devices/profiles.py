"""Processors that QEMU's user emulation stands in for: ``PROFILES``, and what ``/proc/cpuinfo`` says on each."""

from __future__ import annotations

from dataclasses import dataclass

_V8 = "fp asimd aes pmull sha1 sha2 crc32"
ARM = "0x41"


@dataclass(frozen=True)
class Profile:
    """``part`` and ``variant`` are fields of the MIDR_EL1 register, from which runtimes pick their kernels."""

    part: str
    variant: str
    features: str

    def cpuinfo(self) -> str:
        """As Linux writes it for one core. It has to tell of the same features as ``-cpu``, or programs use others."""
        return (
            f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {self.features}\nCPU implementer\t: {ARM}\n"
            f"CPU architecture: 8\nCPU variant\t: {self.variant}\nCPU part\t: {self.part}\nCPU revision\t: 1\n\n"
        )


PROFILES = {
    "cortex-a53": Profile("0xd03", "0x0", f"{_V8} cpuid"),
    "cortex-a76": Profile("0xd0b", "0x4", f"{_V8} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
}
