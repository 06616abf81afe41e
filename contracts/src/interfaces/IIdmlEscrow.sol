// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IIdmlToken} from "./IIdmlToken.sol";

/// @title The incentive contract of decentralised learning
/// @notice Holds stakes, locks them while two devices learn, lets drawn validators judge the result, and pays (iDML steps 0, 1,
/// 3, 5, 6 and 7). Amounts are token base units, times are Unix seconds.
///
/// States of an encounter:
///
///     None -> LearnerCheckedIn | NeighborCheckedIn -> Open -> LearnerReported | NeighborReported -> Reported -> Settled
///
/// and Expired from a half check-in after openBy, and from Open or LearnerReported after reportBy. Every function accepts exactly
/// one situation, so that a transaction executed twice has one effect: the second execution reverts.
///
/// Two doors lead through every step. Direct: each device sends its own transactions (checkIn, report, vote, finalise). Signed: the
/// devices sign EIP-712 messages and anyone sends them, many at once with `batch`: `openSigned` takes both check-ins, and `settle` takes
/// report, votes and payment together, if the first V seats of the panel have all voted. Whatever does not fit that (an absent
/// validator, a silent Learner, sealed votes) goes step by step: reportSigned, voteSigned or sealSigned, finalise. Terms with nonce 0
/// are for the direct door; with another nonce for the signed one, whose encounters are a word in a lane of
/// the Learner's until a step needs more.
///
/// A deadline is the last second at which the step is still taken; exits open one second later.
///
/// Rounding: what is paid out rounds down, what is taken rounds up, and the difference is burned (in case 1 it returns to the
/// Learner).
///
/// Assumptions: the token is IdmlToken (moves exactly the amount asked, never calls back, supply below 2^96). Nobody has power
/// over money: the owner only appends parameter sets and retires them for encounters that have not started.
interface IIdmlEscrow {
    /// @notice Where an encounter stands; Settled and Expired are final.
    enum State {
        None,
        LearnerCheckedIn,
        NeighborCheckedIn,
        Open,
        LearnerReported,
        NeighborReported,
        Reported,
        Settled,
        Expired
    }

    /// @notice Why a validator votes as it does. Valid: Accuracy or PreviousWithheld (the Learner's fault, the Neighbor is paid).
    /// Invalid: Accuracy, UpdatedWithheld or UpdatedMalformed (the Neighbor's fault).
    enum Reason {
        Accuracy,
        PreviousWithheld,
        UpdatedWithheld,
        UpdatedMalformed
    }

    /// @notice What an account asks for by signature.
    enum ActionKind {
        Stake,
        Unbond,
        Withdraw,
        Register,
        Leave
    }

    /// @notice A signed step of an account, which anyone may send. EIP-712 type "Action".
    /// @param account who signs
    /// @param kind see ActionKind
    /// @param amount token base units, for Stake and Unbond
    /// @param nonce any number this account has not used yet for a step of its own
    /// @param deadline until when it may be sent
    struct Action {
        address account;
        uint8 kind;
        uint96 amount;
        uint32 nonce;
        uint40 deadline;
    }

    /// @notice What both sides agree on. The encounter id is the EIP-712 hash of it.
    /// @param learner who benefits and pays
    /// @param neighbor who works
    /// @param algorithm name of the learning algorithm, ASCII padded with zeros
    /// @param architecture SHA-256 of the trusted ONNX graph
    /// @param previous SHA-256 of the Learner's snapshot before the encounter
    /// @param reward prepaid by the Learner; the Neighbor locks as much
    /// @param toleranceBps accuracy that may be lost in normal fluctuation, in 1/10,000
    /// @param parameterSet number of the rules that apply
    /// @param openBy until when the second side may check in
    /// @param reportBy until when results may be reported
    /// @param salts keccak256 of two words: the keccak256 of the Learner's 32-byte salt, and that of the Neighbor's
    /// @param seats validator seats that take part in the draw, 1 to seats: seatCount when the terms were made
    /// @param nonce 0 for the direct door; else its low three bits name one of the Learner's eight lanes, each of which takes one
    /// encounter at a time and only growing nonces
    struct Terms {
        address learner;
        address neighbor;
        bytes32 algorithm;
        bytes32 architecture;
        bytes32 previous;
        uint96 reward;
        uint16 toleranceBps;
        uint16 parameterSet;
        uint40 openBy;
        uint40 reportBy;
        bytes32 salts;
        uint24 seats;
        uint32 nonce;
    }

