"""An agent that is killed at each new transition of its encounters: as soon as the journal has it, nothing done yet.

    dying_agent.py DEATHS ARGUMENT...

DEATHS is a file with a line for each transition that it died of: the role and the stage. It dies of none twice.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from device_agent.__main__ import main
from device_agent.encounter import Encounter
from device_agent.journal import Journal


def die_of_what_is_new(deaths: Path) -> None:
    """From now on, die as soon as a record is written whose role and stage are not in the file."""
    written = Journal.record

    def record(journal: Journal, encounter: Encounter, **options: Any) -> Any:
        due = written(journal, encounter, **options)
        death = f"{encounter.role} {encounter.stage}"
        if death not in deaths.read_text().splitlines():
            with deaths.open("a") as file:
                print(death, file=file, flush=True)
                os.fsync(file.fileno())
            os.kill(os.getpid(), signal.SIGKILL)
        return due

    Journal.record = record  # type: ignore[method-assign]


if __name__ == "__main__":
    die_of_what_is_new(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
