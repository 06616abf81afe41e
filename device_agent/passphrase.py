"""Where the passphrase of a keystore comes from: a file that is named, systemd, or whoever sits at the terminal.

Never the command line or the environment: other users and child processes see those.
"""

from __future__ import annotations

import getpass
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from device_agent.errors import PassphraseFault

CREDENTIAL: Final = "idml-passphrase"
"""Name of the systemd credential (`LoadCredentialEncrypted=idml-passphrase:...`)."""
MAX_BYTES: Final = 1024

Ask = Callable[[str], str]
"""Shows a prompt and returns the line that was typed. Raises EOFError."""


def obtain(
    label: str,
    *,
    file: Path | None,
    option: str,
    new: bool = False,
    credentials: str | None = None,
    ask: Ask | None = None,
) -> str:
    """Return a passphrase from the first source there is.

    Args:
        label: what it is for, as the prompt says it.
        file: one that was named; its first line counts.
        option: how that would have been named.
        new: ask twice, so that nobody locks keys away by a slip.
        credentials: folder of systemd's credentials, if they count here.
        ask: the terminal, if there is one.

    Raises `PassphraseFault` if there is no source, or what it gives cannot be used.
    """
    if file is not None:
        return _from_file(file, guarded=True)
    if credentials and (given := Path(credentials) / CREDENTIAL).exists():
        return _from_file(given, guarded=False)
    if ask is None:
        others = f", or the systemd credential {CREDENTIAL}" if credentials is not None else ""
        raise PassphraseFault(f"no {label}: there is no terminal to ask at; give {option} FILE{others}")
    return _asked(label, ask, new=new)


def credentials_of(environ: Mapping[str, str]) -> str:
    """Return the folder of systemd's credentials, "" where there is none."""
    return environ.get("CREDENTIALS_DIRECTORY", "")


def terminal() -> Ask | None:
    """Return who asks at this process's terminal, None if it has none: getpass would show what is typed then."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None
    return getpass.getpass


def _from_file(path: Path, *, guarded: bool) -> str:
    """Read the first line of a file.

    systemd guards its credentials by access lists, which look like a group's rights: they are not checked.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if guarded and mode & 0o077:
                raise PassphraseFault(f"{path}: others may read or write it (mode {mode:04o}): `chmod 600` it")
            line = file.readline(MAX_BYTES + 2)
    except OSError as error:
        raise PassphraseFault(f"{path}: the passphrase cannot be read: {error.strerror}") from error
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise PassphraseFault(f"{path}: the passphrase is not UTF-8") from None
    return _usable(text, str(path))


def _asked(label: str, ask: Ask, *, new: bool) -> str:
    try:
        text = _usable(ask(f"{label}: "), label)
        if new and ask(f"{label}, again: ") != text:
            raise PassphraseFault(f"{label}: it was typed in two ways: try again")
    except EOFError:
        raise PassphraseFault(f"{label}: nothing was typed") from None
    return text


def _usable(text: str, where: str) -> str:
    if not text:
        raise PassphraseFault(f"{where}: an empty passphrase protects nothing: choose another one")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise PassphraseFault(f"{where}: the passphrase is not UTF-8") from None
    if length > MAX_BYTES:
        raise PassphraseFault(f"{where}: a passphrase has at most {MAX_BYTES} bytes")
    return text
