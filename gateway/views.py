"""What devices see of the chain, derived from stored events. Pure: rows in, JSON values out.

An encounter's view is folded from its events every time it is asked for, so a reorganisation has nothing to
undo but rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.states import EncounterState

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One stored contract event, with the transaction that caused it.

    Attributes:
        number: position in the feed (ascending, never reused).
        block: block number.
        block_time_s: chain time, Unix seconds.
        transaction: hash.
        place: of the call in its batch, 0 in a transaction that is no batch.
        function: Solidity name of the called function (in a batch, of that call), "" if it is none of ours.
        gas: gas used by the transaction; of a batch, its share: the same for each of its calls.
        name: event name.
        encounter: encounter id, where the event has one.
        account: the account the event is about, where it has one.
        args: the event's arguments as JSON values.
    """

    number: int
    block: int
    block_time_s: int
    transaction: str
    place: int = 0
    function: str
    gas: int
    name: str
    encounter: str | None
    account: str | None
    args: Mapping[str, Any]

    def as_json(self) -> Json:
        """The row as the event feed shows it."""
        return {
            "number": self.number,
            "block": self.block,
            "block_time_s": self.block_time_s,
            "transaction": self.transaction,
            "place": self.place,
            "function": self.function,
            "gas": self.gas,
            "name": self.name,
            "encounter": self.encounter,
            "account": self.account,
            "args": dict(self.args),
        }


def encounter_view(
    encounter: str, terms: Json | None, rows: Iterable[EventRow], *, salts: tuple[str, str] | None = None
) -> Json:
    """Fold an encounter's events, oldest first, into its current state.

    Args:
        encounter: its id.
        terms: as a call carried them, if one was seen.
        rows: its events.
        salts: the Learner's and the Neighbor's, if a report revealed them.
    """
    view: Json = {
        "id": encounter,
        "state": EncounterState.NONE.name.lower(),
        "terms": terms,
        "checked_in": [],
        "salts": None if salts is None else list(salts),
        "updated": None,
        "panel": [],
        "vote_by": None,
        "yes": 0,
        "no": 0,
        "votes": [],
        "sealed": [],
        "burned": None,
        "closed_block": None,
    }
    for row in rows:
        view.update(_step(view, terms, row))
    return view


def _step(view: Json, terms: Json | None, row: EventRow) -> Json:
    args = row.args
    match row.name:
        case "CheckedIn":
            is_learner = terms is not None and args["by"] == terms["learner"]
            state = EncounterState.LEARNER_CHECKED_IN if is_learner else EncounterState.NEIGHBOR_CHECKED_IN
            return {"state": state.name.lower(), "checked_in": [*view["checked_in"], args["by"]]}
        case "Opened":
            # Of the second check-in only this is told: the terms name whose it was.
            parties = [] if terms is None else [terms["learner"], terms["neighbor"]]
            there = view["checked_in"]
            others = [one for one in parties if one not in there]
            return {"state": EncounterState.OPEN.name.lower(), "checked_in": [*there, *others]}
        case "Reported":
            is_learner = terms is not None and args["by"] == terms["learner"]
            state = EncounterState.LEARNER_REPORTED if is_learner else EncounterState.NEIGHBOR_REPORTED
            return {"state": state.name.lower(), "updated": args["updated"]}
        case "VotingStarted":
            return {
                "state": EncounterState.REPORTED.name.lower(),
                "updated": args["updated"],
                "panel": args["panel"],
                "vote_by": args["vote_by"],
                "voting_since": row.block_time_s,
            }
        case "VoteCast":
            vote = {"voter": args["voter"], "valid": args["valid"], "reason": args["reason"]}
            count = "yes" if args["valid"] else "no"
            return {count: view[count] + 1, "votes": [*view["votes"], vote]}
        case "VoteSealed":
            return {"sealed": [*view["sealed"], args["voter"]]}
        case "Settled":
            found = {"state": EncounterState.SETTLED.name.lower(), "closed_block": row.block}
            told = ("yes", "no", "burned", "updated")  # the digest, where it was settled in one step
            return found | {key: args[key] for key in told if key in args}
        case "Expired":
            return {"state": EncounterState.EXPIRED.name.lower(), "closed_block": row.block}
        case _:
            return {}


def job_view(
    view: Json, *, validator: str, seat: int, validators: int, standby_delay_s: int, chain_time_s: int
) -> Json | None:
    """Return the voting job of `view` for the validator on `seat`, or None if there is nothing to do.

    `opens_at_s` is when the seat may vote: at once for the first `validators` seats, later for standby seats.
    Nothing is to do without the terms (no transaction seen here carried them), off the panel, after the own
    vote, sealed or not, with all votes in, or when the next block, later than `chain_time_s`, is too late.
    """
    if view["state"] != EncounterState.REPORTED.name.lower() or view["terms"] is None:
        return None
    entered = {vote["voter"] for vote in view["votes"]}.union(view["sealed"])
    if seat not in view["panel"] or validator in entered:
        return None
    if len(entered) >= validators or chain_time_s >= view["vote_by"]:
        return None
    position = view["panel"].index(seat)
    wait_s = standby_delay_s * max(0, position - validators + 1)
    return {
        "encounter": view["id"],
        "terms": view["terms"],
        "updated": view["updated"],
        "panel": view["panel"],
        "position": position,
        "opens_at_s": view["voting_since"] + wait_s,
        "vote_by": view["vote_by"],
    }
