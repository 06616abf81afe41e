"""One exception per custom error of the contracts; the message says what to do.

Each class names its error as Solidity does; `ContractRevert.values` holds the arguments by name.
"""

from typing import ClassVar, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from contracts.errors import ContractRevert
from contracts.states import EncounterState

_BY_SELECTOR: Final[dict[bytes, type["CustomError"]]] = {}

Value = int | str | bytes | bool
"""A decoded argument."""


class CustomError(ContractRevert):
    """A revert with a known selector.

    Attributes:
        parameters: ``type name`` of each argument, in ABI order.
        advice: the message, with the arguments' names in braces.
        values: the decoded arguments.
    """

    parameters: ClassVar[str]
    advice: ClassVar[str]

    def __init_subclass__(cls) -> None:
        _BY_SELECTOR[cls.selector()] = cls

    def __init__(self, **values: Value) -> None:
        shown = {name: _show(name, value) for name, value in values.items()}
        super().__init__(f"{type(self).__name__}: {self.advice.format(**shown)}")
        self.values = values

    @classmethod
    def types(cls) -> tuple[str, ...]:
        """The ABI types of the arguments."""
        return tuple(one.split()[0] for one in cls.parameters.split(", ") if one)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the arguments."""
        return tuple(one.split()[1] for one in cls.parameters.split(", ") if one)

    @classmethod
    def signature(cls) -> str:
        """The canonical Solidity signature."""
        return f"{cls.__name__}({','.join(cls.types())})"

    @classmethod
    def selector(cls) -> bytes:
        """The first four bytes of the revert data."""
        return keccak(cls.signature().encode())[:4]


class UnknownRevert(ContractRevert):
    """Revert data that no contract of ours writes."""


class OutOfGas(ContractRevert):
    """A revert without data: mostly too little gas, or a call to an address without code."""


def decode(data: bytes) -> ContractRevert:
    """See `contracts.errors.decode_revert`."""
    if not data:
        return OutOfGas("reverted without a reason: raise the gas limit, and check the contract's address")
    kind = _BY_SELECTOR.get(bytes(data[:4]))
    if kind is None:
        return UnknownRevert(f"reverted with unknown data 0x{data[:68].hex()}: check the contract's version")
    try:
        values = abi_decode(kind.types(), bytes(data[4:]))
    except (DecodingError, ValueError, OverflowError):
        return UnknownRevert(f"reverted with cut data 0x{data[:68].hex()}: ask the node again")
    return kind(**dict(zip(kind.names(), values, strict=True)))


def _show(name: str, value: Value) -> str:
    if isinstance(value, bytes):
        if name == "name":
            return value.rstrip(b"\0").decode("ascii", "replace")
        return str(decode(value)) if name == "reason" else "0x" + value.hex()
    if name == "state" and value in [int(one) for one in EncounterState]:
        return EncounterState(value).name
    return str(value)


# The escrow, about encounters


class WrongState(CustomError):
    """The encounter is in another state than the call needs."""

    parameters = "bytes32 encounter, uint8 state"
    advice = "encounter {encounter} is {state}: this step is done or not due; read the state and go on from there"


class NotOpen(CustomError):
    """No lane of the Learner's holds this encounter."""

    parameters = "bytes32 encounter"
    advice = "{encounter} is not open by signatures: it is not opened yet, or over; read its lane and state"


class LaneBusy(CustomError):
    """One encounter per lane at a time."""

    parameters = "address learner, uint32 nonce"
    advice = (
        "the lane of nonce {nonce} of {learner} is busy: end that encounter first, or take another of the eight lanes"
    )


class NonceUsed(CustomError):
    """A nonce serves once."""

    parameters = "address account, uint32 nonce"
    advice = "{account} has used nonce {nonce}: this step is done, or take another nonce (a larger one in a lane)"


class WrongDoor(CustomError):
    """Terms with a nonce are for the signed door, others for the direct one."""

    parameters = "uint32 nonce"
    advice = "terms with nonce {nonce} do not go through this door: nonce 0 is for checkIn, any other for openSigned"


class BadSignature(CustomError):
    """No key made this signature, or it is malleable."""

    parameters = "bytes32 digest"
    advice = "no key signed {digest}: sign again, with s in the lower half"


class WrongSigner(CustomError):
    """Somebody else signed, or something else was signed."""

    parameters = "address expected, address signer"
    advice = "signed by {signer} instead of {expected}: sign exactly this step, for this chain and contract"


class EvidenceLength(CustomError):
    """Signatures and ballots do not add up."""

    parameters = "uint256 length, uint256 expected"
    advice = (
        "{length} bytes of signatures and ballots instead of {expected}: to report give both signatures (zeros for a "
        "silent Learner), to settle one and a ballot for each of the first V seats"
    )


class VotesAreSealed(CustomError):
    """The parameter set wants sealed votes."""

    parameters = "bytes32 encounter"
    advice = "votes on {encounter} are sealed: use seal and reveal"


class VotesAreOpen(CustomError):
    """The parameter set wants open votes."""

    parameters = "bytes32 encounter"
    advice = "votes on {encounter} are not sealed: use vote"


