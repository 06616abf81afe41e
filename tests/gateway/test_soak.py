"""A short soak passes; and its audit would notice what it is there to notice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from soak import soak
from soak_audit import violations

ENCOUNTERS = 20


def noticed(seen: dict[str, Any], **changes: Any) -> list[str]:
    return [*violations(**seen | changes)]


def audit(**seen: Any) -> Iterator[str]:
    """The audit, and audits of tampered books beside it."""
    yield from violations(**seen)
    book = seen["book"]
    key, played = next(iter(book.encounters.items()))
    cast = book.cast[key]

    turned = replace(played, verdicts=tuple(not valid for valid in played.verdicts))
    found = noticed(seen, book=replace(book, encounters=book.encounters | {key: turned}))
    assert any(f"{key} was settled" in words for words in found)

    other_vote = {voter: valid is (place > 0) for place, (voter, valid) in enumerate(cast.items())}
    found = noticed(seen, book=replace(book, cast=book.cast | {key: other_vote}))
    assert any("the model says" in words for words in found)

    never = "0x" + "00" * 32
    more = replace(book, encounters=book.encounters | {never: played}, cast=book.cast | {never: cast})
    assert any(f"{never} was opened 0 times" in words for words in noticed(seen, book=more))

    for key in (book.operations[0], next(iter(book.transactions))):
        for state in {"broadcast", "superseded"} - {seen["told"][key]["state"]}:
            told = seen["told"] | {key: seen["told"][key] | {"state": state}}
            assert any(key in words for words in noticed(seen, told=told))

    found = noticed(seen, operator=played.learner.address)
    assert any("the operator used" in words for words in found)


@pytest.mark.chain
def test_a_short_soak(tmp_path: Path) -> None:
    assert soak(seed=1, encounters=ENCOUNTERS, folder=tmp_path, audit=audit) == []
