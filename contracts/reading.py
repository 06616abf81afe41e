"""Read the contracts' state through any way to call them (web3 or plain JSON-RPC)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from contracts.settlement import ParameterSet
from contracts.states import EncounterState
from contracts.terms import TERMS_TYPES, Terms

_ACCOUNT = "(uint96,uint96,uint24,uint40,uint96,uint40)"
_ENCOUNTER = "(uint8,uint96,uint40,uint16,uint8,uint8,uint8,bytes32)"
_PARAMETERS = "(uint8,uint16,uint16,uint16,uint32,uint32,bool,bool)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """A participant in the escrow (amounts in token base units).

    Attributes:
        free: usable at once.
        locked: behind encounters and votes.
        seat: validator seat from 1; 0 = none.
        leaving_at: Unix time (s) when it announced that it leaves its seat; 0 = it stays.
        unbonding: on its way out.
        release_at: Unix time (s) when unbonding ends.
    """

    free: int
    locked: int
    seat: int
    leaving_at: int
    unbonding: int
    release_at: int

    @property
    def active(self) -> bool:
        """A validator that stays."""
        return self.seat != 0 and self.leaving_at == 0

    @property
    def total(self) -> int:
        """All the escrow owes to this participant."""
        return self.free + self.locked + self.unbonding


@dataclass(frozen=True, slots=True, kw_only=True)
class EncounterView:
    """An encounter on chain.

    Attributes:
        state: where it stands.
        reward: token base units.
        deadline: Unix time (s): open_by, report_by or the end of voting, whichever comes next.
        parameter_set: number of the rules that apply.
        voted: bit per panel position.
        yes: bit per panel position.
        sealed: bit per panel position.
        record: SHA-256 of the updated snapshot once reported, `contracts.panel.record` from the start of voting; zeros
            before the report and after settlement.
    """

    state: EncounterState
    reward: int
    deadline: int
    parameter_set: int
    voted: int
    yes: int
    sealed: int
    record: bytes

    @property
    def votes(self) -> int:
        """Votes cast so far."""
        return self.voted.bit_count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Where a Learner's encounters opened by signatures stand, one at a time.

    Attributes:
        word: the last nonce in the low 32 bits, and the first 28 bytes of that encounter's id.
        busy: that encounter is still open.
    """

    word: bytes
    busy: bool

    @property
    def nonce(self) -> int:
        """The last nonce; the next one must be greater."""
        return int.from_bytes(self.word[28:], "big")

    def holds(self, encounter: bytes) -> bool:
        """Whether this encounter is open here."""
        return self.busy and self.word[:28] == encounter[:28]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractReader:
    """The views of one deployment.

    Attributes:
        call: executes calldata at an address without a transaction and returns what it returned.
        token: address of the token.
        escrow: address of the escrow.
    """

    call: Callable[[str, bytes], bytes]
    token: str
    escrow: str

    def account(self, who: str) -> AccountView:
        """Balances and seat of a participant."""
        values = self._one(self.escrow, "account(address)", (who,), _ACCOUNT)
        return AccountView(**dict(zip(AccountView.__slots__, values, strict=True)))

    def encounter(self, encounter: bytes) -> EncounterView:
        """Where an encounter stands."""
        state, *rest = self._one(self.escrow, "encounter(bytes32)", (encounter,), _ENCOUNTER)
        named = dict(zip(EncounterView.__slots__[1:], rest, strict=True))
        return EncounterView(state=EncounterState(state), **named)

    def lane(self, learner: str, number: int) -> Lane:
        """A lane of a Learner's, by number or by a nonce in it."""
        word, busy = self._many(self.escrow, "lane(address,uint8)", (learner, number & 7), ("bytes32", "bool"))
        return Lane(word=bytes(word), busy=busy)

    def is_used(self, who: str, nonce: int, *, at_token: bool = False) -> bool:
        """Whether an account has used a nonce for a step of its own: in the escrow, or for an exchange at the token."""
        to = self.token if at_token else self.escrow
        return bool(self._one(to, "isUsed(address,uint32)", (who, nonce), "bool"))

    def parameter_set(self, number: int) -> ParameterSet:
        """A set of rules."""
        values = self._one(self.escrow, "parameterSet(uint16)", (number,), _PARAMETERS)
        return ParameterSet(**dict(zip(ParameterSet.__slots__, values, strict=True)))

    def parameter_set_count(self) -> int:
        """How many sets there are, numbered from 0."""
        return int(self._one(self.escrow, "parameterSetCount()", (), "uint256"))

    def seat_count(self) -> int:
        """Seats ever taken, numbered from 1."""
        return int(self._one(self.escrow, "seatCount()", (), "uint256"))

    def seat_owner(self, seat: int) -> str:
        """Who holds or held a seat; the zero address for none."""
        return to_checksum_address(self._one(self.escrow, "seatOwner(uint24)", (seat,), "address"))

    def is_taken(self, seat: int) -> bool:
        """Whether somebody holds a seat, so that it may be drawn."""
        return bool(self._one(self.escrow, "isTaken(uint24)", (seat,), "bool"))

    def encounter_id(self, terms: Terms) -> bytes:
        """The id as the contract computes it; `contracts.terms.encounter_id` needs no chain."""
        signature = f"encounterId(({','.join(TERMS_TYPES)}))"
        return bytes(self._one(self.escrow, signature, (terms.as_tuple(),), "bytes32"))

    def min_stake(self) -> int:
        """Free token base units below which no new role can be taken."""
        return int(self._one(self.escrow, "minStake()", (), "uint96"))

    def unbonding_period_s(self) -> int:
        """Seconds from unbonding to withdrawing."""
        return int(self._one(self.escrow, "unbondingPeriod()", (), "uint40"))

    def max_life_s(self) -> int:
        """Longest time from a check-in to report_by."""
        return int(self._one(self.escrow, "maxLife()", (), "uint40"))

    def pending_fines(self) -> int:
        """Token base units collected and not yet destroyed."""
        return int(self._one(self.escrow, "pendingFines()", (), "uint256"))

    def escrow_token(self) -> str:
        """The token the escrow works with."""
        return to_checksum_address(self._one(self.escrow, "token()", (), "address"))

    def escrow_owner(self) -> str:
        """Who may add parameter sets."""
        return to_checksum_address(self._one(self.escrow, "owner()", (), "address"))

    def balance_of(self, who: str) -> int:
        """Token base units in a wallet."""
        return int(self._one(self.token, "balanceOf(address)", (who,), "uint256"))

    def permit_nonce(self, who: str) -> int:
        """The nonce of an owner's next permit (ERC-2612)."""
        return int(self._one(self.token, "nonces(address)", (who,), "uint256"))

    def allowance(self, owner: str, spender: str) -> int:
        """Token base units a spender may move."""
        return int(self._one(self.token, "allowance(address,address)", (owner, spender), "uint256"))

    def total_supply(self) -> int:
        """Token base units in existence."""
        return int(self._one(self.token, "totalSupply()", (), "uint256"))

    def rate(self) -> int:
        """Token base units per wei."""
        return int(self._one(self.token, "RATE()", (), "uint256"))

    def _one(self, to: str, signature: str, values: tuple[object, ...], returns: str) -> Any:
        return self._many(to, signature, values, (returns,))[0]

    def _many(self, to: str, signature: str, values: tuple[object, ...], returns: tuple[str, ...]) -> tuple[Any, ...]:
        inner = signature[signature.index("(") + 1 : -1]
        types = [] if not inner else [inner] if inner.startswith("(") else inner.split(",")
        data = keccak(signature.encode())[:4] + abi_encode(types, values)
        return abi_decode(returns, self.call(to, data))