class NotSealed(CustomError):
    """There is nothing to open."""

    parameters = "bytes32 encounter, uint8 position"
    advice = "position {position} of {encounter} holds no sealed vote: it was opened already, or never sealed"


class SealMismatch(CustomError):
    """Something else was sealed here, or by another voter."""

    parameters = "bytes32 encounter, uint8 position"
    advice = (
        "this is not what position {position} of {encounter} sealed: open it with its own voter, verdict, "
        "reason and salt"
    )


class NotLeaving(CustomError):
    """A validator that stays."""

    parameters = "address account"
    advice = "{account} has not announced that it leaves a seat: only who called leaveValidator can be dismissed"


class PermitFailed(CustomError):
    """The token refused a permit, and nothing is allowed yet."""

    parameters = "address owner, bytes reason"
    advice = "the permit of {owner} was refused ({reason}): sign a new one for this amount"


class NotParty(CustomError):
    """The caller is neither Learner nor Neighbor."""

    parameters = "bytes32 encounter, address caller"
    advice = "{caller} is neither Learner nor Neighbor of {encounter}: sign with the key named in the terms"


class SameParty(CustomError):
    """Learner and Neighbor are one."""

    parameters = "address party"
    advice = "{party} cannot meet itself: name two different addresses"


class DeadlineOrder(CustomError):
    """Deadlines in the wrong order."""

    parameters = "uint40 openBy, uint40 reportBy"
    advice = "reportBy {reportBy} must be later than openBy {openBy}: agree on new terms"


class DeadlinePassed(CustomError):
    """Too late."""

    parameters = "uint40 deadline, uint256 time"
    advice = (
        "the deadline {deadline} passed (chain time {time}): expire or finalise the encounter instead; sign "
        "new terms or a new action with a later deadline"
    )


class TooEarly(CustomError):
    """Too soon."""

    parameters = "uint40 notBefore, uint256 time"
    advice = "not before {notBefore} (chain time {time}): send it again then"


class LifeTooLong(CustomError):
    """The encounter would outlive the unbonding time."""

    parameters = "uint40 reportBy, uint256 latest"
    advice = "reportBy {reportBy} is later than {latest}: agree on terms with an earlier deadline"


class UnknownParameterSet(CustomError):
    """No such parameter set."""

    parameters = "uint16 number"
    advice = "there is no parameter set {number}: name one the contract has"


class RetiredParameterSet(CustomError):
    """The parameter set takes no new encounters."""

    parameters = "uint16 number"
    advice = "parameter set {number} is retired: agree on terms with a current one"


class BelowMinStake(CustomError):
    """Too little free stake to take a role."""

    parameters = "uint96 free, uint96 minStake"
    advice = (
        "stake {free} is below the minimum {minStake}: stake more before taking a role; a validator leaves its seat "
        "before it unbonds that much"
    )


class InsufficientFree(CustomError):
    """Too little free stake for this amount."""

    parameters = "uint96 free, uint256 needed"
    advice = "free stake {free} does not cover {needed}: stake more, or wait until locks return"


class SaltMismatch(CustomError):
    """The revealed salts are not the committed ones."""

    parameters = "bytes32 committed, bytes32 given"
    advice = "the salts hash to {given} instead of {committed}: report the salts exchanged for these terms"


class DigestMismatch(CustomError):
    """The digest, or the panel, is not the one reported."""

    parameters = "bytes32 reported, bytes32 given"
    advice = (
        "reported is {reported}, not {given} (a hash of model and panel, once voting has started): take part with the "
        "model and the panel that the events name, or not at all"
    )


class NotOnPanel(CustomError):
    """The caller, or who signed, does not hold the seat at this position."""

    parameters = "bytes32 encounter, uint8 position, address caller"
    advice = (
        "{caller} does not hold position {position} of the panel of {encounter}: vote at your own position only; to "
        "settle, give the ballots on this encounter and model in the order of the panel"
    )


class AlreadyVoted(CustomError):
    """This position has voted."""

    parameters = "bytes32 encounter, uint8 position"
    advice = "position {position} of {encounter} has voted already: nothing to do"


class VotesComplete(CustomError):
    """All votes are in."""

    parameters = "bytes32 encounter, uint8 votes"
    advice = "{encounter} has its {votes} votes: finalise it"


class VotesMissing(CustomError):
    """Voting goes on."""

    parameters = "uint8 votes, uint8 needed, uint40 voteBy"
    advice = "{votes} of {needed} votes are in: finalise when they are, or after {voteBy}"


class BadReason(CustomError):
    """Verdict and reason contradict each other."""

    parameters = "bool valid, uint8 reason"
    advice = "reason {reason} does not go with valid = {valid}: see VoteReason"


# The escrow, about accounts, seats and parameters


class ZeroAmount(CustomError):
    """Nothing to move."""

    parameters = ""
    advice = "the amount is zero: give a positive one"


class NothingUnbonding(CustomError):
    """Nothing to withdraw."""

    parameters = "address account"
    advice = "{account} has nothing unbonding: call unbond first"


