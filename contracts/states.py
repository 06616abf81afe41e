"""The states of an encounter and the reasons of a vote, numbered as the contract numbers them."""

from enum import IntEnum


class EncounterState(IntEnum):
    """Where an encounter stands on chain; ``SETTLED`` and ``EXPIRED`` are final."""

    NONE = 0
    LEARNER_CHECKED_IN = 1
    NEIGHBOR_CHECKED_IN = 2
    OPEN = 3
    LEARNER_REPORTED = 4
    NEIGHBOR_REPORTED = 5
    REPORTED = 6
    SETTLED = 7
    EXPIRED = 8

    @property
    def final(self) -> bool:
        """No transaction moves the encounter any more."""
        return self in (EncounterState.SETTLED, EncounterState.EXPIRED)


class ActionKind(IntEnum):
    """What an account asks for by signature."""

    STAKE = 0
    UNBOND = 1
    WITHDRAW = 2
    REGISTER = 3
    LEAVE = 4


class VoteReason(IntEnum):
    """Why a validator votes as it does.

    A withheld previous model is the Learner's fault and counts as valid; a withheld or malformed updated
    model is the Neighbor's fault and counts as invalid.
    """

    ACCURACY = 0
    PREVIOUS_WITHHELD = 1
    UPDATED_WITHHELD = 2
    UPDATED_MALFORMED = 3

    def allows(self, *, valid: bool) -> bool:
        """Whether the contract takes this reason together with the verdict."""
        if valid:
            return self in (VoteReason.ACCURACY, VoteReason.PREVIOUS_WITHHELD)
        return self is not VoteReason.PREVIOUS_WITHHELD
