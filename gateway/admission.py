"""Whether there is room for a piece of work, once it is known whose it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Admit: TypeAlias = Callable[[str | None, bool], None]
"""Told the account that signed a piece of work (None: nobody has proved to) and whether it is new; raises `Refusal`."""


def admit_anyone(_account: str | None, _new: bool) -> None:
    """Admit everything."""
