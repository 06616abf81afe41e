"""What an agent tells whoever runs it: one record per thing worth knowing, never a secret."""

from __future__ import annotations

from typing import Protocol


class Observe(Protocol):
    """Takes a named observation; must not block and must not raise."""

    def __call__(self, name: str, **fields: object) -> None:
        """Take one observation with JSON-able fields."""
        ...
