"""The encounters under way, in the database: which are open, which are voted on, at which the keeper has to look."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gateway.records import Block, NewEvent
from gateway.tables import ENCOUNTERS

_ENDS = ("Settled", "Expired")


GRACE_S: Final = 60
"""Chain time for which those whom an encounter concerns may end it themselves, before the keeper does."""


def tell_encounter(db: Connection, event: NewEvent, block: Block) -> None:
    """Take in what an event of a block says about its encounter."""
    key = event.encounter
    if db.execute(sa.select(ENCOUNTERS.c.block).where(ENCOUNTERS.c.encounter == key)).first() is None:
        db.execute(sa.insert(ENCOUNTERS).values(encounter=key, block=block.number, look_at_s=0))
    values: dict[str, int] = {"look_at_s": block.time_s + GRACE_S}
    if event.name == "VotingStarted":
        values |= {"voting_block": block.number, "vote_by_s": event.args["vote_by"]}
    elif event.name in _ENDS:
        values |= {"closed_block": block.number}
    db.execute(sa.update(ENCOUNTERS).where(ENCOUNTERS.c.encounter == key).values(values))


def rewind_encounters(db: Connection, last_good: int) -> None:
    """Take back what blocks above `last_good` told."""
    db.execute(sa.delete(ENCOUNTERS).where(ENCOUNTERS.c.block > last_good))
    db.execute(
        sa.update(ENCOUNTERS)
        .where(ENCOUNTERS.c.voting_block > last_good)
        .values(voting_block=None, vote_by_s=None, look_at_s=0)
    )
    db.execute(
        sa.update(ENCOUNTERS).where(ENCOUNTERS.c.closed_block > last_good).values(closed_block=None, look_at_s=0)
    )
