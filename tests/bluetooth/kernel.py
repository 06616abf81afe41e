"""A Linux kernel that is a program (User-Mode Linux), with Bluetooth: built from Debian's source package, and kept.

It is built anew only if kernel.config or Debian's package has changed. Where a kernel is at hand already, name it in
`IDML_UML_KERNEL`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from platformdirs import user_cache_path

AT_HAND = "IDML_UML_KERNEL"
SOURCE = "linux-source-6.1"
CONFIG = Path(__file__).with_name("kernel.config")

_PARTS_NOT_BUILT = (
    "*/Documentation/*/*.rst",
    "*/drivers/gpu/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/drivers/staging/*.[ch]",
    "*/sound/*.[ch]",
    "*/tools/testing/*",
)
"""Half of the source; the rest is read by Kconfig or compiled."""


class NoKernel(Exception):
    """There is no kernel, and none can be built: the message says what to do."""


def kernel() -> Path:
    """Return the kernel's path, building it first if need be. Raises `NoKernel`."""
    if named := os.environ.get(AT_HAND):
        if not os.access(named, os.X_OK):
            raise NoKernel(f"{AT_HAND} names {named}, which is not a program")
        return Path(named)
    version = _version()
    kept = user_cache_path("idml") / "kernels" / f"linux-{_key(version)}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        print(f"Building a kernel from {SOURCE} {version}, which takes some minutes...", flush=True)
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            built = _built(Path(folder), version)
            built.rename(kept)
        print(f"Built in {time.monotonic() - began_s:.0f} s and kept as {kept}", flush=True)
    return kept


def _key(version: str) -> str:
    return hashlib.sha256(CONFIG.read_bytes() + version.encode()).hexdigest()[:16]


def _version() -> str:
    """Return the version of the source package that apt would take."""
    lines = _output("apt-cache", "madison", SOURCE).splitlines()
    if not lines:
        raise NoKernel(f"apt knows no {SOURCE}: run apt-get update, or name a kernel in {AT_HAND}")
    return lines[0].split("|")[1].strip()


def _built(folder: Path, version: str) -> Path:
    """Fetch, unpack, configure and compile in `folder`; return the program."""
    _run(folder, "apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", f"{SOURCE}={version}")
    (package,) = folder.glob("*.deb")
    source = folder / "source"
    source.mkdir()
    left_out = " ".join(f"--exclude='{one}'" for one in _PARTS_NOT_BUILT)
    unpack = (
        f"dpkg --fsys-tarfile '{package}' | tar -xO './usr/src/{SOURCE}.tar.xz'"
        f" | tar -xJ --strip-components=1 {left_out}"
    )
    _run(source, "bash", "-o", "pipefail", "-c", unpack)
    _run(source, "make", "-s", "ARCH=um", f"KCONFIG_ALLCONFIG={CONFIG}", "allnoconfig")
    _check_nothing_was_dropped((source / ".config").read_text())
    _run(source, "make", "-s", "ARCH=um", f"-j{os.cpu_count() or 1}", "linux")
    program = source / "linux"
    _run(source, "strip", str(program))
    return program


def _check_nothing_was_dropped(configured: str) -> None:
    """Kconfig drops without a word what depends on something that is not set."""
    wanted = [line for line in CONFIG.read_text().splitlines() if line and not line.startswith("#")]
    if dropped := sorted(set(wanted) - set(configured.splitlines())):
        raise NoKernel(f"kernel.config asks for what this source does not have: {', '.join(dropped)}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NoKernel(f"{name} is missing, which it takes to build a kernel")
    return found


def _output(name: str, *arguments: str) -> str:
    return subprocess.run([_program(name), *arguments], check=True, capture_output=True, text=True).stdout


def _run(folder: Path, name: str, *arguments: str) -> None:
    done = subprocess.run(
        [_program(name), *arguments], cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode != 0:
        said = done.stdout.decode(errors="replace")[-4000:]
        raise NoKernel(f"{name} {' '.join(arguments)[:80]} failed:\n{said}")


if __name__ == "__main__":
    try:
        print(kernel())
    except NoKernel as reason:
        sys.exit(str(reason))