    /// @notice A set of rules. Append-only; encounters name one by number, so it never changes under them.
    /// @param validators V, votes that decide: 1 to 7
    /// @param pnBps p_n, the Neighbor's share of the reward in 1/10,000; the validators' share is p_v = 1 - p_n
    /// @param qBps q, the share of a Neighbor's fine that goes to the validators who voted no
    /// @param bondBps a voter's bond as a share of the reward: p_v to 1
    /// @param standbyDelay each further standby seat may vote this much later
    /// @param voteTime from the start of voting to its end; in sealed voting also the time for opening the votes
    /// @param sealedVotes votes are sealed first and opened when no more can come
    /// @param retired no new encounters
    struct ParameterSet {
        uint8 validators;
        uint16 pnBps;
        uint16 qBps;
        uint16 bondBps;
        uint32 standbyDelay;
        uint32 voteTime;
        bool sealedVotes;
        bool retired;
    }

    /// @notice A participant's balances and seat.
    /// @param free usable at once
    /// @param locked behind encounters and votes
    /// @param seat validator seat from 1; 0 = none
    /// @param leavingAt when it announced that it leaves its seat; 0 = it stays
    /// @param unbonding on its way out
    /// @param releaseAt when unbonding ends
    struct AccountView {
        uint96 free;
        uint96 locked;
        uint24 seat;
        uint40 leavingAt;
        uint96 unbonding;
        uint40 releaseAt;
    }

    /// @notice Where an encounter stands that is in storage.
    /// @param state see State
    /// @param reward from its terms
    /// @param deadline openBy, reportBy or the end of voting, whichever comes next
    /// @param parameterSet from its terms
    /// @param voted bit per panel position: has voted
    /// @param yes bit per panel position: voted valid
    /// @param sealed_ bit per panel position: has sealed its vote
    /// @param record SHA-256 of the updated snapshot, once reported; keccak256(abi.encode(it, panel)) from the start of voting; zero
    /// after settlement
    struct EncounterView {
        State state;
        uint96 reward;
        uint40 deadline;
        uint16 parameterSet;
        uint8 voted;
        uint8 yes;
        uint8 sealed_;
        bytes32 record;
    }

    /// @notice Tokens entered; free is the balance afterwards.
    event Staked(address indexed account, uint96 amount, uint96 free);
    /// @notice Unbonding began; total unbonds now, all of it released at releaseAt.
    event Unbonding(address indexed account, uint96 amount, uint96 total, uint40 releaseAt);
    /// @notice Tokens left.
    event Withdrawn(address indexed account, uint96 amount);
    /// @notice It holds this seat: a new one, or its own, whose announcement it took back.
    event ValidatorRegistered(address indexed validator, uint24 seat);
    /// @notice It will leave; it is still drawn for one unbonding period.
    event ValidatorLeft(address indexed validator, uint24 seat);
    /// @notice The seat is empty for good: its holder left, or lost its stake.
    event SeatVacated(address indexed validator, uint24 seat);
    /// @notice A call of a batch was not done; reason is its revert data.
    event Skipped(uint256 indexed index, bytes reason);
    /// @notice The first side locked its amount.
    event CheckedIn(bytes32 indexed encounter, address indexed by);
    /// @notice Both sides are in: learning may start.
    event Opened(bytes32 indexed encounter);
    /// @notice One side reported and the other has not yet.
    event Reported(bytes32 indexed encounter, address indexed by, bytes32 updated);
    /// @notice The Learner's report is void: the Neighbor reported another digest.
    event ReportVoided(bytes32 indexed encounter, bytes32 updated);
    /// @notice Votes are taken until voteBy. panel: seats of 24 bits each, position 0 in the lowest bits.
    event VotingStarted(bytes32 indexed encounter, bytes32 updated, uint192 panel, uint40 voteBy);
    /// @notice A position of the panel voted, or opened its sealed vote.
    event VoteCast(bytes32 indexed encounter, address indexed voter, bool valid, uint8 reason);
    /// @notice A position of the panel sealed its vote.
    event VoteSealed(bytes32 indexed encounter, address indexed voter, bytes32 commitment);
    /// @notice Paid; burned is what this encounter added to the pending fines.
    event Settled(bytes32 indexed encounter, uint8 yes, uint8 no, uint96 burned);
    /// @notice All locks returned; state is the one it left.
    event Expired(bytes32 indexed encounter, State state);
    /// @notice Encounters may be opened under a new set of rules.
    event ParameterSetAdded(uint16 indexed number, ParameterSet parameters);
    /// @notice No new encounters are opened under this set of rules.
    event ParameterSetRetired(uint16 indexed number);
    /// @notice The pending fines were destroyed at the token.
    event FinesBurned(uint256 amount);

