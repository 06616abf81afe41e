// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IIdmlEscrow} from "./interfaces/IIdmlEscrow.sol";
import {IIdmlToken} from "./interfaces/IIdmlToken.sol";
import {Panel} from "./libraries/Panel.sol";
import {Account, Place, Slots} from "./libraries/Slots.sol";
import {Settlement} from "./libraries/Settlement.sol";

/// @notice See IIdmlEscrow, which documents every function, event and state.
contract IdmlEscrow is IIdmlEscrow, EIP712, Ownable {
    using SafeERC20 for IIdmlToken;

    /// @dev One storage slot.
    struct Unbond {
        uint96 amount;
        uint40 releaseAt;
    }

    /// @dev Two storage slots. record: the reported digest; once voting has started keccak256(digest, panel).
    struct Encounter {
        uint256 progress; // Slots.Progress
        bytes32 record;
    }

    /// @dev Terms as they lie in calldata. Reading a member of Terms checks each time that it fits its type; reading a word does not, so
    /// that somebody has to: see _checkedWords.
    struct Words {
        uint256 learner;
        uint256 neighbor;
        bytes32 algorithm;
        bytes32 architecture;
        bytes32 previous;
        uint256 reward;
        uint256 toleranceBps;
        uint256 parameterSet;
        uint256 openBy;
        uint256 reportBy;
        bytes32 salts;
        uint256 seats;
        uint256 nonce;
    }

    bytes32 private constant TERMS_TYPEHASH = keccak256(
        "Terms(address learner,address neighbor,bytes32 algorithm,bytes32 architecture,bytes32 previous,"
        "uint96 reward,uint16 toleranceBps,uint16 parameterSet,uint40 openBy,uint40 reportBy,"
        "bytes32 salts,uint24 seats,uint32 nonce)"
    );
    bytes32 private constant REPORT_TYPEHASH = keccak256("Report(bytes32 encounter,bytes32 updated)");
    bytes32 private constant VOTE_TYPEHASH =
        keccak256("Vote(bytes32 encounter,bytes32 updated,bool valid,uint8 reason)");
    bytes32 private constant SEAL_TYPEHASH = keccak256("Seal(bytes32 encounter,bytes32 updated,bytes32 commitment)");
    bytes32 private constant ACTION_TYPEHASH =
        keccak256("Action(address account,uint8 kind,uint96 amount,uint32 nonce,uint40 deadline)");

    uint256 private constant TERMS = 13 * 32; // bytes in calldata
    uint256 private constant SIGNATURE = 64; // r and vs (EIP-2098)
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;
    uint256 private constant MOST_SETS = 232; // what _register has bits for
    uint256 private constant BALLOT = 65; // a byte, valid | reason << 1, and a signature
    uint256 private constant VOTER = 96; // bytes in memory, see _tally
    // Assembly takes no other constants than numbers written out; SEATS_HIGHS is SEATS_ONES << 23.
    // slither-disable-start too-many-digits
    uint256 private constant SEATS_ONES = 0x1000001000001000001000001000001000001000001000001000001; // 1 in each of ten seats
    uint256 private constant SEATS_HIGHS = 0x800000800000800000800000800000800000800000800000800000800000; // their highest bits
    // slither-disable-end too-many-digits

    IIdmlToken public immutable token;
    uint96 public immutable minStake;
    uint40 public immutable unbondingPeriod;
    uint40 public immutable maxLife;
    uint256 private immutable _rules0; // parameter set 0, which most encounters use

    uint256 public pendingFines;
    uint256 public parameterSetCount;
    uint256 private _register; // seatCount in the low 24 bits, then a bit per parameter set: not retired

    mapping(address => Account) private _accounts;
    mapping(address => Unbond) private _unbonding;
    mapping(address => mapping(uint256 => uint256)) private _used; // a bit per nonce of an account's own steps
    // Written by _lanePlace, in assembly.
    // slither-disable-next-line uninitialized-state
    mapping(address => mapping(uint256 => bytes32)) private _lanes; // the encounter that was last opened in each, see _laneWord
    mapping(bytes32 => Encounter) private _encounters;
    mapping(bytes32 => mapping(uint256 => bytes32)) private _seals; // encounter, position: see _sealOf
    mapping(uint256 => uint256) private _taken; // bit (seat & 255) of word (seat >> 8): somebody holds the seat
    mapping(uint256 => address) private _seats; // from 1; never changes
    mapping(uint256 => uint256) private _parameterSets; // IIdmlEscrow.ParameterSet, from 1

    constructor(
        IIdmlToken token_,
        uint96 minStake_,
        uint40 unbondingPeriod_,
        uint40 maxLife_,
        ParameterSet memory rules0,
        address owner_
    ) EIP712("iDML", "1") Ownable(owner_) {
        if (minStake_ == 0) revert ParameterOutOfRange("minStake", minStake_);
        if (maxLife_ == 0 || maxLife_ >= unbondingPeriod_) revert ParameterOutOfRange("maxLife", maxLife_);
        token = token_;
        minStake = minStake_;
        unbondingPeriod = unbondingPeriod_;
        maxLife = maxLife_;
        _checkRules(rules0, unbondingPeriod_, maxLife_);
        _rules0 = Slots.pack(rules0);
        parameterSetCount = 1;
        _register = 1 << 24;
        emit ParameterSetAdded(0, rules0);
    }

    // Many at once

    function batch(bytes[] calldata calls) external {
        for (uint256 i; i < calls.length; ++i) {
            bytes calldata data = calls[i];
            bool done;
            assembly ("memory-safe") {
                let free_ := mload(64) // not moved: each call may use the same memory
                calldatacopy(free_, data.offset, data.length)
                done := delegatecall(gas(), address(), free_, data.length, 0, 0)
            }
            if (!done) emit Skipped(i, _returned());
        }
    }

    // Stake

    function stake(uint96 amount, uint32 nonce) external {
        _stake(msg.sender, amount, nonce);
    }

    // The token is IdmlToken (see IIdmlEscrow): it calls nobody back.
    // slither-disable-next-line reentrancy-benign,reentrancy-events
    function stakeWithPermit(uint96 amount, uint32 nonce, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        permit(msg.sender, amount, deadline, v, r, s);
        _stake(msg.sender, amount, nonce);
    }

    function permit(address owner, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) public {
        // Somebody may have sent the same permit before us: then the allowance is there already.
        try IERC20Permit(address(token)).permit(owner, address(this), amount, deadline, v, r, s) {}
        catch (bytes memory reason) {
            if (token.allowance(owner, address(this)) < amount) revert PermitFailed(owner, reason);
        }
    }

    function unbond(uint96 amount, uint32 nonce) external {
        _unbond(msg.sender, amount, nonce);
    }

    function withdraw() external {
        _withdraw(msg.sender);
    }

    function registerValidator() external {
        _takeSeat(msg.sender);
    }

    function leaveValidator() external {
        _leave(msg.sender);
    }

    function dismiss(address validator) external {
        Account acc = _accounts[validator];
        if (acc.leavingAt() == 0) revert NotLeaving(validator);
        uint40 notBefore = acc.leavingAt() + unbondingPeriod;
        if (block.timestamp < notBefore) revert TooEarly(notBefore, block.timestamp);
        _accounts[validator] = _stand(validator, acc);
    }

    function act(Action calldata action, bytes32 r, bytes32 vs) external {
        if (block.timestamp > action.deadline) revert DeadlinePassed(action.deadline, block.timestamp);
        _checkSignature(
            _typed(_domainSeparatorV4(), keccak256(abi.encode(ACTION_TYPEHASH, action))), r, vs, uint160(action.account)
        );
        if (action.kind == uint8(ActionKind.Stake)) return _stake(action.account, action.amount, action.nonce);
        if (action.kind == uint8(ActionKind.Unbond)) return _unbond(action.account, action.amount, action.nonce);
        _use(action.account, action.nonce);
        if (action.kind == uint8(ActionKind.Withdraw)) return _withdraw(action.account);
        if (action.kind == uint8(ActionKind.Register)) return _takeSeat(action.account);
        if (action.kind == uint8(ActionKind.Leave)) return _leave(action.account);
        revert ParameterOutOfRange("kind", action.kind);
    }

    // Encounters, step by step

    function checkIn(Terms calldata terms) external returns (bytes32 id) {
        id = encounterId(terms);
        if (terms.nonce != 0) revert WrongDoor(terms.nonce);
        bool learner = _isLearner(id, terms, msg.sender);
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        if (now_.state == State.None) {
            _checkTerms(_checkedWords(terms));
            now_.state = learner ? State.LearnerCheckedIn : State.NeighborCheckedIn;
            now_.reward = terms.reward;
            now_.parameterSet = terms.parameterSet;
            now_.deadline = terms.openBy;
            emit CheckedIn(id, msg.sender);
        } else if (now_.state == (learner ? State.NeighborCheckedIn : State.LearnerCheckedIn)) {
            now_.state = State.Open;
            now_.deadline = terms.reportBy;
            emit Opened(id);
        } else {
            revert WrongState(id, now_.state);
        }
        if (block.timestamp > terms.openBy) revert DeadlinePassed(terms.openBy, block.timestamp);
        Account acc = _locking(_accounts[msg.sender], terms.reward);
        _accounts[msg.sender] = acc;
        if (learner) now_.learnerSeat = acc.seat();
        else now_.neighborSeat = acc.seat();
        _encounters[id].progress = Slots.pack(now_);
    }

    function report(Terms calldata terms, bytes32 updated, bytes32 learnerSalt, bytes32 neighborSalt) external {
        bytes32 id = encounterId(terms);
        bool learner = _isLearner(id, terms, msg.sender);
        bytes32 seed = _seed(id, terms, learnerSalt, neighborSalt);
        (Encounter storage encounter_, Slots.Progress memory now_) = _longForm(id, terms);
        if (now_.state != State.Open && now_.state != (learner ? State.NeighborReported : State.LearnerReported)) {
            revert WrongState(id, now_.state);
        }
        if (block.timestamp > now_.deadline) revert DeadlinePassed(now_.deadline, block.timestamp);
        bytes32 reported = encounter_.record;
        if (now_.state != State.Open && updated == reported) {
            return _startVoting(id, terms, encounter_, now_, updated, seed);
        }
        if (now_.state == State.NeighborReported) revert DigestMismatch(reported, updated);
        if (now_.state == State.LearnerReported) emit ReportVoided(id, reported);
        now_.state = learner ? State.LearnerReported : State.NeighborReported;
        encounter_.progress = Slots.pack(now_);
        encounter_.record = updated;
        emit Reported(id, msg.sender, updated);
    }

    function reportSigned(
        Terms calldata terms,
        bytes32 updated,
        bytes32 learnerSalt,
        bytes32 neighborSalt,
        bytes calldata signatures
    ) external {
        bytes32 id = encounterId(terms);
        bytes32 seed = _seed(id, terms, learnerSalt, neighborSalt);
        if (terms.nonce == 0) revert WrongDoor(terms.nonce);
        (Encounter storage encounter_, Slots.Progress memory now_) = _longForm(id, terms);
        if (now_.state < State.Open || now_.state > State.NeighborReported) revert WrongState(id, now_.state);
        uint40 latest = terms.reportBy + Slots.voteTime(_rules(terms.parameterSet));
        if (block.timestamp > latest) revert DeadlinePassed(latest, block.timestamp);
        if (signatures.length != 2 * SIGNATURE) revert EvidenceLength(signatures.length, 2 * SIGNATURE);
        _checkReport(
            _digest(_domainSeparatorV4(), REPORT_TYPEHASH, id, updated, 0, 0, 96),
            terms.learner,
            terms.neighbor,
            terms.reportBy,
            signatures
        );
        _startVoting(id, terms, encounter_, now_, updated, seed);
    }

    function closeReporting(Terms calldata terms, bytes32 learnerSalt, bytes32 neighborSalt) external {
        bytes32 id = encounterId(terms);
        bytes32 seed = _seed(id, terms, learnerSalt, neighborSalt);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.NeighborReported) revert WrongState(id, now_.state);
        if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);
        _startVoting(id, terms, encounter_, now_, encounter_.record, seed);
    }

    function vote(bytes32 id, bytes32 updated, uint192 panel, uint8 position, bool valid, uint8 reason) external {
        _vote(msg.sender, id, updated, panel, position, valid, reason);
    }

    function voteSigned(
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        bool valid,
        uint8 reason,
        bytes32 r,
        bytes32 vs
    ) external {
        bytes32 digest = _digest(_domainSeparatorV4(), VOTE_TYPEHASH, id, updated, valid ? 1 : 0, reason, 160);
        _vote(address(uint160(_signer(digest, r, vs))), id, updated, panel, position, valid, reason);
    }

    function seal(bytes32 id, bytes32 updated, uint192 panel, uint8 position, bytes32 commitment) external {
        _seal(msg.sender, id, updated, panel, position, commitment);
    }

    function sealSigned(
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        bytes32 commitment,
        bytes32 r,
        bytes32 vs
    ) external {
        bytes32 digest = _digest(_domainSeparatorV4(), SEAL_TYPEHASH, id, updated, uint256(commitment), 0, 128);
        _seal(address(uint160(_signer(digest, r, vs))), id, updated, panel, position, commitment);
    }

    function reveal(bytes32 id, uint8 position, address voter, bool valid, uint8 reason, bytes32 salt) external {
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Reported) revert WrongState(id, now_.state);
        bytes32 sealed_ = _seals[id][position];
        if (sealed_ == 0) revert NotSealed(id, position);
        _checkReason(valid, reason);
        bytes32 commitment = keccak256(abi.encode(id, voter, valid, reason, salt));
        if (_sealOf(voter, commitment) != sealed_) revert SealMismatch(id, position);
        uint40 revealBy = now_.deadline + Slots.voteTime(_rules(now_.parameterSet));
        if (block.timestamp > revealBy) revert DeadlinePassed(revealBy, block.timestamp);
        if (block.timestamp <= now_.deadline && _count(now_.sealed_) < now_.validators) {
            revert TooEarly(now_.deadline + 1, block.timestamp);
        }
        delete _seals[id][position];
        now_.voted |= uint8(1 << position);
        if (valid) now_.yes |= uint8(1 << position);
        encounter_.progress = Slots.pack(now_);
        emit VoteCast(id, voter, valid, reason);
    }

    function finalise(Terms calldata terms, bytes32 updated, uint192 panel) external {
        bytes32 id = encounterId(terms);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Reported) revert WrongState(id, now_.state);
        _checkRecord(encounter_, updated, panel);
        uint256 rules = _rules(now_.parameterSet);
        uint256 yes = _count(now_.yes);
        uint256 no = _count(now_.voted) - yes;
        uint256 entered = now_.voted | now_.sealed_;
        _checkComplete(now_, rules, Panel.size(panel), yes + no, _count(uint8(entered)));
        now_.state = State.Settled;
        delete encounter_.record;
        encounter_.progress = uint256(State.Settled);

        Settlement.Payoff memory pay = Settlement.settle(now_.reward, yes, no, rules);
        _release(terms.learner, now_.reward, pay.learnerRefund - int256(uint256(now_.reward)));
        _release(terms.neighbor, now_.reward, pay.neighborDelta);
        uint96 bond = Settlement.bond(now_.reward, Slots.bondBps(rules));
        uint256 burned = uint256(pay.burned);
        for (uint256 position; entered >> position != 0; ++position) {
            if (entered >> position & 1 == 0) continue;
            int256 delta = now_.yes >> position & 1 == 1 ? pay.eachYes : pay.eachNo;
            if (now_.voted >> position & 1 == 0) {
                // Sealed and never opened: the bond is lost.
                delta = -int256(uint256(bond));
                burned += bond;
                delete _seals[id][position];
            }
            _release(_seats[Panel.seatAt(panel, position)], bond, delta);
        }
        if (burned != 0) pendingFines += burned;
        emit Settled(id, uint8(yes), uint8(no), uint96(burned));
    }

    function expire(Terms calldata terms) external {
        bytes32 id = encounterId(terms);
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        State state = now_.state;
        if (terms.nonce != 0) {
            // Signed reports may come until then, also the Neighbor's alone.
            now_.deadline = terms.reportBy + Slots.voteTime(_rules(terms.parameterSet));
        }
        if (state == State.None && terms.nonce != 0) {
            (_accounts[terms.learner],) = _vacate(id, uint160(terms.learner), terms.nonce);
            state = State.Open;
            now_.reward = terms.reward;
        } else {
            _encounters[id].progress = uint256(State.Expired);
            delete _encounters[id].record;
        }
        bool both = state == State.Open || state == State.LearnerReported;
        if (!both && state != State.LearnerCheckedIn && state != State.NeighborCheckedIn) revert WrongState(id, state);
        if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);
        if (both || state == State.LearnerCheckedIn) _release(terms.learner, now_.reward, 0);
        if (both || state == State.NeighborCheckedIn) _release(terms.neighbor, now_.reward, 0);
        emit Expired(id, state);
    }

    // Encounters, signed: two steps

    function openSigned(Terms calldata terms, bytes32 learnerR, bytes32 learnerVS, bytes32 neighborR, bytes32 neighborVS)
        external
        returns (bytes32 id)
    {
        id = encounterId(terms);
        Words calldata words = _checkedWords(terms);
        uint256 nonce = words.nonce;
        if (nonce == 0) revert WrongDoor(0);
        if (block.timestamp > words.openBy) revert DeadlinePassed(uint40(words.openBy), block.timestamp);
        _checkTerms(words);
        uint256 learner = words.learner;
        _checkSignature(id, learnerR, learnerVS, learner);
        _checkSignature(id, neighborR, neighborVS, words.neighbor);
        Place place = _lanePlace(learner, nonce);
        if (uint32(place.read()) >= nonce) revert NonceUsed(address(uint160(learner)), uint32(nonce));
        place.write(_laneWord(id, nonce));
        Account acc;
        (acc, place) = _account(learner);
        acc = _locking(acc, words.reward);
        if (acc.isBusy(nonce)) revert LaneBusy(address(uint160(learner)), uint32(nonce));
        place.write(Account.unwrap(acc.flip(nonce)));
        (acc, place) = _account(words.neighbor);
        place.write(Account.unwrap(_locking(acc, words.reward)));
        emit Opened(id);
    }

    function settle(
        Terms calldata terms,
        bytes32 updated,
        bytes32 learnerSalt,
        bytes32 neighborSalt,
        bytes calldata evidence
    ) external {
        bytes32 separator = _domainSeparatorV4();
        bytes32 id = _typed(separator, _hash(terms));
        Words calldata words = _words(terms); // checked when they were opened: no other id is in a lane
        (Account learner, Place learnerPlace) = _vacate(id, words.learner, words.nonce);
        (Account neighbor, Place neighborPlace) = _account(words.neighbor);
        uint256 rules = _rules(words.parameterSet);
        bytes32 seed = _seed(id, terms, learnerSalt, neighborSalt);
        uint256 parties = uint256(neighbor.seat()) << 24 | learner.seat();
        uint256 votes = _checkSettle(id, words, rules, seed, parties, evidence.length);
        (uint256 yes, uint256 voters) = _tally(separator, id, updated, seed, words.seats, parties, votes, evidence);
        _checkReporter(separator, id, words, updated, yes, votes, evidence);
        unchecked {
            uint256 reward = words.reward;
            Settlement.Payoff memory pay = Settlement.settle(reward, yes, votes - yes, rules);
            _save(learnerPlace, words.learner, learner.unlock(reward).credit(uint256(pay.learnerRefund)));
            _save(neighborPlace, words.neighbor, neighbor.unlock(reward).credit(reward + uint256(pay.neighborDelta)));
            uint256 burned = uint256(pay.burned);
            for (uint256 end = voters + VOTER * votes; voters != end; voters += VOTER) {
                (uint256 valid, uint256 who, Place place, Account acc) = _voter(voters);
                int256 delta = valid != 0 ? pay.eachYes : pay.eachNo;
                if (delta < 0) burned -= _fine(who, uint96(uint256(-delta)));
                else place.write(Account.unwrap(acc.credit(uint256(delta))));
            }
            if (burned != 0) pendingFines += burned;
            emit Settled(id, uint8(yes), uint8(votes - yes), uint96(burned));
        }
    }

    function burnFines() external {
        uint256 amount = pendingFines;
        if (amount == 0) revert NothingToBurn();
        pendingFines = 0;
        emit FinesBurned(amount);
        token.burn(amount);
    }

    // Parameters

    function addParameterSet(uint16 number, ParameterSet calldata added) external onlyOwner {
        if (number != parameterSetCount) revert ParameterOutOfRange("number", number);
        _checkRules(added, unbondingPeriod, maxLife);
        if (number == MOST_SETS) revert ParameterOutOfRange("number", number);
        ++parameterSetCount;
        _register |= 1 << (24 + uint256(number));
        _parameterSets[number] = Slots.pack(added);
        emit ParameterSetAdded(number, added);
    }

    function retireParameterSet(uint16 number) external onlyOwner {
        if (number >= parameterSetCount) revert UnknownParameterSet(number);
        if (!_inForce(_register, number)) revert RetiredParameterSet(number);
        _register &= ~(1 << (24 + uint256(number)));
        emit ParameterSetRetired(number);
    }

    // Views

    function account(address who) external view returns (AccountView memory) {
        Account acc = _accounts[who];
        Unbond memory leaving = _unbonding[who];
        return AccountView(acc.free(), acc.locked(), acc.seat(), acc.leavingAt(), leaving.amount, leaving.releaseAt);
    }

    function encounter(bytes32 id) external view returns (EncounterView memory) {
        Slots.Progress memory now_ = Slots.progress(_encounters[id].progress);
        return EncounterView({
            state: now_.state,
            reward: now_.reward,
            deadline: now_.deadline,
            parameterSet: now_.parameterSet,
            voted: now_.voted,
            yes: now_.yes,
            sealed_: now_.sealed_,
            record: _encounters[id].record
        });
    }

    function parameterSet(uint16 number) external view returns (ParameterSet memory rules) {
        if (number >= parameterSetCount) revert UnknownParameterSet(number);
        rules = Slots.parameterSet(_rules(number));
        rules.retired = !_inForce(_register, number);
    }

    function isUsed(address who, uint32 nonce) public view returns (bool) {
        return _used[who][nonce >> 8] >> (nonce & 255) & 1 == 1;
    }

    function lane(address learner, uint8 number) external view returns (bytes32 word, bool busy) {
        return (_lanes[learner][number & 7], _accounts[learner].isBusy(number));
    }

    function seatCount() public view returns (uint256) {
        return uint24(_register);
    }

    function seatOwner(uint24 seat) external view returns (address) {
        return _seats[seat];
    }

    function isTaken(uint24 seat) external view returns (bool) {
        return _taken[seat >> 8] >> (seat & 255) & 1 == 1;
    }

    function encounterId(Terms calldata terms) public view returns (bytes32) {
        return _typed(_domainSeparatorV4(), _hash(terms));
    }

    // Inside: parameters

    function _checkRules(ParameterSet memory added, uint40 unbondingPeriod_, uint40 maxLife_) private pure {
        if (added.validators == 0 || added.validators > 7) revert ParameterOutOfRange("validators", added.validators);
        if (added.pnBps > 10_000) revert ParameterOutOfRange("pnBps", added.pnBps);
        if (added.qBps > 10_000) revert ParameterOutOfRange("qBps", added.qBps);
        if (added.bondBps > 10_000 || added.bondBps < 10_000 - added.pnBps) {
            revert ParameterOutOfRange("bondBps", added.bondBps);
        }
        if (added.voteTime == 0 || uint256(maxLife_) + 3 * uint256(added.voteTime) > unbondingPeriod_) {
            revert ParameterOutOfRange("voteTime", added.voteTime);
        }
        if (added.retired) revert ParameterOutOfRange("retired", 1);
    }

    /// @dev A parameter set in one word, see Slots; zero if there is none.
    function _rules(uint256 number) private view returns (uint256) {
        return number == 0 ? _rules0 : _parameterSets[number];
    }

    function _inForce(uint256 register_, uint256 number) private pure returns (bool) {
        unchecked {
            return register_ >> (24 + number) & 1 == 1; // nothing is left of it from MOST_SETS on
        }
    }

    // Inside: stake and seats

    function _stake(address who, uint96 amount, uint32 nonce) private {
        if (amount == 0) revert ZeroAmount();
        _use(who, nonce);
        Account acc = _accounts[who].credit(amount);
        _accounts[who] = acc;
        emit Staked(who, amount, acc.free());
        token.safeTransferFrom(who, address(this), amount);
    }

    function _unbond(address who, uint96 amount, uint32 nonce) private {
        if (amount == 0) revert ZeroAmount();
        _use(who, nonce);
        Account acc = _accounts[who];
        if (acc.free() < amount) revert InsufficientFree(acc.free(), amount);
        acc = acc.debit(amount);
        uint256 left = acc.total();
        if (acc.seat() != 0 && acc.leavingAt() == 0 && left < minStake) revert BelowMinStake(uint96(left), minStake);
        _accounts[who] = acc;
        uint96 total = _unbonding[who].amount + amount;
        uint40 releaseAt = uint40(block.timestamp) + unbondingPeriod;
        _unbonding[who] = Unbond(total, releaseAt);
        emit Unbonding(who, amount, total, releaseAt);
    }

    function _withdraw(address who) private {
        Unbond memory leaving = _unbonding[who];
        // The amount is our own number, and zero means that there is nothing.
        // slither-disable-next-line incorrect-equality
        if (leaving.amount == 0) revert NothingUnbonding(who);
        if (block.timestamp < leaving.releaseAt) revert StillUnbonding(leaving.releaseAt, block.timestamp);
        delete _unbonding[who];
        Account acc = _accounts[who];
        // What unbonded after the announcement could be fined until now; without it the seat is worth nothing.
        if (acc.leavingAt() != 0 && acc.total() < minStake) _accounts[who] = _stand(who, acc);
        emit Withdrawn(who, leaving.amount);
        token.safeTransfer(who, leaving.amount);
    }

    function _takeSeat(address who) private {
        Account acc = _accounts[who];
        if (acc.free() < minStake) revert BelowMinStake(acc.free(), minStake);
        if (acc.seat() == 0) {
            uint256 count = seatCount();
            if (count == type(uint24).max) revert SeatsFull(count);
            ++_register;
            uint24 seat = uint24(count + 1);
            _seats[seat] = who;
            _taken[seat >> 8] |= 1 << (seat & 255);
            acc = acc.sit(seat);
        } else {
            if (acc.leavingAt() == 0) revert AlreadyValidator(acc.seat());
            acc = acc.leave(0);
        }
        _accounts[who] = acc;
        emit ValidatorRegistered(who, acc.seat());
    }

    function _leave(address who) private {
        Account acc = _accounts[who];
        if (acc.seat() == 0 || acc.leavingAt() != 0) revert NotValidator(who);
        _accounts[who] = acc.leave(uint32(block.timestamp));
        emit ValidatorLeft(who, acc.seat());
    }

    /// @dev Every fine ends here: who has lost its stake loses its seat, for good. A leaving validator keeps it for a while, so
    /// that it cannot take back votes by leaving.
    function _save(Place place, uint256 who, Account acc) private {
        if (acc.total() < minStake && acc.seat() != 0 && acc.leavingAt() == 0) {
            acc = _stand(address(uint160(who)), acc);
        }
        place.write(Account.unwrap(acc));
    }

    function _stand(address who, Account acc) private returns (Account) {
        uint24 seat = acc.seat();
        _taken[seat >> 8] &= ~(1 << (seat & 255));
        emit SeatVacated(who, seat);
        return acc.sit(0);
    }

    /// @dev An account with what a party locks when it checks in: minStake has to stay free.
    function _locking(Account acc, uint256 amount) private view returns (Account) {
        unchecked {
            uint256 needed = uint256(minStake) + amount; // two of 96 bits
            if (acc.free() < needed) revert InsufficientFree(acc.free(), needed);
        }
        return acc.lock(amount);
    }

    /// @dev Unlock an amount and apply a gain or fine to it; no fine is larger than what is unlocked.
    function _release(address who, uint96 amount, int256 delta) private {
        (Account acc, Place place) = _account(uint160(who));
        _save(place, uint160(who), acc.unlock(amount).credit(uint256(int256(uint256(amount)) + delta)));
    }

    /// @dev Take what was not locked, also out of the unbonding part. Returns what could not be had.
    function _fine(uint256 voter, uint96 amount) private returns (uint96 missing) {
        address who = address(uint160(voter));
        (Account acc, Place place) = _account(voter);
        uint96 part = acc.free() < amount ? acc.free() : amount;
        _save(place, voter, acc.debit(part));
        missing = amount - part;
        if (missing != 0) {
            uint96 leaving = _unbonding[who].amount;
            part = leaving < missing ? leaving : missing;
            _unbonding[who].amount = leaving - part;
            missing -= part;
        }
        acc = _accounts[who];
        if (missing != 0 && acc.seat() != 0) _accounts[who] = _stand(who, acc);
    }

    /// @dev Somebody's account, and where to write what becomes of it.
    function _account(uint256 who) private view returns (Account acc, Place place) {
        assembly ("memory-safe") {
            mstore(0, who)
            mstore(32, _accounts.slot)
            place := keccak256(0, 64)
        }
        acc = Account.wrap(place.read());
    }

    // Inside: nonces

    function _use(address who, uint32 nonce) private {
        if (isUsed(who, nonce)) revert NonceUsed(who, nonce);
        _used[who][nonce >> 8] |= 1 << (nonce & 255);
    }

    /// @dev Where the lane of a nonce lies.
    function _lanePlace(uint256 learner, uint256 nonce) private pure returns (Place place) {
        assembly ("memory-safe") {
            mstore(0, learner)
            mstore(32, _lanes.slot)
            mstore(32, keccak256(0, 64))
            mstore(0, and(nonce, 7))
            place := keccak256(0, 64)
        }
    }

    /// @dev What a lane remembers: the nonce, and 224 bits of the id, more than an address has. Only the nonce's own 32 bits count:
    /// terms that nobody checked (see settle) could set others in place of bits that their id lacks.
    function _laneWord(bytes32 id, uint256 nonce) private pure returns (uint256) {
        return uint256(id) >> 32 << 32 | uint32(nonce);
    }

    /// @dev The Learner's account with the lane vacated, if this encounter is the one that occupies it.
    function _vacate(bytes32 id, uint256 learner, uint256 nonce) private view returns (Account acc, Place place) {
        (acc, place) = _account(learner);
        if (!acc.isBusy(nonce) || _lanePlace(learner, nonce).read() != _laneWord(id, nonce)) revert NotOpen(id);
        acc = acc.flip(nonce);
    }

    // Inside: encounters

    function _isLearner(bytes32 id, Terms calldata terms, address who) private pure returns (bool learner) {
        learner = who == terms.learner;
        if (!learner && who != terms.neighbor) revert NotParty(id, who);
    }

    function _words(Terms calldata terms) private pure returns (Words calldata words) {
        assembly ("memory-safe") {
            words := terms
        }
    }

    /// @dev Every member fits its type; as the compiler does, it reverts without a reason.
    function _checkedWords(Terms calldata terms) private pure returns (Words calldata words) {
        words = _words(terms);
        uint256 excess = (words.learner | words.neighbor) >> 160 | words.reward >> 96;
        excess |= (words.openBy | words.reportBy) >> 40 | words.nonce >> 32 | words.seats >> 24;
        excess |= (words.toleranceBps | words.parameterSet) >> 16;
        if (excess != 0) revert();
    }

    function _checkTerms(Words calldata terms) private view {
        if (terms.learner == terms.neighbor) revert SameParty(address(uint160(terms.learner)));
        if (terms.reward == 0) revert ZeroAmount();
        if (terms.toleranceBps > 10_000) revert ParameterOutOfRange("toleranceBps", terms.toleranceBps);
        uint256 reg = _register;
        if (terms.seats > uint24(reg)) revert ParameterOutOfRange("seats", terms.seats);
        uint256 number = terms.parameterSet;
        if (!_inForce(reg, number)) {
            if (number >= parameterSetCount) revert UnknownParameterSet(uint16(number));
            revert RetiredParameterSet(uint16(number));
        }
        if (terms.openBy >= terms.reportBy) revert DeadlineOrder(uint40(terms.openBy), uint40(terms.reportBy));
        unchecked {
            uint256 latest = block.timestamp + maxLife; // of 64 and 40 bits
            if (terms.reportBy > latest) revert LifeTooLong(uint40(terms.reportBy), latest);
        }
    }

    function _checkReason(bool valid, uint8 reason) private pure {
        bool fits = valid
            ? reason <= uint8(Reason.PreviousWithheld)
            : reason <= uint8(Reason.UpdatedMalformed) && reason != uint8(Reason.PreviousWithheld);
        if (!fits) revert BadReason(valid, reason);
    }

    function _checkRecord(Encounter storage encounter_, bytes32 updated, uint192 panel) private view {
        bytes32 given = _record(updated, panel);
        if (given != encounter_.record) revert DigestMismatch(encounter_.record, given);
    }

    /// @dev The encounter in storage; one opened by signatures moves there from its nonce with its first further step.
    function _longForm(bytes32 id, Terms calldata terms)
        private
        returns (Encounter storage encounter_, Slots.Progress memory now_)
    {
        encounter_ = _encounters[id];
        now_ = Slots.progress(encounter_.progress);
        if (now_.state == State.None && terms.nonce != 0) {
            (_accounts[terms.learner],) = _vacate(id, uint160(terms.learner), terms.nonce);
            now_.state = State.Open;
            now_.reward = terms.reward;
            now_.parameterSet = terms.parameterSet;
            now_.deadline = terms.reportBy;
            now_.learnerSeat = _accounts[terms.learner].seat();
            now_.neighborSeat = _accounts[terms.neighbor].seat();
        }
    }

    function _startVoting(
        bytes32 id,
        Terms calldata terms,
        Encounter storage encounter_,
        Slots.Progress memory now_,
        bytes32 updated,
        bytes32 seed
    ) private {
        ParameterSet memory rules = Slots.parameterSet(_rules(now_.parameterSet));
        uint192 panel =
            Panel.draw(_taken, seed, terms.seats, now_.learnerSeat, now_.neighborSeat, Panel.SEATS);
        now_.state = State.Reported;
        now_.deadline = uint40(block.timestamp) + rules.voteTime;
        now_.validators = rules.validators;
        now_.sealedVoting = rules.sealedVotes;
        now_.bondBps = rules.bondBps;
        encounter_.progress = Slots.pack(now_);
        encounter_.record = _record(updated, panel);
        emit VotingStarted(id, updated, panel, now_.deadline);
    }

    function _vote(
        address voter,
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        bool valid,
        uint8 reason
    ) private {
        _checkReason(valid, reason);
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = _enter(encounter_, id, updated, panel, position, voter);
        if (now_.sealedVoting) revert VotesAreSealed(id);
        now_.voted |= uint8(1 << position);
        if (valid) now_.yes |= uint8(1 << position);
        encounter_.progress = Slots.pack(now_);
        emit VoteCast(id, voter, valid, reason);
    }

    function _seal(address voter, bytes32 id, bytes32 updated, uint192 panel, uint8 position, bytes32 commitment)
        private
    {
        Encounter storage encounter_ = _encounters[id];
        Slots.Progress memory now_ = _enter(encounter_, id, updated, panel, position, voter);
        if (!now_.sealedVoting) revert VotesAreOpen(id);
        now_.sealed_ |= uint8(1 << position);
        encounter_.progress = Slots.pack(now_);
        _seals[id][position] = _sealOf(voter, commitment);
        emit VoteSealed(id, voter, commitment);
    }

    /// @dev What is kept of a sealed vote: it names who sealed it, so that nobody opens a copied commitment in another's name.
    function _sealOf(address voter, bytes32 commitment) private pure returns (bytes32) {
        return keccak256(abi.encode(voter, commitment));
    }

    /// @dev A seat of the panel takes its one chance: checks everything and locks the bond.
    function _enter(
        Encounter storage encounter_,
        bytes32 id,
        bytes32 updated,
        uint192 panel,
        uint8 position,
        address voter
    ) private returns (Slots.Progress memory now_) {
        now_ = Slots.progress(encounter_.progress);
        if (now_.state != State.Reported) revert WrongState(id, now_.state);
        if (block.timestamp > now_.deadline) revert DeadlinePassed(now_.deadline, block.timestamp);
        _checkRecord(encounter_, updated, panel);
        Account acc = _accounts[voter];
        if (acc.seat() == 0 || Panel.seatAt(panel, position) != acc.seat()) revert NotOnPanel(id, position, voter);
        uint8 entered = now_.voted | now_.sealed_;
        if (entered >> position & 1 != 0) revert AlreadyVoted(id, position);
        uint256 votes = _count(entered);
        if (votes >= now_.validators) revert VotesComplete(id, uint8(votes));
        if (position >= now_.validators) {
            ParameterSet memory rules = Slots.parameterSet(_rules(now_.parameterSet));
            uint256 wait = uint256(rules.standbyDelay) * (position - now_.validators + 1);
            uint256 notBefore = uint256(now_.deadline) - rules.voteTime + wait;
            if (block.timestamp < notBefore) revert TooEarly(uint40(notBefore), block.timestamp);
        }
        uint96 bond = Settlement.bond(now_.reward, now_.bondBps);
        if (acc.free() < bond) revert InsufficientFree(acc.free(), bond);
        _accounts[voter] = acc.lock(bond);
    }

    /// @dev May it be paid now: V seats (or the whole panel, if smaller) have entered and opened their votes, or the time is over.
    function _checkComplete(
        Slots.Progress memory now_,
        uint256 rules,
        uint256 seats,
        uint256 votes,
        uint256 entered
    ) private view {
        uint256 needed = seats < uint8(rules) ? seats : uint8(rules);
        uint40 end = now_.deadline;
        if (now_.sealedVoting && entered != votes) {
            if (block.timestamp > end) needed = entered; // no more seals: only their opening is waited for
            end += Slots.voteTime(rules);
        }
        if (block.timestamp <= end && votes < needed) revert VotesMissing(uint8(votes), uint8(needed), end);
    }

    /// @dev May it be settled now, and with how many ballots: V, or the whole panel, if smaller.
    function _checkSettle(
        bytes32 id,
        Words calldata terms,
        uint256 rules,
        bytes32 seed,
        uint256 parties,
        uint256 length
    ) private view returns (uint256 votes) {
        votes = uint8(rules);
        if (Slots.sealedVotes(rules)) revert VotesAreSealed(id);
        unchecked {
            // Times of 40 and 32 bits; at most seven votes.
            uint256 latest = terms.reportBy + Slots.voteTime(rules);
            if (block.timestamp > latest) revert DeadlinePassed(uint40(latest), block.timestamp);
            if (length != SIGNATURE + votes * BALLOT || terms.seats == 0) {
                uint192 panel = Panel.draw(_taken, seed, terms.seats, uint24(parties), parties >> 24, votes);
                votes = Panel.size(panel);
                if (votes == 0) revert VotesMissing(0, 1, uint40(latest));
                if (length != SIGNATURE + votes * BALLOT) revert EvidenceLength(length, SIGNATURE + votes * BALLOT);
            }
        }
    }

    /// @dev The report of a settlement carries the signature of the side that the verdict costs.
    function _checkReporter(
        bytes32 separator,
        bytes32 id,
        Words calldata terms,
        bytes32 updated,
        uint256 yes,
        uint256 votes,
        bytes calldata evidence
    ) private view {
        bytes32 digest = _digest(separator, REPORT_TYPEHASH, id, updated, 0, 0, 96);
        uint256 signer = _signer(digest, _word(evidence, 0), _word(evidence, 32));
        unchecked {
            if (signer != terms.neighbor) {
                if (signer != terms.learner) _wrongSigner(terms.learner, signer);
                if (2 * yes < votes) _wrongSigner(terms.neighbor, signer);
            } else if (2 * yes > votes && block.timestamp <= terms.reportBy) {
                revert TooEarly(uint40(terms.reportBy) + 1, block.timestamp);
            }
        }
    }

    /// @dev The signatures of a report: the Learner's may be missing (zeros) when its time is over.
    function _checkReport(
        bytes32 digest,
        address learner,
        address neighbor,
        uint40 reportBy,
        bytes calldata signatures
    ) private view {
        bytes32 learnerR = _word(signatures, 0);
        if (learnerR == 0) {
            if (block.timestamp <= reportBy) revert TooEarly(reportBy + 1, block.timestamp);
        } else {
            _checkSignature(digest, learnerR, _word(signatures, 32), uint160(learner));
        }
        _checkSignature(digest, _word(signatures, 64), _word(signatures, 96), uint160(neighbor));
    }

    /// @dev Finds out who signed the ballots, which have to be those of the panel's seats in order: the draw goes on from seat to
    /// seat, and may skip only who cannot be on the panel. In assembly, since it costs most of what a settlement computes.
    /// @param panel the seats that are not drawn any more, of 24 bits each: the parties', to which it adds the voters'
    /// @return yes how many ballots say valid
    /// @return voters where the ballots begin in memory, as _voter reads them
    // The constant is shifted by the verdict on purpose: it is a table of bits.
    // slither-disable-next-line incorrect-shift
    function _tally(
        bytes32 separator,
        bytes32 id,
        bytes32 updated,
        bytes32 seed,
        uint256 seats,
        uint256 panel,
        uint256 votes,
        bytes calldata evidence
    ) private view returns (uint256 yes, uint256 voters) {
        bytes32 typehash = VOTE_TYPEHASH;
        uint256 verdict;
        uint256 voter;
        uint256 out;
        uint256 m;
        uint256 fault;
        assembly ("memory-safe") {
            m := mload(64)
            voters := add(m, 160) // behind what is hashed
            mstore(64, add(voters, mul(VOTER, votes)))
            let at := add(evidence.offset, SIGNATURE)
            let last := 256
            let k := 0
            for { out := voters } lt(out, mload(64)) { out := add(out, VOTER) } {
                verdict := byte(0, calldataload(at))
                if xor(verdict, last) {
                    // valid | reason << 1: Accuracy 1 and 0, PreviousWithheld 3, UpdatedWithheld 4, UpdatedMalformed 6.
                    if iszero(and(shr(verdict, 0x5b), 1)) {
                        fault := 1
                        break
                    }
                    mstore(m, typehash)
                    mstore(add(m, 32), id)
                    mstore(add(m, 64), updated)
                    mstore(add(m, 96), and(verdict, 1))
                    mstore(add(m, 128), shr(1, verdict))
                    let hash := keccak256(m, 160)
                    mstore(m, shl(240, 0x1901))
                    mstore(add(m, 2), separator)
                    mstore(add(m, 34), hash)
                    mstore(m, keccak256(m, 66)) // the digest, which stays there until the verdict changes
                    last := verdict
                }
                // Who signed: as in _signer.
                let vs := calldataload(add(at, 33))
                let s := shr(1, shl(1, vs))
                mstore(add(m, 32), add(shr(255, vs), 27))
                mstore(add(m, 64), calldataload(add(at, 1)))
                mstore(add(m, 96), s)
                mstore(0, 0)
                if iszero(gt(s, HALF_ORDER)) { pop(staticcall(gas(), 1, m, 128, 0, 32)) }
                voter := mload(0)
                if iszero(voter) {
                    fault := 2
                    break
                }
                mstore(32, _accounts.slot)
                let place := keccak256(0, 64)
                let acc := sload(place)
                let seat := and(shr(192, acc), 0xffffff)
                for {} 1 {} {
                    if eq(k, 64) {
                        fault := 3
                        break
                    }
                    mstore(0, seed)
                    mstore(32, k)
                    k := add(k, 1)
                    let drawn := add(mod(keccak256(0, 64), seats), 1)
                    // All seats of the panel at once: where one equals `drawn`, the difference is zero, and a zero is what subtracting
                    // 1 makes negative.
                    let differ := xor(panel, mul(drawn, SEATS_ONES))
                    if and(and(sub(differ, SEATS_ONES), not(differ)), SEATS_HIGHS) { continue }
                    if eq(drawn, seat) { break }
                    mstore(0, shr(8, drawn))
                    mstore(32, _taken.slot)
                    if and(shr(and(drawn, 255), sload(keccak256(0, 64))), 1) {
                        fault := 3
                        break
                    }
                }
                if fault { break }
                panel := or(shl(24, panel), seat)
                let valid := and(verdict, 1)
                yes := add(yes, valid)
                mstore(out, or(shl(160, valid), voter))
                mstore(add(out, 32), place)
                mstore(add(out, 64), acc)
                at := add(at, BALLOT)
            }
        }
        if (fault != 0) _badBallot(fault, id, verdict, voter, (out - voters) / VOTER, m);
    }

    /// @dev Why _tally stopped, in the terms of its variables.
    function _badBallot(uint256 fault, bytes32 id, uint256 verdict, uint256 voter, uint256 number, uint256 m)
        private
        pure
    {
        bytes32 digest;
        assembly ("memory-safe") {
            digest := mload(m)
        }
        if (fault == 1) revert BadReason(verdict & 1 == 1, uint8(verdict >> 1));
        if (fault == 2) revert BadSignature(digest);
        revert NotOnPanel(id, uint8(number), address(uint160(voter)));
    }

    /// @dev A ballot as _tally left it: its verdict, whose it is, where that account lies and what it holds.
    function _voter(uint256 at) private pure returns (uint256 valid, uint256 who, Place place, Account acc) {
        assembly ("memory-safe") {
            let word := mload(at)
            valid := shr(160, word)
            who := xor(word, shl(160, valid))
            place := mload(add(at, 32))
            acc := mload(add(at, 64))
        }
    }

    /// @dev The revert data of the last call, cut off where nothing of ours is longer.
    function _returned() private pure returns (bytes memory data) {
        assembly ("memory-safe") {
            data := mload(64)
            let size := returndatasize()
            if gt(size, 256) { size := 256 }
            mstore(data, size)
            mstore(add(add(data, 32), size), 0)
            returndatacopy(add(data, 32), 0, size)
            mstore(64, add(data, 320))
        }
    }

    function _word(bytes calldata data, uint256 at) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, at))
        }
    }

    /// @dev The EIP-712 digest of a struct of static members, of which the first `length` bytes count (its type hash included).
    function _digest(
        bytes32 separator,
        bytes32 typehash,
        bytes32 a,
        bytes32 b,
        uint256 c,
        uint256 d,
        uint256 length
    ) private pure returns (bytes32) {
        bytes32 hash;
        assembly ("memory-safe") {
            let free_ := mload(64)
            mstore(free_, typehash)
            mstore(add(free_, 32), a)
            mstore(add(free_, 64), b)
            mstore(add(free_, 96), c)
            mstore(add(free_, 128), d)
            hash := keccak256(free_, length)
        }
        return _typed(separator, hash);
    }

    function _typed(bytes32 separator, bytes32 hash) private pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let free_ := mload(64)
            mstore(free_, shl(240, 0x1901))
            mstore(add(free_, 2), separator)
            mstore(add(free_, 34), hash)
            digest := keccak256(free_, 66)
        }
    }

    /// @dev The EIP-712 struct hash of terms, straight from calldata.
    function _hash(Terms calldata terms) private pure returns (bytes32 hash) {
        bytes32 typehash = TERMS_TYPEHASH;
        assembly ("memory-safe") {
            let free_ := mload(64)
            mstore(free_, typehash)
            calldatacopy(add(free_, 32), terms, TERMS)
            hash := keccak256(free_, add(TERMS, 32))
        }
    }

    /// @dev What the draw starts from; checks that the salts are those that both sides committed to.
    function _seed(bytes32 id, Terms calldata terms, bytes32 learnerSalt, bytes32 neighborSalt)
        private
        pure
        returns (bytes32 seed)
    {
        bytes32 salts;
        assembly ("memory-safe") {
            mstore(0, learnerSalt)
            let one := keccak256(0, 32)
            mstore(0, neighborSalt)
            mstore(32, keccak256(0, 32))
            mstore(0, one)
            salts := keccak256(0, 64)
            let free_ := mload(64)
            mstore(free_, id)
            mstore(add(free_, 32), learnerSalt)
            mstore(add(free_, 64), neighborSalt)
            seed := keccak256(free_, 96)
        }
        if (salts != terms.salts) revert SaltMismatch(terms.salts, salts);
    }

    function _record(bytes32 updated, uint192 panel) private pure returns (bytes32) {
        return keccak256(abi.encode(updated, panel));
    }

    // Inside: signatures

    function _checkSignature(bytes32 digest, bytes32 r, bytes32 vs, uint256 expected) private view {
        uint256 signer = _signer(digest, r, vs);
        if (signer != expected) _wrongSigner(expected, signer);
    }

    function _wrongSigner(uint256 expected, uint256 signer) private pure {
        revert WrongSigner(address(uint160(expected)), address(uint160(signer)));
    }

    /// @dev Who signed; reverts where nobody did. EIP-2098: the highest bit of vs is the parity, the rest s, which is in the lower
    /// half, so that nobody can make a second signature out of one.
    function _signer(bytes32 digest, bytes32 r, bytes32 vs) private view returns (uint256 signer) {
        assembly ("memory-safe") {
            let s := shr(1, shl(1, vs))
            if iszero(gt(s, HALF_ORDER)) {
                let free_ := mload(64)
                mstore(free_, digest)
                mstore(add(free_, 32), add(shr(255, vs), 27))
                mstore(add(free_, 64), r)
                mstore(add(free_, 96), s)
                mstore(0, 0)
                pop(staticcall(gas(), 1, free_, 128, 0, 32))
                signer := mload(0)
            }
        }
        if (signer == 0) revert BadSignature(digest);
    }

    function _count(uint8 bits) private pure returns (uint256 ones) {
        unchecked {
            for (; bits != 0; bits &= bits - 1) ++ones;
        }
    }
}
