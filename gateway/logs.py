"""What a gateway writes about itself: one line per event, with fields, and without secrets.

    event(_log, logging.INFO, "batch composed", submission=key, calls=50)

Nothing secret is handed to a logger. In case something is all the same, by us or by a library at DEBUG, every line goes
through a `Redactor` last, its traceback included.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from sqlalchemy.engine import make_url

from gateway.config import GatewayConfig, LogFormat, masked

REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
"""Id of the HTTP request that is being answered here."""

_LEAST_SECRET: Final = 4
"""What is shorter stands in ordinary words too."""
_RECENT: Final = 20

_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+")
_LONG_HEX: Final = re.compile(r"\b(?:0x)?[0-9a-fA-F]{65,}\b")
"""Longer than a hash: a raw transaction, calldata or a signature."""
_LONG_BYTES: Final = re.compile(r"""b'(?:[^'\\]|\\.){33,}'|b"(?:[^"\\]|\\.){33,}\"""")
_NAMED: Final = re.compile(
    r"(?i)\b((?:[a-z]+[-_])*(?:authorization|signature|token|password|secret|api[-_]?key)['\"]?\s*[:=]\s*)"
    r"(?:bearer\s+)?['\"]?[^\s'\",;]+"
)


class Redactor:
    """Takes out of a text what is nobody's business."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Know some secrets by their text, beside what looks like one."""
        known = sorted({one for one in secrets if len(one) >= _LEAST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """Return the text with *** in place of secrets, and <bytes> in place of raw data."""
        if self._known is not None:
            text = self._known.sub("***", text)
        text = _URL.sub(lambda found: masked(found.group()), text)
        text = _LONG_BYTES.sub("<bytes>", _LONG_HEX.sub("<bytes>", text))
        return _NAMED.sub(r"\1***", text)


def secrets_of(config: GatewayConfig) -> set[str]:
    """Return what of a gateway's settings is secret: parts of the node's URL, the database's password, the key."""
    parts = urlsplit(config.node_url)
    found = {parts.username, parts.password, make_url(config.url).password, *parts.path.split("/")}
    found |= {value for _, value in parse_qsl(parts.query)}
    if config.operator_file.is_file():
        found.add(config.operator_file.read_text(encoding="ascii").strip().removeprefix("0x"))
    return {one for one in found if one}


def event(log: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log that something happened, with what tells it from others of its name."""
    log.log(level, name, extra={"fields": fields}, stacklevel=2)


def configure(form: LogFormat, level: str, *, secrets: Iterable[str] = ()) -> None:
    """Have every logger of this process write lines to stderr, and remember what `recent` tells.

    Args:
        form: text for people, or JSON for programs.
        level: name of the least level that is written.
        secrets: texts that must not stand there.
    """
    handler = _Stderr()
    lines = {LogFormat.TEXT: TextLines, LogFormat.JSON: JsonLines}
    handler.setFormatter(lines[form](Redactor(secrets)))
    root = logging.getLogger()
    root.setLevel(level.upper())
    for old in [one for one in root.handlers if isinstance(one, _Stderr | Recent)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.addHandler(Recent(secrets))


def recent() -> list[tuple[str, str, str]]:
    """Return time, level and words of this process's last warnings and errors, newest first."""
    return [line for one in logging.getLogger().handlers if isinstance(one, Recent) for line in one.newest_first()]


class _Stderr(logging.Handler):
    """Writes to what is stderr at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # closed, or its reader is gone
            self.handleError(record)


class _Lines(logging.Formatter):
    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def _trace(self, record: logging.LogRecord) -> str | None:
        return self._redact(self.formatException(record.exc_info)) if record.exc_info else None


class TextLines(_Lines):
    """`2026-11-25T17:00:00.000Z INFO gateway.worker: batch composed submission=0x12 calls=50`; a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        trace = self._trace(record)
        head = f"{_time(record)} {record.levelname} {record.name}: {self._redact(_words(record))}"
        return head if trace is None else f"{head}\n{trace}"


class JsonLines(_Lines):
    """One JSON object: time, level, logger, event, the event's fields, and the traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._redact(record.getMessage()),
        }
        for key, value in _fields(record).items():
            plain = value is None or isinstance(value, bool | int | float)
            line.setdefault(key, value if plain else self._redact(str(value)))
        trace = self._trace(record)
        return json.dumps(line if trace is None else line | {"error": trace})


class Recent(logging.Handler):
    """Remembers the last warnings and errors."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(logging.WARNING)
        self._redact = Redactor(secrets)
        self._kept: deque[tuple[str, str, str]] = deque(maxlen=_RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one."""
        self._kept.append((_time(record), record.levelname.lower(), self._redact(_words(record))))

    def newest_first(self) -> list[tuple[str, str, str]]:
        """Return time, level and words of each."""
        return list(reversed(self._kept))


def _words(record: logging.LogRecord) -> str:
    """What happened and its fields, on one line, whatever a client put into it."""
    words = [record.getMessage(), *(f"{key}={value}" for key, value in _fields(record).items())]
    return " ".join(" ".join(words).split())


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    request = REQUEST.get()
    asked = {} if request is None else {"request": request}
    return asked | getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
