"""Run the tests in this folder inside a kernel of their own, on a real bluetoothd; as root.

    python tests/bluetooth/laboratory.py [pytest's arguments]

The kernel is a program (see kernel.py) on this machine's own root, which it cannot write to; init.sh is what it starts.
It writes to a folder of its own, where the exit status of pytest comes back. The console is shown as it comes.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kernel import AT_HAND, NoKernel, kernel
from packages import install, missing
from platformdirs import user_cache_path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = Path(sys.executable).absolute()
"""Not resolved: a virtual environment is known by the name it was called by."""
LIMIT_S = 900.0
MEMORY = "768M"
_PLUGINS_NOT_NEEDED = ("cacheprovider", "hypothesispytest", "randomly", "schemathesis", "xdist")
"""They write beside the tests, or take long to import."""
_NO_ANSWER = 70
"""The exit status where the guest told none."""


class NoGuest(Exception):
    """Nothing can be run in a guest here, or it ended without a result; the message says why."""


def main(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments in a guest, and return its exit status."""
    without = [word for plugin in _PLUGINS_NOT_NEEDED for word in ("-p", f"no:{plugin}")]
    try:
        with tempfile.TemporaryDirectory() as job:
            return in_guest(["-m", "pytest", *without, "--rootdir", str(ROOT), str(HERE), *arguments], Path(job))
    except NoGuest as reason:
        print(reason)
        return _NO_ANSWER


def in_guest(arguments: Sequence[str], job: Path) -> int:
    """Run this Python with these arguments in a guest, and return its exit status.

    Args:
        arguments: of Python.
        job: an empty folder, which is /run/job in the guest: whatever is written there stays.

    Raises:
        NoGuest: it is not possible here, or did not end well.
    """
    if os.geteuid() != 0:
        raise NoGuest("a guest needs root: its kernel reads this machine's root file system")
    if packages := missing(to_build=AT_HAND not in os.environ):
        install(packages)
    try:
        program = kernel()
    except NoKernel as reason:
        raise NoGuest(str(reason)) from reason
    (job / "job.sh").write_text(script_of(arguments))
    boot(program, job, LIMIT_S)
    with contextlib.suppress(FileNotFoundError):
        return int((job / "status").read_text())
    raise NoGuest("the guest ended without a result")


def script_of(arguments: Sequence[str]) -> str:
    """Return what the guest's first process runs."""
    lines = [
        f"cd {shlex.quote(str(ROOT))}",
        f"export PYTHONPATH={shlex.quote(str(ROOT))} OMP_NUM_THREADS=1 IDML_GUEST=1",
        f"export XDG_CACHE_HOME={shlex.quote(str(user_cache_path()))}",
        shlex.join([str(PYTHON), *arguments]),
    ]
    return "\n".join(lines) + "\n"


def boot(program: Path, job: Path, limit_s: float) -> None:
    """Run the kernel until it halts, `limit_s` at most; it and all that it started are gone then."""
    arguments = [
        str(program),
        f"mem={MEMORY}",
        "root=hostfs",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        f"init={HERE / 'init.sh'}",
        f"IDML_JOB={job}",
        f"IDML_PYTHON={PYTHON}",
        "con=null",
        "con0=null,fd:1",
        "quiet",
        "panic=-1",
    ]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        print(f"the guest did not end within {limit_s:.0f} s")
    finally:
        # Its processes are a session of their own: no other one is hit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