    /// @notice The encounter is not in a state from which this step is taken; state is the one it is in.
    error WrongState(bytes32 encounter, State state);
    /// @notice No lane of the Learner's holds this encounter open: it was never opened by signatures, went on in storage, or is over.
    error NotOpen(bytes32 encounter);
    /// @notice The lane that the nonce names still holds an open encounter.
    error LaneBusy(address learner, uint32 nonce);
    /// @notice An account's step carries a nonce that it has used, or an opening one that is not larger than the last in its lane.
    error NonceUsed(address account, uint32 nonce);
    /// @notice Terms with this nonce go through the other door: 0 through the direct one, any other through the signed one.
    error WrongDoor(uint32 nonce);
    /// @notice No key made this signature of the digest, or its s is in the upper half.
    error BadSignature(bytes32 digest);
    /// @notice The signature is signer's, where that of expected is needed: another key signed, or the same key something else.
    error WrongSigner(address expected, address signer);
    /// @notice The signatures, or report and ballots, have another length in bytes than this step needs.
    error EvidenceLength(uint256 length, uint256 expected);
    /// @notice The encounter's parameter set takes sealed votes only.
    error VotesAreSealed(bytes32 encounter);
    /// @notice The encounter's parameter set takes open votes only.
    error VotesAreOpen(bytes32 encounter);
    /// @notice This position of the panel has no sealed vote, or has opened it.
    error NotSealed(bytes32 encounter, uint8 position);
    /// @notice Voter, verdict, reason and salt are not those that this position of the panel sealed.
    error SealMismatch(bytes32 encounter, uint8 position);
    /// @notice The account has not announced that it leaves a seat.
    error NotLeaving(address account);
    /// @notice The token refused the owner's permit, and the allowance does not cover the amount; reason is the token's revert data.
    error PermitFailed(address owner, bytes reason);
    /// @notice The caller is neither Learner nor Neighbor of the encounter.
    error NotParty(bytes32 encounter, address caller);
    /// @notice Learner and Neighbor are one.
    error SameParty(address party);
    /// @notice openBy is not earlier than reportBy.
    error DeadlineOrder(uint40 openBy, uint40 reportBy);
    /// @notice The last second for this step is over; time is the chain's.
    error DeadlinePassed(uint40 deadline, uint256 time);
    /// @notice The step is not taken before notBefore; time is the chain's.
    error TooEarly(uint40 notBefore, uint256 time);
    /// @notice reportBy is later than maxLife from now; latest is what would have been taken.
    error LifeTooLong(uint40 reportBy, uint256 latest);
    /// @notice There is no parameter set of this number.
    error UnknownParameterSet(uint16 number);
    /// @notice The parameter set takes no new encounters.
    error RetiredParameterSet(uint16 number);
    /// @notice What is free does not reach minStake; for a validator that unbonds: what would be left, free and locked.
    error BelowMinStake(uint96 free, uint96 minStake);
    /// @notice What is free does not cover what is needed: the amount, and minStake with it where a party locks.
    error InsufficientFree(uint96 free, uint256 needed);
    /// @notice The salts given hash to another word than the terms commit to.
    error SaltMismatch(bytes32 committed, bytes32 given);
    /// @notice Another digest was reported; where voting has started both are keccak256(abi.encode(digest, panel)).
    error DigestMismatch(bytes32 reported, bytes32 given);
    /// @notice The caller, or who signed the ballot, does not hold the seat at this position of the panel.
    error NotOnPanel(bytes32 encounter, uint8 position, address caller);
    /// @notice This position of the panel has voted, or sealed its vote.
    error AlreadyVoted(bytes32 encounter, uint8 position);
    /// @notice The votes that decide are all in, or sealed.
    error VotesComplete(bytes32 encounter, uint8 votes);
    /// @notice Fewer votes are in than are needed before voteBy is over.
    error VotesMissing(uint8 votes, uint8 needed, uint40 voteBy);
    /// @notice The reason does not go with the verdict, see Reason.
    error BadReason(bool valid, uint8 reason);
    /// @notice The amount, or the reward of the terms, is zero.
    error ZeroAmount();
    /// @notice The account has nothing to withdraw.
    error NothingUnbonding(address account);
    /// @notice What unbonds is released at releaseAt; time is the chain's.
    error StillUnbonding(uint40 releaseAt, uint256 time);
    /// @notice The caller holds this seat, and stays.
    error AlreadyValidator(uint24 seat);
    /// @notice The account holds no seat, or is leaving it already.
    error NotValidator(address account);
    /// @notice All numbers of seats are given out.
    error SeatsFull(uint256 seats);
    /// @notice A parameter, by the name it has in this interface, cannot have this value.
    error ParameterOutOfRange(bytes32 name, uint256 value);
    /// @notice There are no pending fines.
    error NothingToBurn();

