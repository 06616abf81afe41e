"""What nodes say to a raw transaction, and what it means: one table. Pure.

Nodes agree on no codes, so it is their words that tell. Each row names who says it: "seen" where our tests hear it from
the real program, "source" where it was read in its source code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Outcome(Enum):
    """What a node's answer to a raw transaction says about it."""

    TAKEN = "taken"
    KNOWN = "already known"
    NONCE_USED = "nonce too low"
    """Perhaps by this very transaction: its hash has to be looked up before anything is concluded."""
    UNDERPRICED = "underpriced"
    """The offer is below what the node, the block or the one it is to replace asks."""
    NO_FUNDS = "no funds"
    NONCE_GAP = "nonce too high"
    POOL_FULL = "pool full"
    NEVER = "never valid"
    """By its own content: no node will ever take it."""
    BUSY = "busy"
    """The node (or who stands before it) asks for fewer requests."""
    REFUSED = "refused"
    """It answered no, in words that are not in the table."""
    NO_ANSWER = "no answer"
    """It may or may not have been taken."""

    @property
    def silent(self) -> bool:
        """Whether the next transaction would fare no better now."""
        return self in (Outcome.NO_ANSWER, Outcome.BUSY)

    @property
    def settled(self) -> bool:
        """Whether nothing is wrong with it."""
        return self in (Outcome.TAKEN, Outcome.KNOWN, Outcome.NONCE_USED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """One way in which nodes say something: a pattern, its meaning, and who says it."""

    pattern: re.Pattern[str]
    outcome: Outcome
    who: str


_GETH = "Geth 1.11+, Bor 1+ and Erigon 2+ (source)"
_LOCAL = "Anvil 1.7, Ganache 7.9 and the embedded chain (seen)"
_TABLE = (
    (Outcome.KNOWN, r"already known", f"{_GETH}; the embedded chain (seen)"),
    (Outcome.KNOWN, r"already imported", "Anvil 1.7 (seen)"),
    (Outcome.KNOWN, r"known transaction", "Geth before 1.10, Nethermind (source)"),
    (Outcome.UNDERPRICED, r"transaction underpriced", f"{_GETH}, also as 'replacement ...'; {_LOCAL}"),
    (Outcome.UNDERPRICED, r"gas tip cap \d+, minimum needed", "Geth 1.11+, Bor 1+ (source)"),
    (Outcome.UNDERPRICED, r"could not replace existing tx", "Erigon 2+ (source)"),
    (Outcome.UNDERPRICED, r"less than (the )?block base ?fee", f"{_GETH}; Anvil 1.7 (seen)"),
    (Outcome.NO_FUNDS, r"insufficient funds", f"{_GETH}; {_LOCAL}"),
    (Outcome.NONCE_USED, r"nonce (is )?too low", f"{_GETH}; Anvil 1.7 and the embedded chain (seen)"),
    (Outcome.NONCE_USED, r"the tx doesn't have the correct nonce", "Ganache 7.9 (seen)"),
    (Outcome.NONCE_GAP, r"nonce too high|nonce gap", "Geth with a full queue, Bor 1+ (source)"),
    (Outcome.POOL_FULL, r"txpool is (full|overflowing)|transaction pool is full", "Geth, Bor (source)"),
    (Outcome.NEVER, r"exceeds block gas limit|intrinsic gas too (low|high)", f"{_GETH}; {_LOCAL}"),
    (Outcome.NEVER, r"invalid sender|invalid chain id|incompatible eip-?155", f"{_GETH}; {_LOCAL}"),
    (Outcome.NEVER, r"max priority fee per gas higher than max fee", f"{_GETH}; Anvil 1.7 (seen)"),
    (Outcome.NEVER, r"transaction type not supported|oversized data", "Geth, Bor (source)"),
    (Outcome.BUSY, r"rate limit|too many requests|request count exceeded", "providers of nodes"),
)

SAYINGS: Final = tuple(
    Saying(pattern=re.compile(pattern, re.IGNORECASE), outcome=outcome, who=who) for outcome, pattern, who in _TABLE
)
"""Earlier rows go before later ones."""

_NEEDED: Final = re.compile(r"tip cap \d+, minimum needed (\d{1,30})", re.IGNORECASE)


def meaning(words: str) -> Outcome:
    """Return what a node's words about a transaction mean: `Outcome.REFUSED` if the table does not have them."""
    return next((one.outcome for one in SAYINGS if one.pattern.search(words)), Outcome.REFUSED)


def needed_tip_wei(words: str) -> int:
    """Return the tip that a node says is the least it takes, 0 where it names none."""
    found = _NEEDED.search(words)
    return int(found[1]) if found else 0
