"""Whether the device is fit for work: temperature, throttling, memory, disk, clock.

`read_vitals` asks the machine; `unfit` is the pure rule. The numbers are for a Raspberry Pi: it throttles at 80 C, and
starting at 75 C would only get there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_THERMAL = Path("/sys/class/thermal/thermal_zone0/temp")
_MEMINFO = Path("/proc/meminfo")
_VCGENCMD = "/usr/bin/vcgencmd"
_THROTTLED_NOW = 0b0100
_UNDER_VOLTAGE_NOW = 0b0001


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """What was read; None where the machine has no such gauge.

    Attributes:
        temperature_c: of the processor.
        throttled: the firmware's throttling word (bits 0 to 3 now, 16 to 19 since boot).
        available_memory_bytes: what a new process could take.
        free_disk_bytes: where the journal lies.
    """

    temperature_c: float | None = None
    throttled: int | None = None
    available_memory_bytes: int | None = None
    free_disk_bytes: int | None = None


class Unfit(StrEnum):
    """Why the device should not take on work now."""

    HOT = "too hot"
    THROTTLED = "throttled by the firmware"
    UNDER_VOLTAGE = "under-voltage: the power supply is too weak"
    MEMORY = "too little memory"
    DISK = "too little disk space"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Limits for `unfit`."""

    start_below_c: float = 75.0
    min_memory_bytes: int = 64 << 20
    min_disk_bytes: int = 64 << 20


def unfit(vitals: Vitals, guards: Guards) -> tuple[Unfit, ...]:
    """Return every reason not to start training; none if the device is fit."""
    reasons: list[Unfit] = []
    if vitals.temperature_c is not None and vitals.temperature_c >= guards.start_below_c:
        reasons.append(Unfit.HOT)
    if vitals.throttled is not None and vitals.throttled & _THROTTLED_NOW:
        reasons.append(Unfit.THROTTLED)
    if vitals.throttled is not None and vitals.throttled & _UNDER_VOLTAGE_NOW:
        reasons.append(Unfit.UNDER_VOLTAGE)
    if vitals.available_memory_bytes is not None and vitals.available_memory_bytes < guards.min_memory_bytes:
        reasons.append(Unfit.MEMORY)
    if vitals.free_disk_bytes is not None and vitals.free_disk_bytes < guards.min_disk_bytes:
        reasons.append(Unfit.DISK)
    return tuple(reasons)


def vitals_reader(folder: Path) -> Callable[[], Vitals]:
    """Return a reader of this machine's vitals; `folder` is where the agent writes."""

    def read() -> Vitals:
        return Vitals(
            temperature_c=_temperature_c(),
            throttled=_throttled(),
            available_memory_bytes=_available_memory_bytes(),
            free_disk_bytes=shutil.disk_usage(folder).free,
        )

    return read


def _temperature_c() -> float | None:
    try:
        return int(_THERMAL.read_text()) / 1000
    except (OSError, ValueError):
        return None


def _throttled() -> int | None:
    if not os.access(_VCGENCMD, os.X_OK):
        return None
    try:
        said = subprocess.run([_VCGENCMD, "get_throttled"], capture_output=True, text=True, timeout=5, check=True)
        return int(said.stdout.strip().removeprefix("throttled="), 16)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _available_memory_bytes() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
