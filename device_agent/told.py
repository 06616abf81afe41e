"""What an agent has told, for people and programs: lines of a log, and the last things that went wrong."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from device_agent.agent_config import LogFormat

_REMEMBERED = 20
_LONGEST = 300
_FAULTS = frozenset({"fault", "peer fault", "radio fault", "refused", "waiting"})
_REPEATED = frozenset({"waiting", "not greeted"})
"""What is told again and again while it lasts: a line for the first of the same, and one now and then."""
_AGAIN_AFTER_S = 600.0
_KEPT = 64


class Told:
    """Takes observations; see `device_agent.observation.Observe`."""

    def __init__(self, form: LogFormat, wall_s: Callable[[], float], out: TextIO | None = None) -> None:
        """Write lines to `out`, default: what is stderr at that moment."""
        self._form = form
        self._wall_s = wall_s
        self._out = out
        self._faults: deque[dict[str, object]] = deque(maxlen=_REMEMBERED)
        self._told_at_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.counts: Counter[str] = Counter()

    @property
    def last_faults(self) -> list[dict[str, object]]:
        """The last things that went wrong, newest first."""
        return list(reversed(self._faults))

    def __call__(self, name: str, **fields: object) -> None:
        """Take one observation."""
        self.counts[name] += 1
        if name in _REPEATED and self._just_told(name, str(fields)):
            return
        said = {key: _plain(value) for key, value in fields.items() if value is not None}
        time = datetime.fromtimestamp(self._wall_s(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if name in _FAULTS:
            self._faults.append({"time": time, "what": name} | said)
        self._write(time, name, said)

    def _just_told(self, name: str, what: str) -> bool:
        now_s = self._wall_s()
        if abs(now_s - self._told_at_s.get((name, what), -math.inf)) < _AGAIN_AFTER_S:
            return True
        self._told_at_s[name, what] = now_s
        self._told_at_s.move_to_end((name, what))
        if len(self._told_at_s) > _KEPT:
            self._told_at_s.popitem(last=False)
        return False

    def _write(self, time: str, name: str, said: dict[str, object]) -> None:
        if self._form is LogFormat.JSON:
            line = json.dumps({"time": time, "event": name} | said)
        else:
            line = " ".join([time, name, *(f"{key}={value}" for key, value in said.items())])
        out = self._out or sys.stderr
        try:
            out.write(line + "\n")
            out.flush()
        except (OSError, ValueError):  # nobody reads it any more: that must not stop the agent
            pass


def _plain(value: object) -> object:
    """Numbers as they are, and anything else as one line of text: words of strangers are among it."""
    if isinstance(value, bool | int | float):
        return value
    text = " ".join(str(value).split())
    return "".join(one if one.isprintable() else "?" for one in text)[:_LONGEST]
