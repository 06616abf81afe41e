// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base} from "./Base.sol";
import {IdmlEscrow} from "../src/IdmlEscrow.sol";
import {IdmlToken} from "../src/IdmlToken.sol";
import {IIdmlEscrow} from "../src/interfaces/IIdmlEscrow.sol";
import {Panel} from "../src/libraries/Panel.sol";
import {Settlement} from "../src/libraries/Settlement.sol";

/// @notice Plays random lives of encounters through both doors. Every step may be out of place: then the contract has to refuse it.
contract Field is Base {
    uint256 public constant PEOPLE = 7;
    uint256 public constant PLACES = 10;
    uint96 public constant MIN_STAKE = 5 ether;
    uint40 public constant VOTE_TIME = 600;
    bytes32 private constant LEARNER_SALT = keccak256("learner");
    bytes32 private constant NEIGHBOR_SALT = keccak256("neighbor");

    IdmlToken public immutable token;
    IdmlEscrow public immutable escrow;

    address[] private people;
    mapping(address => uint256) private keys;
    IIdmlEscrow.Terms[] private terms; // at most PLACES under way
    bytes32[] private digests;
    uint192[] private panels;
    bytes32[] public ended;
    mapping(uint256 => mapping(uint256 => bytes32)) private sealed_; // place, position: salt (0: none)
    mapping(uint256 => mapping(uint256 => bool)) private sealedValid;
    uint32 private nonces;
    uint32 private lanes;
    address private lastSender;
    bytes private lastCall;
    uint256 public done;
    uint256 public settled;
    mapping(bytes4 => uint256) public did; // by function
    mapping(string => uint256) public reached; // ends, by their names

    address private immutable creator = msg.sender;

    constructor() {
        token = new IdmlToken();
        escrow = new IdmlEscrow(
            token, MIN_STAKE, 20_000, 10_000, IIdmlEscrow.ParameterSet(3, 7000, 3000, 3000, 60, 600, false, false), address(this)
        );
        escrow.addParameterSet(1, IIdmlEscrow.ParameterSet(2, 5000, 10_000, 7000, 10, 600, true, false));
        escrow.addParameterSet(2, IIdmlEscrow.ParameterSet(5, 10_000, 0, 0, 0, 600, false, false));
        vm.deal(address(this), 1000 ether);
        for (uint256 i; i < PEOPLE; ++i) {
            people.push(vm.addr(1 + i));
            keys[people[i]] = 1 + i;
            vm.deal(who(i), 100 ether);
            vm.prank(who(i));
            token.buy{value: 1 ether}(0);
            vm.prank(who(i));
            token.approve(address(escrow), type(uint256).max);
            vm.prank(who(i));
            escrow.stake(60 ether, nonces++);
            if (i >= 5) continue;
            vm.prank(who(i));
            escrow.registerValidator();
        }
    }

    // Who and what there is

    function who(uint256 i) public view returns (address) {
        return people[i % PEOPLE];
    }

    function places() external view returns (uint256) {
        return terms.length;
    }

    function idAt(uint256 place) public view returns (bytes32) {
        return escrow.encounterId(terms[place]);
    }

    function termsAt(uint256 place) external view returns (IIdmlEscrow.Terms memory) {
        return terms[place];
    }

    function isBusy(uint256 place) public view returns (bool) {
        IIdmlEscrow.Terms memory t = terms[place];
        if (t.nonce == 0) return false;
        (bytes32 word, bool busy) = escrow.lane(t.learner, uint8(t.nonce & 7));
        return busy && uint256(word) >> 32 == uint256(idAt(place)) >> 32 && uint32(uint256(word)) == t.nonce;
    }

    /// @notice What an encounter locks, by what the contract says of it.
    function locksOf(uint256 place) external view returns (uint256) {
        IIdmlEscrow.EncounterView memory now_ = escrow.encounter(idAt(place));
        if (now_.state == IIdmlEscrow.State.None) return isBusy(place) ? 2 * uint256(terms[place].reward) : 0;
        if (now_.state == IIdmlEscrow.State.LearnerCheckedIn || now_.state == IIdmlEscrow.State.NeighborCheckedIn) {
            return now_.reward;
        }
        if (now_.state > IIdmlEscrow.State.Reported) return 0;
        uint256 bond = Settlement.bond(now_.reward, escrow.parameterSet(now_.parameterSet).bondBps);
        uint256 entered;
        for (uint256 bits = now_.voted | now_.sealed_; bits != 0; bits &= bits - 1) {
            ++entered;
        }
        return 2 * uint256(now_.reward) + bond * entered;
    }

    // Steps

    function propose(uint256 learner, uint256 neighbor, uint96 reward, uint8 set, bool signed, bool half) external {
        _makeRoom();
        if (terms.length == PLACES) return;
        uint40 now_ = uint40(block.timestamp);
        terms.push(
            IIdmlEscrow.Terms({
                learner: who(learner),
                neighbor: who(neighbor),
                algorithm: "oppcl",
                architecture: bytes32(done),
                previous: bytes32(terms.length),
                reward: uint96(within(reward, 1, 20 ether)),
                toleranceBps: 200,
                parameterSet: set % 3,
                openBy: now_ + 300,
                reportBy: now_ + 900,
                salts: keccak256(
                    abi.encode(keccak256(abi.encode(LEARNER_SALT)), keccak256(abi.encode(NEIGHBOR_SALT)))
                ),
                seats: uint24(escrow.seatCount()),
                nonce: signed ? ++lanes : 0
            })
        );
        digests.push(0);
        panels.push(0);
        uint256 place = terms.length - 1;
        for (uint256 i; i < 8; ++i) {
            delete sealed_[place][i];
        }
        if (signed) {
            openSigned(place);
        } else {
            checkIn(place, half);
            if (!half) checkIn(place, true);
        }
    }

    function checkIn(uint256 place, bool neighbor) public {
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        _do(neighbor ? t.neighbor : t.learner, abi.encodeCall(escrow.checkIn, (t)));
    }

    function openSigned(uint256 place) public {
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        bytes32 id = escrow.encounterId(t);
        (bytes32 lr, bytes32 lvs) = _sign(t.learner, id);
        (bytes32 nr, bytes32 nvs) = _sign(t.neighbor, id);
        _do(who(place), abi.encodeCall(escrow.openSigned, (t, lr, lvs, nr, nvs)));
    }

    function report(uint256 place, bool neighbor, uint8 which) external {
        place = _aim(place, IIdmlEscrow.State.Open, IIdmlEscrow.State.NeighborReported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        bytes32 updated = keccak256(abi.encode(which % 4 == 0));
        uint192 panel = _draw(t);
        if (_do(neighbor ? t.neighbor : t.learner, abi.encodeCall(escrow.report, (t, updated, LEARNER_SALT, NEIGHBOR_SALT))))
        {
            _remember(place, updated, panel);
        }
    }

    function reportSigned(uint256 place, bool alone) external {
        place = _aim(place, IIdmlEscrow.State.Open, IIdmlEscrow.State.NeighborReported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        bytes32 updated = keccak256("signed");
        uint192 panel = _draw(t);
        bytes memory neighbor = _signature(t.neighbor, _reportDigest(t, updated));
        bytes memory learner = alone ? new bytes(64) : _signature(t.learner, _reportDigest(t, updated));
        bytes memory call = abi.encodeCall(
            escrow.reportSigned, (t, updated, LEARNER_SALT, NEIGHBOR_SALT, bytes.concat(learner, neighbor))
        );
        if (_do(who(place), call)) _remember(place, updated, panel);
    }

    function closeReporting(uint256 place) public {
        place = _aim(place, IIdmlEscrow.State.NeighborReported, IIdmlEscrow.State.NeighborReported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        uint192 panel = _draw(t);
        if (_do(who(place), abi.encodeCall(escrow.closeReporting, (t, LEARNER_SALT, NEIGHBOR_SALT)))) {
            panels[place % terms.length] = panel;
        }
    }

    function vote(uint256 place, uint8 position, bool valid, bool signed, uint8 odd) external {
        place = _aim(place, IIdmlEscrow.State.Reported, IIdmlEscrow.State.Reported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        place %= terms.length;
        if (panels[place] == 0) return;
        position = uint8(position % Panel.size(panels[place]));
        bytes32 id = escrow.encounterId(t);
        address voter = escrow.seatOwner(Panel.seatAt(panels[place], position));
        bool seals = escrow.parameterSet(t.parameterSet).sealedVotes;
        if (odd % 8 == 0) seals = !seals;
        if (seals) return _seal(place, id, position, valid, voter, signed);
        if (!signed) {
            _do(voter, abi.encodeCall(escrow.vote, (id, digests[place], panels[place], position, valid, 0)));
            return;
        }
        (bytes32 r, bytes32 vs) = _sign(voter, _voteDigest(id, digests[place], valid));
        _do(who(position), abi.encodeCall(escrow.voteSigned, (id, digests[place], panels[place], position, valid, 0, r, vs)));
    }

    function reveal(uint256 place, uint8 position) external {
        place = _aim(place, IIdmlEscrow.State.Reported, IIdmlEscrow.State.Reported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        place %= terms.length;
        position %= 8;
        for (uint256 i; i < 8 && sealed_[place][position] == 0; ++i) {
            position = (position + 1) % 8;
        }
        address voter = escrow.seatOwner(Panel.seatAt(panels[place], position));
        bytes memory call = abi.encodeCall(
            escrow.reveal,
            (escrow.encounterId(t), position, voter, sealedValid[place][position], 0, sealed_[place][position])
        );
        _do(who(place), call);
    }

    function finalise(uint256 place) public {
        place = _aim(place, IIdmlEscrow.State.Reported, IIdmlEscrow.State.Reported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        place %= terms.length;
        IIdmlEscrow.EncounterView memory before = escrow.encounter(idAt(place));
        if (!_do(who(place), abi.encodeCall(escrow.finalise, (t, digests[place], panels[place])))) return;
        ++settled;
        ++reached[string.concat("finalised, ", _verdict(before.yes, before.voted & ~before.yes))];
        if (before.sealed_ & ~before.voted != 0) ++reached["finalised, a seal unopened"];
    }

    function settle(uint256 place, uint8 verdicts) external {
        place = _aim(place, IIdmlEscrow.State.None, IIdmlEscrow.State.None);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        bytes32 id = escrow.encounterId(t);
        uint256 most = escrow.parameterSet(t.parameterSet).validators;
        uint192 panel = _draw(t);
        uint256 ayes;
        bytes memory ballots;
        for (uint256 i; i < most && i < Panel.size(panel); ++i) {
            bool valid = verdicts >> i & 1 == 1;
            if (valid) ++ayes;
            address voter = escrow.seatOwner(Panel.seatAt(panel, i));
            ballots = bytes.concat(
                ballots, bytes1(valid ? 1 : 0), _signature(voter, _voteDigest(id, keccak256("signed"), valid))
            );
        }
        bool paid = 2 * ayes > ballots.length / 65;
        bytes memory signature = _signature(paid ? t.learner : t.neighbor, _reportDigest(t, keccak256("signed")));
        bytes memory call = abi.encodeCall(
            escrow.settle, (t, keccak256("signed"), LEARNER_SALT, NEIGHBOR_SALT, bytes.concat(signature, ballots))
        );
        if (!_do(who(place), call)) return;
        ++settled;
        ++reached[string.concat("settled, ", _verdict(ayes, ballots.length / 65 - ayes))];
    }

    function expire(uint256 place) public {
        place = _aim(place, IIdmlEscrow.State.None, IIdmlEscrow.State.LearnerReported);
        IIdmlEscrow.Terms memory t = _at(place);
        if (t.learner == address(0)) return;
        IIdmlEscrow.State state = escrow.encounter(idAt(place % terms.length)).state;
        if (!_do(who(place), abi.encodeCall(escrow.expire, (t)))) return;
        if (state == IIdmlEscrow.State.None) ++reached["expired in a lane"];
        else if (state == IIdmlEscrow.State.Open) ++reached["expired open"];
        else if (state == IIdmlEscrow.State.LearnerReported) ++reached["expired after the Learner's report"];
        else ++reached["expired half checked in"];
    }

    function stake(uint256 person, uint96 amount) external {
        _do(who(person), abi.encodeCall(escrow.stake, (uint96(within(amount, 1, 10 ether)), nonces++)));
    }

    function unbond(uint256 person, uint96 amount) external {
        _do(who(person), abi.encodeCall(escrow.unbond, (uint96(within(amount, 1, 60 ether)), nonces++)));
    }

    function withdraw(uint256 person) external {
        _do(who(person), abi.encodeCall(escrow.withdraw, ()));
    }

    function seatOf(uint256 person, uint8 what) external {
        if (what % 4 == 0) _do(who(person), abi.encodeCall(escrow.leaveValidator, ()));
        else if (what % 4 == 1) _do(who(person), abi.encodeCall(escrow.registerValidator, ()));
        else _do(who(person % PEOPLE + 1), abi.encodeCall(escrow.dismiss, (who(person))));
    }

    function burnFines() external {
        _do(who(0), abi.encodeCall(escrow.burnFines, ()));
    }

    function warp(uint16 seconds_) external {
        vm.warp(block.timestamp + (seconds_ % 8 == 0 ? uint256(seconds_) : seconds_ % 100));
    }

    /// @notice Any step executed twice has one effect: the second time it is refused.
    function again() external {
        if (lastCall.length == 0) return;
        vm.prank(lastSender);
        (bool ok,) = address(escrow).call(lastCall);
        check(!ok, "a step was done twice");
    }

    /// @notice Anyone brings everything to its end, once all deadlines are over.
    function end() external {
        if (msg.sender != creator) return;
        uint256 time = block.timestamp; // read once: the compiler takes it for the same all through a transaction
        for (uint256 round = 1; round <= 2; ++round) {
            vm.warp(time + 5_000 * round);
            for (uint256 place; place < terms.length; ++place) {
                closeReporting(place);
                expire(place);
                if (round == 2) finalise(place);
            }
        }
    }

    // Inside

    function _do(address sender, bytes memory call) private returns (bool ok) {
        vm.prank(sender);
        bytes memory reason;
        (ok, reason) = address(escrow).call(call);
        if (ok) {
            ++done;
            ++did[bytes4(call)];
            lastSender = sender;
            lastCall = call;
        } else {
            check(reason.length >= 4 && bytes4(reason) != 0x4e487b71, "a refusal without a custom error");
        }
    }

    function _at(uint256 place) private view returns (IIdmlEscrow.Terms memory t) {
        if (terms.length != 0) t = terms[place % terms.length];
    }

    /// @dev Mostly an encounter that is in one of these states, if there is one: at random few steps would be in place. None: in a lane.
    function _aim(uint256 place, IIdmlEscrow.State from, IIdmlEscrow.State to) private view returns (uint256) {
        if (place % 8 == 0) return place;
        for (uint256 i; i < terms.length; ++i) {
            uint256 at = (place % PLACES + i) % terms.length;
            IIdmlEscrow.State state = escrow.encounter(idAt(at)).state;
            bool open = state != IIdmlEscrow.State.None || isBusy(at);
            if (open && (from <= state && state <= to || from == IIdmlEscrow.State.Open && isBusy(at))) return at;
        }
        return place;
    }

    function _verdict(uint256 yes, uint256 no) private pure returns (string memory) {
        if (yes != 0 && no != 0) return "split";
        return yes != 0 ? "valid" : no != 0 ? "invalid" : "no votes";
    }

    function _remember(uint256 place, bytes32 updated, uint192 panel) private {
        place %= terms.length;
        digests[place] = updated;
        if (escrow.encounter(idAt(place)).state == IIdmlEscrow.State.Reported) panels[place] = panel;
    }

    function _seal(uint256 place, bytes32 id, uint8 position, bool valid, address voter, bool signed) private {
        bytes32 salt = keccak256(abi.encode(done));
        bytes32 commitment = keccak256(abi.encode(id, voter, valid, uint8(0), salt));
        bytes memory call =
            abi.encodeCall(escrow.seal, (id, digests[place], panels[place], position, commitment));
        if (signed) {
            bytes32 typehash = keccak256("Seal(bytes32 encounter,bytes32 updated,bytes32 commitment)");
            (bytes32 r, bytes32 vs) = _sign(voter, _typed(keccak256(abi.encode(typehash, id, digests[place], commitment))));
            call = abi.encodeCall(
                escrow.sealSigned, (id, digests[place], panels[place], position, commitment, r, vs)
            );
        }
        if (_do(voter, call)) (sealed_[place][position], sealedValid[place][position]) = (salt, valid);
    }

    /// @dev Ended encounters make room; their ids are kept, to see that they stay ended.
    function _makeRoom() private {
        while (terms.length != 0) {
            uint256 place = terms.length - 1;
            IIdmlEscrow.State state = escrow.encounter(idAt(place)).state;
            if (state < IIdmlEscrow.State.Settled && (state != IIdmlEscrow.State.None || isBusy(place))) return;
            if (ended.length < 20) ended.push(idAt(place));
            terms.pop();
            digests.pop();
            panels.pop();
        }
    }

    function _draw(IIdmlEscrow.Terms memory t) private view returns (uint192 panel) {
        uint256 seats;
        bytes32 seed = keccak256(abi.encode(escrow.encounterId(t), LEARNER_SALT, NEIGHBOR_SALT));
        for (uint256 k; k < Panel.LIMIT && seats < Panel.SEATS && t.seats != 0; ++k) {
            uint256 seat = uint256(keccak256(abi.encode(seed, k))) % t.seats + 1;
            bool skip = !escrow.isTaken(uint24(seat)) || seat == escrow.account(t.learner).seat
                || seat == escrow.account(t.neighbor).seat || Panel.contains(panel, 24 * seats, seat);
            if (!skip) panel |= uint192(seat << (24 * seats++));
        }
    }

    function _typed(bytes32 hash) private view returns (bytes32) {
        bytes32 domain = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator =
            keccak256(abi.encode(domain, keccak256("iDML"), keccak256("1"), block.chainid, address(escrow)));
        return keccak256(abi.encodePacked(hex"1901", separator, hash));
    }

    function _reportDigest(IIdmlEscrow.Terms memory t, bytes32 updated) private view returns (bytes32) {
        bytes32 typehash = keccak256("Report(bytes32 encounter,bytes32 updated)");
        return _typed(keccak256(abi.encode(typehash, escrow.encounterId(t), updated)));
    }

    function _voteDigest(bytes32 id, bytes32 updated, bool valid) private view returns (bytes32) {
        bytes32 typehash = keccak256("Vote(bytes32 encounter,bytes32 updated,bool valid,uint8 reason)");
        return _typed(keccak256(abi.encode(typehash, id, updated, valid, uint8(0))));
    }

    function _sign(address signer, bytes32 digest) private view returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(keys[signer], digest);
        vs = bytes32(uint256(s) | uint256(v - 27) << 255);
    }

    function _signature(address signer, bytes32 digest) private view returns (bytes memory) {
        (bytes32 r, bytes32 vs) = _sign(signer, digest);
        return bytes.concat(r, vs);
    }
}

/// @notice What holds after every step of every life.
contract LifeTest is Base {
    Field private field;
    IdmlEscrow private escrow;

    function setUp() external {
        field = new Field();
        escrow = field.escrow();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(field);
    }

    /// @notice The field can do what it tries: each way to an end works.
    function test_every_way_through_is_open() external {
        field.propose(5, 6, 1 ether, 0, false, false);
        field.report(0, true, 1);
        field.report(0, false, 1);
        for (uint8 position; position < 3; ++position) {
            field.vote(0, position, position != 1, position == 2, 1);
        }
        field.finalise(0);
        same(field.settled(), 1, "direct");
        field.propose(5, 6, 1 ether, 0, true, false);
        field.settle(0, 5);
        same(field.settled(), 2, "signed");
        field.propose(5, 6, 1 ether, 1, true, false);
        field.reportSigned(0, false);
        for (uint8 position; position < 2; ++position) {
            field.vote(0, position, true, position == 1, 1);
        }
        for (uint8 position; position < 2; ++position) {
            field.reveal(0, position);
        }
        field.finalise(0);
        same(field.settled(), 3, "sealed");
        uint256 before = field.done();
        field.propose(5, 6, 1 ether, 0, false, false);
        vm.warp(block.timestamp + 901);
        field.expire(0);
        same(field.done(), before + 3, "expired");
        field.again();
    }

    /// @notice Lives at random, but always the same ones, take every step and come to every end: so do the campaign's, more or less often.
    function test_lives_at_random_take_every_step_and_come_to_every_end() external {
        for (uint256 step; step < 6000; ++step) {
            _step(uint256(keccak256(abi.encode(step))));
        }
        bytes4[20] memory steps = [
            escrow.checkIn.selector,
            escrow.openSigned.selector,
            escrow.report.selector,
            escrow.reportSigned.selector,
            escrow.closeReporting.selector,
            escrow.vote.selector,
            escrow.voteSigned.selector,
            escrow.seal.selector,
            escrow.sealSigned.selector,
            escrow.reveal.selector,
            escrow.finalise.selector,
            escrow.settle.selector,
            escrow.expire.selector,
            escrow.stake.selector,
            escrow.unbond.selector,
            escrow.withdraw.selector,
            escrow.leaveValidator.selector,
            escrow.dismiss.selector,
            escrow.registerValidator.selector,
            escrow.burnFines.selector
        ];
        for (uint256 i; i < steps.length; ++i) {
            check(field.did(steps[i]) != 0, string.concat("never done: step ", vm.toString(i)));
        }
        string[12] memory ends = [
            "finalised, valid",
            "finalised, invalid",
            "finalised, split",
            "finalised, no votes",
            "finalised, a seal unopened",
            "settled, valid",
            "settled, invalid",
            "settled, split",
            "expired in a lane",
            "expired open",
            "expired after the Learner's report",
            "expired half checked in"
        ];
        for (uint256 i; i < ends.length; ++i) {
            check(field.reached(ends[i]) != 0, string.concat("never reached: ", ends[i]));
        }
        this.invariant_money_seats_and_ends();
        this.afterInvariant();
    }

    function _step(uint256 any) private {
        uint256 place = any >> 8 & 0xffff;
        uint8 small = uint8(any >> 24);
        bool one = any >> 32 & 1 == 1;
        bool two = any >> 33 & 1 == 1;
        uint96 amount = uint96(any >> 40);
        uint256 what = any % 20;
        if (what == 0) field.propose(place, place >> 4, amount, small, one, two);
        else if (what == 1) field.checkIn(place, one);
        else if (what == 2) field.openSigned(place);
        else if (what == 3) field.report(place, one, small);
        else if (what == 4) field.reportSigned(place, one);
        else if (what == 5) field.closeReporting(place);
        else if (what < 8) field.vote(place, small, one, two, uint8(amount));
        else if (what == 8) field.reveal(place, small);
        else if (what == 9) field.finalise(place);
        else if (what == 10) field.settle(place, small);
        else if (what == 11) field.expire(place);
        else if (what == 12) field.stake(place, amount);
        else if (what == 13) field.unbond(place, amount);
        else if (what == 14) field.withdraw(place);
        else if (what == 15) field.seatOf(place, small);
        else if (what == 16) field.burnFines();
        else if (what == 17) field.again();
        else field.warp(uint16(place));
    }

    /// @notice One campaign for all: each would need one of its own.
    function invariant_money_seats_and_ends() external view {
        _theEscrowHoldsExactlyWhatItOwes();
        _seatsAreHeldOnceAndNeverComeBack();
        _whatHasEndedStaysEnded();
    }

    function _theEscrowHoldsExactlyWhatItOwes() private view {
        uint256 owed = escrow.pendingFines();
        uint256 locked;
        for (uint256 i; i < field.PEOPLE(); ++i) {
            IIdmlEscrow.AccountView memory one = escrow.account(field.who(i));
            owed += uint256(one.free) + one.locked + one.unbonding;
            locked += one.locked;
        }
        same(field.token().balanceOf(address(escrow)), owed, "tokens held and owed");
        uint256 expected;
        for (uint256 place; place < field.places(); ++place) {
            expected += field.locksOf(place);
        }
        same(locked, expected, "locked, and locked by encounters");
        check(address(field.token()).balance * field.token().RATE() >= field.token().totalSupply(), "backing");
    }

    function _seatsAreHeldOnceAndNeverComeBack() private view {
        uint256 held;
        for (uint256 i; i < field.PEOPLE(); ++i) {
            IIdmlEscrow.AccountView memory one = escrow.account(field.who(i));
            if (one.seat == 0) {
                same(one.leavingAt, 0, "leaving without a seat");
                continue;
            }
            ++held;
            check(escrow.isTaken(one.seat), "a seat that cannot be drawn");
            check(escrow.seatOwner(one.seat) == field.who(i), "another's seat");
            check(one.leavingAt != 0 || uint256(one.free) + one.locked >= field.MIN_STAKE(), "a seat without stake");
        }
        uint256 taken;
        for (uint24 seat = 1; seat <= escrow.seatCount(); ++seat) {
            if (escrow.isTaken(seat)) ++taken;
        }
        same(taken, held, "seats taken and held");
    }

    function _whatHasEndedStaysEnded() private view {
        for (uint256 i; i < 20; ++i) {
            try field.ended(i) returns (bytes32 id) {
                IIdmlEscrow.State state = escrow.encounter(id).state;
                check(state >= IIdmlEscrow.State.Settled || state == IIdmlEscrow.State.None, "alive again");
            } catch {
                return;
            }
        }
    }

    /// @notice At the end of each life: everything has an exit that anyone can take, and all money comes home.
    function afterInvariant() external {
        field.end();
        for (uint256 i; i < field.PEOPLE(); ++i) {
            same(escrow.account(field.who(i)).locked, 0, "locked for ever");
        }
    }
}
