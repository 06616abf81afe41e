"""A short soak passes; and its audit would notice what it is there to notice."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from soak import soak
from soak_audit import violations

ENCOUNTERS = 30


def noticed(seen: dict[str, Any], **changes: Any) -> list[str]:
    return [*violations(**seen | changes)]


def audit(**seen: Any) -> Iterator[str]:
    """The audit, and audits of tampered books beside it."""
    yield from violations(**seen)
    key, *_ = seen["book"].encounters

    book = deepcopy(seen["book"])
    book.encounters[key] = replace(book.encounters[key], verdicts=(False, True, False))
    assert noticed(seen, book=book) != []

    book = deepcopy(seen["book"])
    voter, valid = next(iter(book.cast[key].items()))
    book.cast[key][voter] = not valid
    assert any("the model says" in words for words in noticed(seen, book=book))

    book = deepcopy(seen["book"])
    book.encounters["0x" + "00" * 32] = book.encounters[key]
    book.cast["0x" + "00" * 32] = book.cast[key]
    assert any("was opened 0 times" in words for words in noticed(seen, book=book))

    for key in (seen["book"].operations[0], *list(seen["book"].transactions)[:1]):
        for state in ("broadcast", "superseded"):
            told = seen["told"] | {key: seen["told"][key] | {"state": state}}
            assert any(key in words for words in noticed(seen, told=told))

    other = seen["book"].encounters[next(iter(seen["book"].encounters))].learner.address
    assert any("nonces" in words for words in noticed(seen, operator=other))


@pytest.mark.chain
def test_a_short_soak(tmp_path: Path) -> None:
    assert soak(seed=1, encounters=ENCOUNTERS, folder=tmp_path, audit=audit) == []
