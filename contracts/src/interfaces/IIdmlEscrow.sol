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
/// A deadline is the last second at which the step is still taken; exits open one second later.
///
/// Rounding: what is paid out rounds down, what is taken rounds up, and the difference is burned.
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
    /// @param learnerCommitment keccak256 of the Learner's 32-byte salt
    /// @param neighborCommitment keccak256 of the Neighbor's 32-byte salt
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
        bytes32 learnerCommitment;
        bytes32 neighborCommitment;
    }

    /// @notice A set of rules. Append-only; encounters name one by number, so it never changes under them.
    /// @param validators V, votes that decide: 1 to 7
    /// @param pnBps p_n, the Neighbor's share of the reward in 1/10,000; the validators' share is p_v = 1 - p_n
    /// @param qBps q, the share of a Neighbor's fine that goes to the validators who voted no
    /// @param bondBps a voter's bond as a share of the reward: p_v to 1
    /// @param standbyDelay each further standby seat may vote this much later
    /// @param voteTime from the start of voting to its end
    /// @param retired no new encounters
    struct ParameterSet {
        uint8 validators;
        uint16 pnBps;
        uint16 qBps;
        uint16 bondBps;
        uint32 standbyDelay;
        uint32 voteTime;
        bool retired;
    }

    /// @notice A participant's balances and seat.
    /// @param free usable at once
    /// @param locked behind encounters and votes
    /// @param seat validator seat from 1; 0 = never registered
    /// @param active registered as validator now
    /// @param unbonding on its way out
    /// @param releaseAt when unbonding ends
    struct AccountView {
        uint96 free;
        uint96 locked;
        uint24 seat;
        bool active;
        uint96 unbonding;
        uint40 releaseAt;
    }

    /// @notice Where an encounter stands.
    /// @param state see State
    /// @param reward from its terms
    /// @param deadline openBy, reportBy or the end of voting, whichever comes next
    /// @param seatCount validator seats at the first check-in: these take part in the draw
    /// @param parameterSet from its terms
    /// @param voted bit per panel position: has voted
    /// @param yes bit per panel position: voted valid
    /// @param updated SHA-256 of the updated snapshot, once reported; zero after settlement
    struct EncounterView {
        State state;
        uint96 reward;
        uint40 deadline;
        uint24 seatCount;
        uint16 parameterSet;
        uint8 voted;
        uint8 yes;
        bytes32 updated;
    }

    /// @notice Tokens entered; free is the balance afterwards.
    event Staked(address indexed account, uint96 amount, uint96 free);
    /// @notice Unbonding began; total unbonds now, all of it released at releaseAt.
    event Unbonding(address indexed account, uint96 amount, uint96 total, uint40 releaseAt);
    /// @notice Tokens left.
    event Withdrawn(address indexed account, uint96 amount);
    event ValidatorRegistered(address indexed validator, uint24 seat);
    event ValidatorLeft(address indexed validator, uint24 seat);
    /// @notice One side locked its amount.
    event CheckedIn(bytes32 indexed encounter, address indexed by);
    /// @notice Both sides are in: learning may start.
    event Opened(bytes32 indexed encounter, address indexed learner, address indexed neighbor);
    event Reported(bytes32 indexed encounter, address indexed by, bytes32 updated);
    /// @notice The Learner's report is void: the Neighbor reported another digest.
    event ReportVoided(bytes32 indexed encounter, bytes32 updated);
    /// @notice Votes are taken until voteBy. panel: seats of 24 bits each, position 0 in the lowest bits.
    event VotingStarted(bytes32 indexed encounter, bytes32 updated, uint192 panel, uint40 voteBy);
    event VoteCast(bytes32 indexed encounter, address indexed voter, bool valid, uint8 reason);
    /// @notice Paid; burned is what this encounter added to the pending fines.
    event Settled(bytes32 indexed encounter, uint8 yes, uint8 no, uint96 burned);
    /// @notice All locks returned; state is the one it left.
    event Expired(bytes32 indexed encounter, uint8 state);
    event ParameterSetAdded(uint16 indexed number, ParameterSet parameters);
    event ParameterSetRetired(uint16 indexed number);
    event FinesBurned(uint256 amount);

    error WrongState(bytes32 encounter, uint8 state);
    error NotParty(bytes32 encounter, address caller);
    error SameParty(address party);
    error DeadlineOrder(uint40 openBy, uint40 reportBy);
    error DeadlinePassed(uint40 deadline, uint256 time);
    error TooEarly(uint40 notBefore, uint256 time);
    error LifeTooLong(uint40 reportBy, uint256 latest);
    error UnknownParameterSet(uint16 number);
    error RetiredParameterSet(uint16 number);
    error BelowMinStake(uint96 free, uint96 minStake);
    error InsufficientFree(uint96 free, uint256 needed);
    error SaltMismatch(bytes32 commitment, bytes32 salt);
    error DigestMismatch(bytes32 reported, bytes32 given);
    error NotOnPanel(bytes32 encounter, uint8 position, address caller);
    error AlreadyVoted(bytes32 encounter, uint8 position);
    error VotesComplete(bytes32 encounter, uint8 votes);
    error VotesMissing(uint8 votes, uint8 needed, uint40 voteBy);
    error BadReason(bool valid, uint8 reason);
    error ZeroAmount();
    error NothingUnbonding(address account);
    error StillUnbonding(uint40 releaseAt, uint256 time);
    error AlreadyValidator(uint24 seat);
    error NotValidator(address account);
    error SeatsFull(uint256 seats);
    error ParameterOutOfRange(bytes32 name, uint256 value);
    error NothingToBurn();

    /// @notice Move approved tokens into the caller's free balance.
    function stake(uint96 amount) external;

    /// @notice Take free tokens out: they unbond first. Unbonding again restarts the time for the whole.
    function unbond(uint96 amount) external;

    /// @notice Transfer all that has finished unbonding to the caller.
    function withdraw() external;

    /// @notice Take a validator seat; needs free >= minStake. A validator that comes back takes its old seat.
    function registerValidator() external;

    /// @notice Stop being drawn. Panels already drawn are not affected.
    function leaveValidator() external;

    /// @notice Lock the caller's side of an encounter (both lock the reward); the second side opens it. Needs free >= minStake.
    /// @return encounter its id
    function checkIn(Terms calldata terms) external returns (bytes32 encounter);

    /// @notice Report the updated model and reveal both salts. The first report draws the panel. Equal digests start the voting;
    /// the Learner cannot report another digest than the Neighbor's; the Neighbor's voids an earlier, different one of the Learner.
    function report(Terms calldata terms, bytes32 updated, bytes32 learnerSalt, bytes32 neighborSalt) external;

    /// @notice Start the voting on the Neighbor's report alone, after reportBy. Anyone may call.
    function closeReporting(Terms calldata terms) external;

    /// @notice Vote for a position of the panel; locks the bond. Position j >= V stands by and may vote (j - V + 1) * standbyDelay
    /// after the start of voting. The first V votes decide.
    /// @param updated the digest that was judged
    /// @param reason see Reason
    function vote(bytes32 encounter, bytes32 updated, uint8 position, bool valid, uint8 reason) external;

    /// @notice Pay, once V votes (or the whole panel, if smaller) are in or the time is over. Anyone may call.
    ///
    ///     t yes and f no votes, n = t + f     Neighbor          each yes    each no     returned of the prepayment
    ///     1: t > 0, f = 0                     + p_n r           + p_v r/t   -           -
    ///     2: t = 0, f > 0                     - r               -           + q r/f     r
    ///     3: t > f > 0                        + p_n r t/n       + p_v r/t   - bond      p_n r f/n
    ///     4: f > t > 0                        - r f/n           - bond      + q r/n     r
    ///     5: t = f, also no votes             0                 0           0           r
    function finalise(Terms calldata terms) external;

    /// @notice Return all locks of an encounter that missed openBy or reportBy. Anyone may call.
    function expire(Terms calldata terms) external;

    /// @notice Destroy the pending fines at the token. Anyone may call.
    function burnFines() external;

    /// @notice Append a parameter set (retired must be false). Owner only; maxLife + voteTime must fit the unbonding period.
    function addParameterSet(ParameterSet calldata parameters) external returns (uint16 number);

    /// @notice Take no new encounters under a parameter set. Owner only.
    function retireParameterSet(uint16 number) external;

    function token() external view returns (IIdmlToken);

    /// @notice Free stake below which no new role can be taken.
    function minStake() external view returns (uint96);

    /// @notice Seconds from unbond to withdraw.
    function unbondingPeriod() external view returns (uint40);

    /// @notice Longest time from a check-in to reportBy, in seconds.
    function maxLife() external view returns (uint40);

    /// @notice Fines, lost bonds and remainders not yet destroyed at the token.
    function pendingFines() external view returns (uint256);

    function account(address who) external view returns (AccountView memory);

    function encounter(bytes32 id) external view returns (EncounterView memory);

    /// @notice Drawn seats by position; empty before the first report and after settlement.
    function panel(bytes32 id) external view returns (uint24[] memory);

    function parameterSet(uint16 number) external view returns (ParameterSet memory);

    function parameterSetCount() external view returns (uint256);

    /// @notice Seats ever taken; they are numbered from 1.
    function seatCount() external view returns (uint256);

    /// @notice Who holds a seat; zero for none.
    function seatOwner(uint24 seat) external view returns (address);

    /// @notice Whether a seat is active and has at least minStake free.
    function isEligible(uint24 seat) external view returns (bool);

    /// @notice The EIP-712 hash of the terms (domain: name "iDML", version "1", this chain, this contract).
    function encounterId(Terms calldata terms) external view returns (bytes32);
}
