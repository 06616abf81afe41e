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

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = Path(sys.executable).absolute()
"""Not resolved: a virtual environment is known by the name it was called by."""
LIMIT_S = 600.0
MEMORY = "768M"
_PLUGINS_NOT_NEEDED = ("cacheprovider", "hypothesispytest", "randomly", "schemathesis", "xdist")
"""They write beside the tests, or take long to import."""
NO_ANSWER = 70
"""The exit status where the guest ended without telling one."""


def main(arguments: Sequence[str]) -> int:
    """Boot, run pytest with these arguments, and return its exit status."""
    if os.geteuid() != 0:
        print("make test-bluetooth has to run as root: its kernel reads this machine's root file system")
        return NO_ANSWER
    if packages := missing(to_build=AT_HAND not in os.environ):
        install(packages)
    try:
        program = kernel()
    except NoKernel as reason:
        print(reason)
        return NO_ANSWER
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        (job / "job.sh").write_text(job_of(arguments))
        boot(program, job, LIMIT_S)
        with contextlib.suppress(FileNotFoundError):
            return int((job / "status").read_text())
        print("the guest ended without a result")
        for log in sorted(job.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
    return NO_ANSWER


def job_of(arguments: Sequence[str]) -> str:
    """Return the script that the guest runs: pytest, as it would run here."""
    without = [word for plugin in _PLUGINS_NOT_NEEDED for word in ("-p", f"no:{plugin}")]
    command = [str(PYTHON), "-m", "pytest", *without, "--rootdir", str(ROOT)]
    lines = [
        f"cd {shlex.quote(str(ROOT))}",
        f"export PYTHONPATH={shlex.quote(str(ROOT))} OMP_NUM_THREADS=1 IDML_GUEST=1",
        f"{shlex.join([*command, str(HERE), *arguments])}",
    ]
    return "\n".join(lines) + "\n"


def boot(program: Path, job: Path, limit_s: float) -> None:
    """Run the kernel until it halts, `limit_s` at most; it and all that it started are gone then."""
    arguments = [
        str(program),
        f"mem={MEMORY}",
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
