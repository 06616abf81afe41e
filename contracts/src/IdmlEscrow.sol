// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IIdmlEscrow} from "./interfaces/IIdmlEscrow.sol";
import {IIdmlToken} from "./interfaces/IIdmlToken.sol";
import {Panel} from "./libraries/Panel.sol";
import {Slots} from "./libraries/Slots.sol";
import {Settlement} from "./libraries/Settlement.sol";

/// @notice See IIdmlEscrow, which documents every function, event and state.
contract IdmlEscrow is IIdmlEscrow, EIP712, Ownable {
    using SafeERC20 for IIdmlToken;

    /// @dev One storage slot.
    struct Unbond {
        uint96 amount;
        uint40 releaseAt;
    }

    /// @dev Three storage slots; the second holds the panel and what every vote needs of the parameter set.
    struct Encounter {
        uint256 progress; // Slots.Progress
        uint192 panel;
        uint8 validators;
        uint16 bondBps;
        uint32 voteTime;
        bytes32 updated;
    }

    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(address learner,address neighbor,bytes32 algorithm,bytes32 architecture,bytes32 previous,"
        "uint96 reward,uint16 toleranceBps,uint16 parameterSet,uint40 openBy,uint40 reportBy,"
        "bytes32 learnerCommitment,bytes32 neighborCommitment)"
    );

    IIdmlToken public immutable token;
    uint96 public immutable minStake;
    uint40 public immutable unbondingPeriod;
    uint40 public immutable maxLife;

    uint256 public pendingFines;
    uint256 public seatCount;
    uint256 public parameterSetCount;

    mapping(address => uint256) private _accounts; // Slots.Account
    mapping(address => Unbond) private _unbonding;
    mapping(bytes32 => Encounter) private _encounters;
    mapping(uint256 => uint256) private _eligible; // bit (seat & 255) of word (seat >> 8): active and free >= minStake
    mapping(uint256 => address) private _seats; // from 1
    mapping(uint256 => uint256) private _parameterSets; // IIdmlEscrow.ParameterSet

    constructor(IIdmlToken token_, uint96 minStake_, uint40 unbondingPeriod_, uint40 maxLife_, address owner_)
        EIP712("iDML", "1")
        Ownable(owner_)
    {
        if (minStake_ == 0) revert ParameterOutOfRange("minStake", minStake_);
        if (maxLife_ == 0 || maxLife_ >= unbondingPeriod_) revert ParameterOutOfRange("maxLife", maxLife_);
        token = token_;
        minStake = minStake_;
        unbondingPeriod = unbondingPeriod_;
        maxLife = maxLife_;
    }

    // Stake

    function stake(uint96 amount) external {
        if (amount == 0) revert ZeroAmount();
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        acc.free += amount;
        _save(msg.sender, acc, was);
        emit Staked(msg.sender, amount, acc.free);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    function unbond(uint96 amount) external {
        if (amount == 0) revert ZeroAmount();
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        if (acc.free < amount) revert InsufficientFree(acc.free, amount);
        acc.free -= amount;
        _save(msg.sender, acc, was);
        uint96 total = _unbonding[msg.sender].amount + amount;
        uint40 releaseAt = uint40(block.timestamp) + unbondingPeriod;
        _unbonding[msg.sender] = Unbond(total, releaseAt);
        emit Unbonding(msg.sender, amount, total, releaseAt);
    }

    function withdraw() external {
        Unbond memory leaving = _unbonding[msg.sender];
        if (leaving.amount == 0) revert NothingUnbonding(msg.sender);
        if (block.timestamp < leaving.releaseAt) revert StillUnbonding(leaving.releaseAt, block.timestamp);
        delete _unbonding[msg.sender];
        emit Withdrawn(msg.sender, leaving.amount);
        token.safeTransfer(msg.sender, leaving.amount);
    }

    // Validators

    function registerValidator() external {
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        if (acc.active) revert AlreadyValidator(acc.seat);
        if (acc.free < minStake) revert BelowMinStake(acc.free, minStake);
        if (acc.seat == 0) {
            if (seatCount >= type(uint24).max) revert SeatsFull(seatCount);
            acc.seat = uint24(++seatCount);
            _seats[acc.seat] = msg.sender;
        }
        acc.active = true;
        _save(msg.sender, acc, was);
        emit ValidatorRegistered(msg.sender, acc.seat);
    }

    function leaveValidator() external {
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        if (!acc.active) revert NotValidator(msg.sender);
        acc.active = false;
        _save(msg.sender, acc, was);
        emit ValidatorLeft(msg.sender, acc.seat);
    }

    // Encounters

    function checkIn(Terms calldata terms) external returns (bytes32 id) {
        id = encounterId(terms);
        bool learner = msg.sender == terms.learner;
        if (!learner && msg.sender != terms.neighbor) revert NotParty(id, msg.sender);
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        if (now_.state == State.None) {
            _checkTerms(terms);
            now_.state = learner ? State.LearnerCheckedIn : State.NeighborCheckedIn;
            now_.reward = terms.reward;
            now_.parameterSet = terms.parameterSet;
            now_.deadline = terms.openBy;
            now_.seatCount = uint24(seatCount);
        } else if (now_.state == (learner ? State.NeighborCheckedIn : State.LearnerCheckedIn)) {
            now_.state = State.Open;
            now_.deadline = terms.reportBy;
        } else {
            revert WrongState(id, uint8(now_.state));
        }
        if (block.timestamp > terms.openBy) revert DeadlinePassed(terms.openBy, block.timestamp);
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        if (acc.free < minStake) revert BelowMinStake(acc.free, minStake);
        if (learner) now_.learnerSeat = acc.seat;
        else now_.neighborSeat = acc.seat;
        _encounters[id].progress = Slots.pack(now_);
        _lock(msg.sender, acc, was, terms.reward);
        emit CheckedIn(id, msg.sender);
        if (now_.state == State.Open) emit Opened(id, terms.learner, terms.neighbor);
    }

    function report(Terms calldata terms, bytes32 updated, bytes32 learnerSalt, bytes32 neighborSalt) external {
        bytes32 id = encounterId(terms);
        bool learner = msg.sender == terms.learner;
        if (!learner && msg.sender != terms.neighbor) revert NotParty(id, msg.sender);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Open && now_.state != (learner ? State.NeighborReported : State.LearnerReported)) {
            revert WrongState(id, uint8(now_.state));
        }
        if (block.timestamp > now_.deadline) revert DeadlinePassed(now_.deadline, block.timestamp);
        _checkSalt(terms.learnerCommitment, learnerSalt);
        _checkSalt(terms.neighborCommitment, neighborSalt);
        emit Reported(id, msg.sender, updated);

        if (now_.state == State.Open) {
            now_.state = learner ? State.LearnerReported : State.NeighborReported;
            encounter_.progress = Slots.pack(now_);
            encounter_.updated = updated;
            bytes32 seed = keccak256(abi.encode(id, learnerSalt, neighborSalt));
            encounter_.panel = Panel.draw(_eligible, seed, now_.seatCount, now_.learnerSeat, now_.neighborSeat);
            ParameterSet memory rules = Slots.parameterSet(_parameterSets[now_.parameterSet]);
            encounter_.validators = rules.validators;
            encounter_.bondBps = rules.bondBps;
            encounter_.voteTime = rules.voteTime;
            return;
        }
        bytes32 reported = encounter_.updated;
        if (updated == reported) {
            _startVoting(id, encounter_, now_, updated);
        } else if (learner) {
            revert DigestMismatch(reported, updated);
        } else {
            now_.state = State.NeighborReported;
            encounter_.progress = Slots.pack(now_);
            encounter_.updated = updated;
            emit ReportVoided(id, reported);
        }
    }

    function closeReporting(Terms calldata terms) external {
        bytes32 id = encounterId(terms);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.NeighborReported) revert WrongState(id, uint8(now_.state));
        if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);
        _startVoting(id, encounter_, now_, encounter_.updated);
    }

    function vote(bytes32 id, bytes32 updated, uint8 position, bool valid, uint8 reason) external {
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Reported) revert WrongState(id, uint8(now_.state));
        if (block.timestamp > now_.deadline) revert DeadlinePassed(now_.deadline, block.timestamp);
        _checkReason(valid, reason);
        if (encounter_.updated != updated) revert DigestMismatch(encounter_.updated, updated);
        (Slots.Account memory acc, bool was) = _load(msg.sender);
        if (acc.seat == 0 || Panel.seatAt(encounter_.panel, position) != acc.seat) {
            revert NotOnPanel(id, position, msg.sender);
        }
        uint256 bit = 1 << position;
        if (now_.voted & bit != 0) revert AlreadyVoted(id, position);
        uint256 votes = _count(now_.voted);
        uint256 validators = encounter_.validators;
        if (votes >= validators) revert VotesComplete(id, uint8(votes));
        if (position >= validators) {
            uint256 wait = Slots.parameterSet(_parameterSets[now_.parameterSet]).standbyDelay;
            uint256 notBefore = uint256(now_.deadline) - encounter_.voteTime + wait * (position - validators + 1);
            if (block.timestamp < notBefore) revert TooEarly(uint40(notBefore), block.timestamp);
        }
        now_.voted |= uint8(bit);
        if (valid) now_.yes |= uint8(bit);
        encounter_.progress = Slots.pack(now_);
        _lock(msg.sender, acc, was, Settlement.bond(now_.reward, encounter_.bondBps));
        emit VoteCast(id, msg.sender, valid, reason);
    }

    function finalise(Terms calldata terms) external {
        bytes32 id = encounterId(terms);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Reported) revert WrongState(id, uint8(now_.state));
        ParameterSet memory rules = Slots.parameterSet(_parameterSets[now_.parameterSet]);
        uint192 drawn = encounter_.panel;
        uint256 yes = _count(now_.yes);
        uint256 no = _count(now_.voted) - yes;
        if (block.timestamp <= now_.deadline) {
            uint256 needed = Panel.size(drawn);
            if (needed > rules.validators) needed = rules.validators;
            if (yes + no < needed) revert VotesMissing(uint8(yes + no), uint8(needed), now_.deadline);
        }
        now_.state = State.Settled;
        delete _encounters[id];
        encounter_.progress = Slots.pack(now_);

        Settlement.Payoff memory pay = Settlement.settle(now_.reward, yes, no, rules);
        _release(terms.learner, now_.reward, pay.learnerRefund - int256(uint256(now_.reward)));
        _release(terms.neighbor, now_.reward, pay.neighborDelta);
        uint96 bond = Settlement.bond(now_.reward, rules.bondBps);
        for (uint256 position; now_.voted >> position != 0; ++position) {
            if (now_.voted >> position & 1 == 0) continue;
            bool valid = now_.yes >> position & 1 == 1;
            _release(_seats[Panel.seatAt(drawn, position)], bond, valid ? pay.eachYes : pay.eachNo);
        }
        if (pay.burned != 0) pendingFines += uint256(pay.burned);
        emit Settled(id, uint8(yes), uint8(no), uint96(uint256(pay.burned)));
    }

    function expire(Terms calldata terms) external {
        bytes32 id = encounterId(terms);
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        State state = now_.state;
        bool both = state == State.Open || state == State.LearnerReported;
        if (!both && state != State.LearnerCheckedIn && state != State.NeighborCheckedIn) {
            revert WrongState(id, uint8(state));
        }
        if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);
        delete _encounters[id];
        _encounters[id].progress = uint256(State.Expired);
        if (both || state == State.LearnerCheckedIn) _release(terms.learner, now_.reward, 0);
        if (both || state == State.NeighborCheckedIn) _release(terms.neighbor, now_.reward, 0);
        emit Expired(id, uint8(state));
    }

    function burnFines() external {
        uint256 amount = pendingFines;
        if (amount == 0) revert NothingToBurn();
        pendingFines = 0;
        emit FinesBurned(amount);
        token.burn(amount);
    }

    // Parameters

    function addParameterSet(ParameterSet calldata added) external onlyOwner returns (uint16 number) {
        if (added.validators == 0 || added.validators > 7) revert ParameterOutOfRange("validators", added.validators);
        if (added.pnBps > 10_000) revert ParameterOutOfRange("pnBps", added.pnBps);
        if (added.qBps > 10_000) revert ParameterOutOfRange("qBps", added.qBps);
        if (added.bondBps > 10_000 || added.bondBps < 10_000 - added.pnBps) {
            revert ParameterOutOfRange("bondBps", added.bondBps);
        }
        if (added.voteTime == 0 || uint256(maxLife) + added.voteTime > unbondingPeriod) {
            revert ParameterOutOfRange("voteTime", added.voteTime);
        }
        if (added.retired) revert ParameterOutOfRange("retired", 1);
        if (parameterSetCount > type(uint16).max) revert ParameterOutOfRange("count", parameterSetCount);
        number = uint16(parameterSetCount++);
        _parameterSets[number] = Slots.pack(added);
        emit ParameterSetAdded(number, added);
    }

    function retireParameterSet(uint16 number) external onlyOwner {
        ParameterSet memory rules = parameterSet(number);
        if (rules.retired) revert RetiredParameterSet(number);
        rules.retired = true;
        _parameterSets[number] = Slots.pack(rules);
        emit ParameterSetRetired(number);
    }

    // Views

    function account(address who) external view returns (AccountView memory) {
        Slots.Account memory acc = Slots.account(_accounts[who]);
        Unbond memory leaving = _unbonding[who];
        return AccountView(acc.free, acc.locked, acc.seat, acc.active, leaving.amount, leaving.releaseAt);
    }

    function encounter(bytes32 id) external view returns (EncounterView memory) {
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        return EncounterView({
            state: now_.state,
            reward: now_.reward,
            deadline: now_.deadline,
            seatCount: now_.seatCount,
            parameterSet: now_.parameterSet,
            voted: now_.voted,
            yes: now_.yes,
            updated: _encounters[id].updated
        });
    }

    function panel(bytes32 id) external view returns (uint24[] memory seats) {
        uint192 drawn = _encounters[id].panel;
        seats = new uint24[](Panel.size(drawn));
        for (uint256 position; position < seats.length; ++position) {
            seats[position] = Panel.seatAt(drawn, position);
        }
    }

    function parameterSet(uint16 number) public view returns (ParameterSet memory) {
        if (number >= parameterSetCount) revert UnknownParameterSet(number);
        return Slots.parameterSet(_parameterSets[number]);
    }

    function seatOwner(uint24 seat) external view returns (address) {
        return _seats[seat];
    }

    function isEligible(uint24 seat) external view returns (bool) {
        return _eligible[seat >> 8] >> (seat & 255) & 1 == 1;
    }

    function encounterId(Terms calldata terms) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(TERMS_TYPEHASH, terms)));
    }

    // Inside

    function _checkTerms(Terms calldata terms) private view {
        if (terms.learner == terms.neighbor) revert SameParty(terms.learner);
        if (terms.reward == 0) revert ZeroAmount();
        if (terms.toleranceBps > 10_000) revert ParameterOutOfRange("toleranceBps", terms.toleranceBps);
        if (terms.openBy >= terms.reportBy) revert DeadlineOrder(terms.openBy, terms.reportBy);
        uint256 latest = block.timestamp + maxLife;
        if (terms.reportBy > latest) revert LifeTooLong(terms.reportBy, latest);
        uint256 rules = _parameterSets[terms.parameterSet];
        if (rules == 0) revert UnknownParameterSet(terms.parameterSet);
        if (Slots.parameterSet(rules).retired) revert RetiredParameterSet(terms.parameterSet);
    }

    function _checkSalt(bytes32 commitment, bytes32 salt) private pure {
        if (keccak256(abi.encode(salt)) != commitment) revert SaltMismatch(commitment, salt);
    }

    function _checkReason(bool valid, uint8 reason) private pure {
        bool fits = valid
            ? reason <= uint8(Reason.PreviousWithheld)
            : reason <= uint8(Reason.UpdatedMalformed) && reason != uint8(Reason.PreviousWithheld);
        if (!fits) revert BadReason(valid, reason);
    }

    function _startVoting(bytes32 id, Encounter storage encounter_, Slots.Progress memory now_, bytes32 updated) private {
        now_.state = State.Reported;
        now_.deadline = uint40(block.timestamp) + encounter_.voteTime;
        encounter_.progress = Slots.pack(now_);
        emit VotingStarted(id, updated, encounter_.panel, now_.deadline);
    }

    /// @dev An account and whether the bitmap holds its seat now.
    function _load(address who) private view returns (Slots.Account memory acc, bool was) {
        acc = Slots.account(_accounts[who]);
        was = acc.active && acc.free >= minStake;
    }

    /// @dev Every change of an account ends here, so that the bitmap follows free and active.
    function _save(address who, Slots.Account memory acc, bool was) private {
        bool now_ = acc.active && acc.free >= minStake;
        if (now_ != was) _eligible[acc.seat >> 8] ^= 1 << (acc.seat & 255);
        _accounts[who] = Slots.pack(acc);
    }

    function _lock(address who, Slots.Account memory acc, bool was, uint96 amount) private {
        if (acc.free < amount) revert InsufficientFree(acc.free, amount);
        acc.free -= amount;
        acc.locked += amount;
        _save(who, acc, was);
    }

    /// @dev Unlock an amount and apply a gain or fine to it; no fine is larger than what is unlocked.
    function _release(address who, uint96 amount, int256 delta) private {
        (Slots.Account memory acc, bool was) = _load(who);
        acc.locked -= amount;
        acc.free += uint96(uint256(int256(uint256(amount)) + delta));
        _save(who, acc, was);
    }

    function _count(uint8 bits) private pure returns (uint256 ones) {
        unchecked {
            for (; bits != 0; bits &= bits - 1) ++ones;
        }
    }
}