class StillUnbonding(CustomError):
    """Unbonding is not over."""

    parameters = "uint40 releaseAt, uint256 time"
    advice = "unbonding ends at {releaseAt} (chain time {time}): withdraw then"


class AlreadyValidator(CustomError):
    """Registered already."""

    parameters = "uint24 seat"
    advice = "already a validator on seat {seat}: nothing to do"


class NotValidator(CustomError):
    """No seat to leave."""

    parameters = "address account"
    advice = "{account} holds no seat, or is leaving it already: nothing to do"


class SeatsFull(CustomError):
    """No seat is left."""

    parameters = "uint256 seats"
    advice = "all {seats} seats are taken: deploy a new escrow"


class ParameterOutOfRange(CustomError):
    """A parameter the contract does not accept."""

    parameters = "bytes32 name, uint256 value"
    advice = "{name} cannot be {value}: see Terms, ParameterSet and Action in IIdmlEscrow for what it may be"


class NothingToBurn(CustomError):
    """No fines pending."""

    parameters = ""
    advice = "no fines are pending: nothing to do"


# The token


class PaymentRefused(CustomError):
    """The seller's address took no coin."""

    parameters = "address to, uint256 value"
    advice = "{to} refused {value} wei: sell from an address that accepts the native coin"


class NotRedeemable(CustomError):
    """Only whole wei can be paid back."""

    parameters = "uint256 amount, uint256 rate"
    advice = "{amount} is not a positive multiple of {rate}: sell a multiple"


class SupplyExceeded(CustomError):
    """No more tokens can exist."""

    parameters = "uint256 supply, uint256 maximum"
    advice = "the supply {supply} would pass {maximum}: buy fewer tokens"


# From OpenZeppelin


class ERC20InsufficientBalance(CustomError):
    """Too few tokens."""

    parameters = "address sender, uint256 balance, uint256 needed"
    advice = "{sender} has {balance} tokens, not {needed}: buy more"


class ERC20InsufficientAllowance(CustomError):
    """Too little approved."""

    parameters = "address spender, uint256 allowance, uint256 needed"
    advice = "{spender} may move {allowance} tokens, not {needed}: approve it first"


class ERC20InvalidSender(CustomError):
    """Tokens from nobody."""

    parameters = "address sender"
    advice = "{sender} cannot send tokens: check the address"


class ERC20InvalidReceiver(CustomError):
    """Tokens to nobody."""

    parameters = "address receiver"
    advice = "{receiver} cannot receive tokens: check the address"


class ERC20InvalidApprover(CustomError):
    """Approval by nobody."""

    parameters = "address approver"
    advice = "{approver} cannot approve: check the address"


class ERC20InvalidSpender(CustomError):
    """Approval for nobody."""

    parameters = "address spender"
    advice = "{spender} cannot be approved: check the address"


class ERC2612ExpiredSignature(CustomError):
    """A permit came too late."""

    parameters = "uint256 deadline"
    advice = "the permit ended at {deadline}: sign a new one"


class ERC2612InvalidSigner(CustomError):
    """A permit by another key."""

    parameters = "address signer, address owner"
    advice = "the permit of {owner} was signed by {signer}: sign it with the owner's key, chain and nonce"


class InvalidAccountNonce(CustomError):
    """A nonce out of order."""

    parameters = "address account, uint256 currentNonce"
    advice = "the next nonce of {account} is {currentNonce}: sign again with it"


class ECDSAInvalidSignature(CustomError):
    """No key made this signature."""

    parameters = ""
    advice = "the signature is invalid: sign again"


class ECDSAInvalidSignatureLength(CustomError):
    """A signature of a wrong length."""

    parameters = "uint256 length"
    advice = "a signature has 65 bytes, not {length}: sign again"


class ECDSAInvalidSignatureS(CustomError):
    """A malleable signature."""

    parameters = "bytes32 s"
    advice = "the signature's s {s} is in the upper half: sign with a current library"


class OwnableUnauthorizedAccount(CustomError):
    """Not the owner."""

    parameters = "address account"
    advice = "{account} is not the owner: only the owner adds or retires parameter sets"


class OwnableInvalidOwner(CustomError):
    """An impossible owner."""

    parameters = "address owner"
    advice = "{owner} cannot own the contract: name another owner"


class SafeERC20FailedOperation(CustomError):
    """The token moved nothing."""

    parameters = "address token"
    advice = "the token {token} did not move: check that the escrow was deployed with an ERC-20 token"


class InvalidShortString(CustomError):
    """A name of the contract is broken."""

    parameters = ""
    advice = "the contract stores a broken string: it is not ours"


class StringTooLong(CustomError):
    """A name of the contract is too long."""

    parameters = "string str"
    advice = "{str} is longer than 31 bytes: take a shorter name"


class Error(CustomError):
    """A plain reason (Solidity's ``require``)."""

    parameters = "string reason"
    advice = "{reason}"


class Panic(CustomError):
    """A check of the compiler failed: a fault of the contract."""

    parameters = "uint256 code"
    advice = "panic code {code}: report this as a fault of the contract"
