"""The gateway's own account: it pays for the batches in which operations of devices go to the chain."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from contracts.identity import Identity
from gateway.errors import ConfigError, StoreUnavailable


def load_operator(path: Path) -> Identity:
    """Read the operator's key from a file of 64 hex digits, or make one there that nobody else may read.

    Raises `ConfigError` for a file that holds no key, and `StoreUnavailable` if it cannot be read or made.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = _made(path)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(f"cannot read the operator's key {path}: {error}") from error
    try:
        return Identity(bytes.fromhex(text.removeprefix("0x")))
    except ValueError:
        raise ConfigError(f"operator_key: {path} must hold 64 hex digits, a private key") from None


def _made(path: Path) -> str:
    """Make a key; if another process made one at the same moment, theirs counts."""
    text = secrets.token_hex(32)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            return path.read_text(encoding="ascii").strip()
        finally:
            fresh.unlink()
    except OSError as error:
        raise StoreUnavailable(f"cannot make the operator's key {path}: {error.strerror}") from error
    return text