    /// @notice Do many calls of this contract in one transaction. One that fails is skipped; an event says why.
    /// @param calls calldata of functions of this contract
    function batch(bytes[] calldata calls) external;

    /// @notice Move approved tokens into the caller's free balance.
    /// @param nonce any number this account has not used yet for a step of its own
    function stake(uint96 amount, uint32 nonce) external;

    /// @notice The same with an ERC-2612 permit for this amount. A permit that somebody else sent first does no harm.
    function stakeWithPermit(uint96 amount, uint32 nonce, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Hand a permit for this contract to the token. One that it refuses is no fault if the allowance is there already.
    function permit(address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Take free tokens out: they unbond first, and can be fined until they are withdrawn. Unbonding again restarts the time for
    /// the whole. A validator that stays keeps minStake.
    function unbond(uint96 amount, uint32 nonce) external;

    /// @notice Transfer all that has finished unbonding to the caller.
    function withdraw() external;

    /// @notice Take a validator seat; needs free >= minStake. While it is leaving, it takes its announcement back.
    function registerValidator() external;

    /// @notice Announce that the caller leaves its seat: it is drawn for one more unbonding period.
    function leaveValidator() external;

    /// @notice Empty the seat of a validator that announced leaving an unbonding period ago. Anyone may call.
    function dismiss(address validator) external;

    /// @notice Do what an account has signed. Anyone may call.
    function act(Action calldata action, bytes32 r, bytes32 vs) external;

    /// @notice Lock the caller's side of an encounter (both lock the reward; minStake has to stay free); the second side opens it.
    /// @return id of the encounter
    function checkIn(Terms calldata terms) external returns (bytes32 id);

    /// @notice Both check-ins at once, by signature of the terms. Anyone may call.
    /// @return id of the encounter
    function openSigned(Terms calldata terms, bytes32 learnerR, bytes32 learnerVS, bytes32 neighborR, bytes32 neighborVS)
        external
        returns (bytes32 id);

    /// @notice Report the updated model and reveal both salts. Equal digests draw the panel and start the voting; the Learner cannot
    /// report another digest than the Neighbor's; the Neighbor's voids an earlier, different one of the Learner.
    function report(Terms calldata terms, bytes32 updated, bytes32 learnerSalt, bytes32 neighborSalt) external;

    /// @notice Start the voting on a report that both have signed, or the Neighbor alone once reportBy is over, until voteTime after
    /// reportBy. For encounters that were opened by signatures. Anyone may call.
    /// @param signatures the Learner's and the Neighbor's of Report, r and vs (EIP-2098) of each; zeros for a missing Learner
    function reportSigned(
        Terms calldata terms,
        bytes32 updated,
        bytes32 learnerSalt,
        bytes32 neighborSalt,
        bytes calldata signatures
    ) external;

    /// @notice Start the voting on the Neighbor's report alone, after reportBy. Anyone may call.
    function closeReporting(Terms calldata terms, bytes32 learnerSalt, bytes32 neighborSalt) external;

    /// @notice Vote for a position of the panel; locks the bond. Position j >= V stands by and may vote (j - V + 1) * standbyDelay
    /// after the start of voting. The first V votes decide.
    /// @param updated the digest that was judged
    /// @param panel as VotingStarted gave it
    /// @param reason see Reason
    function vote(bytes32 id, bytes32 updated, uint192 panel, uint8 position, bool valid, uint8 reason) external;

    /// @notice The same by signature of Vote. Anyone may call.
    function voteSigned(
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        bool valid,
        uint8 reason,
        bytes32 r,
        bytes32 vs
    ) external;

    /// @notice Seal a vote: the rules of `vote`, but nobody sees it yet.
    /// @param commitment keccak256(abi.encode(id, voter, valid, reason, salt)) with a random 32-byte salt
    function seal(bytes32 id, bytes32 updated, uint192 panel, uint8 position, bytes32 commitment) external;

    /// @notice The same by signature of Seal. Anyone may call.
    function sealSigned(
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        bytes32 commitment,
        bytes32 r,
        bytes32 vs
    ) external;

    /// @notice Open a sealed vote, once V are sealed or the time for sealing is over, until voteTime after that. Anyone who knows the salt
    /// may call. A vote that is never opened does not count, and its bond is burned.
    /// @param voter who sealed it
    function reveal(bytes32 id, uint8 position, address voter, bool valid, uint8 reason, bytes32 salt) external;

    /// @notice Pay, once V votes (or the whole panel, if smaller) are in or the time is over. Anyone may call.
    ///
    ///     t yes and f no votes, n = t + f     Neighbor          each yes    each no     returned of the prepayment
    ///     1: t > 0, f = 0                     + p_n r           + p_v r/t   -           (dust)
    ///     2: t = 0, f > 0                     - r               -           + q r/f     r
    ///     3: t > f > 0                        + p_n r t/n       + p_v r/t   - bond      p_n r f/n
    ///     4: f > t > 0                        - r f/n           - bond      + q r/n     r
    ///     5: t = f, also no votes             0                 0           0           r
    function finalise(Terms calldata terms, bytes32 updated, uint192 panel) external;

    /// @notice Report, votes and payment of an encounter that was opened by signatures, in one step, until voteTime after reportBy: for
    /// panels whose first V seats (or all, if fewer) have voted, so that whoever sends it has no choice of votes. A bond is taken only
    /// from who loses it, out of its free and then its unbonding balance. Anyone may call.
    /// @param evidence r and vs of Report, signed by the side that the verdict costs: the Learner for valid (the Neighbor, once reportBy
    /// is over), the Neighbor for invalid; then per seat in order: a byte valid | reason << 1, r and vs of Vote
    function settle(
        Terms calldata terms,
        bytes32 updated,
        bytes32 learnerSalt,
        bytes32 neighborSalt,
        bytes calldata evidence
    ) external;

    /// @notice Return all locks of an encounter that missed openBy or reportBy (opened by signatures: voteTime after reportBy). Anyone
    /// may call.
    function expire(Terms calldata terms) external;

    /// @notice Destroy the pending fines at the token. Anyone may call.
    function burnFines() external;

    /// @notice Append a parameter set (retired must be false). Owner only; maxLife + 3 voteTime must fit the unbonding period.
    /// @param number parameterSetCount; at most 232 sets
    function addParameterSet(uint16 number, ParameterSet calldata parameters) external;

    /// @notice Take no new encounters under a parameter set. Owner only.
    function retireParameterSet(uint16 number) external;

    /// @notice The token that is staked, paid and burned.
    function token() external view returns (IIdmlToken);

    /// @notice Free stake below which no new role can be taken.
    function minStake() external view returns (uint96);

    /// @notice Seconds from unbond to withdraw.
    function unbondingPeriod() external view returns (uint40);

    /// @notice Longest time from a check-in to reportBy, in seconds.
    function maxLife() external view returns (uint40);

    /// @notice Fines, lost bonds and remainders not yet destroyed at the token.
    function pendingFines() external view returns (uint256);

    /// @notice Balances and seat of a participant; zeros for one that never staked.
    function account(address who) external view returns (AccountView memory);

    /// @notice Where an encounter stands in storage; None for one that only a lane holds.
    function encounter(bytes32 id) external view returns (EncounterView memory);

    /// @notice Whether an account has used a nonce for a step of its own (stake, unbond, act).
    function isUsed(address who, uint32 nonce) external view returns (bool);

    /// @notice A lane of a Learner's: the nonce it saw last in the low 32 bits and the rest of that encounter's id; and whether that
    /// encounter is still open.
    function lane(address learner, uint8 number) external view returns (bytes32 word, bool busy);

    /// @notice The rules of this number; reverts if there are none.
    function parameterSet(uint16 number) external view returns (ParameterSet memory);

    /// @notice How many parameter sets there are; they are numbered from 0.
    function parameterSetCount() external view returns (uint256);

    /// @notice Seats ever taken; they are numbered from 1.
    function seatCount() external view returns (uint256);

    /// @notice Who holds or held a seat; zero for none.
    function seatOwner(uint24 seat) external view returns (address);

    /// @notice Whether somebody holds a seat.
    function isTaken(uint24 seat) external view returns (bool);

    /// @notice The EIP-712 hash of the terms (domain: name "iDML", version "1", this chain, this contract).
    function encounterId(Terms calldata terms) external view returns (bytes32);
}
