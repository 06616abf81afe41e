"""What the tests of Bluetooth need of Debian, and how it comes there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

BLUETOOTHD = Path("/usr/libexec/bluetooth/bluetoothd")

_TO_RUN = {str(BLUETOOTHD): "bluez", "dbus-daemon": "dbus", "ip": "iproute2"}
_TO_BUILD = {"gcc": "gcc", "make": "make", "flex": "flex", "bison": "bison", "bc": "bc", "xz": "xz-utils"}


def missing(*, to_build: bool) -> list[str]:
    """Return the packages that are not there; `to_build`: those for a kernel as well."""
    wanted = {**_TO_RUN, **(_TO_BUILD if to_build else {})}
    return [package for program, package in wanted.items() if shutil.which(program) is None]


def install(packages: list[str]) -> None:
    """Install Debian packages, saying so. Raises `CalledProcessError` if apt fails."""
    print(f"Installing from Debian: {' '.join(packages)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = shutil.which("apt-get") or "apt-get"
    subprocess.run([apt, "update", "-qq"], check=True)
    wanted = ["--no-install-recommends", *packages]
    subprocess.run([apt, "install", "-qq", "--yes", *wanted], check=True, env=quiet, stdout=subprocess.DEVNULL)
