// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base} from "./Base.sol";
import {IdmlEscrow} from "../src/IdmlEscrow.sol";
import {IdmlToken} from "../src/IdmlToken.sol";
import {IIdmlEscrow} from "../src/interfaces/IIdmlEscrow.sol";
import {Settlement} from "../src/libraries/Settlement.sol";

/// @notice Settlements among more seats than one word of the bitmap holds, against a reference that draws and pays in plain words.
contract TallyTest is Base {
    uint256 private constant SEATS = 280; // of which every ninth is empty
    uint256 private constant STAKE = 60 ether;
    bytes32 private constant LEARNER_SALT = keccak256("learner");
    bytes32 private constant NEIGHBOR_SALT = keccak256("neighbor");
    bytes32 private constant UPDATED = keccak256("updated");

    IdmlToken private token;
    IdmlEscrow private escrow;
    mapping(uint256 => address) private holders; // by seat, which is also the key

    function setUp() external {
        token = new IdmlToken();
        IIdmlEscrow.ParameterSet memory rules = IIdmlEscrow.ParameterSet(3, 7000, 3000, 3000, 60, 600, false, false);
        escrow = new IdmlEscrow(token, 5 ether, 20_000, 10_000, rules, address(this));
        escrow.addParameterSet(1, IIdmlEscrow.ParameterSet(7, 5000, 10_000, 7000, 10, 600, false, false));
        vm.deal(address(this), 1000 ether);
        token.buy{value: 100 ether}(1);
        for (uint256 seat = 1; seat <= SEATS + 2; ++seat) {
            address one = holders[seat] = vm.addr(seat); // of the last two neither has a seat
            token.transfer(one, STAKE);
            vm.prank(one);
            token.approve(address(escrow), STAKE);
            vm.prank(one);
            escrow.stake(uint96(STAKE), 1);
            if (seat > SEATS) continue;
            vm.prank(one);
            escrow.registerValidator();
            if (seat % 9 != 0) continue;
            vm.prank(one);
            escrow.leaveValidator();
        }
        vm.warp(block.timestamp + 20_000);
        for (uint256 seat = 9; seat <= SEATS; seat += 9) {
            escrow.dismiss(holders[seat]);
        }
    }

    function test_a_settlement_pays_the_first_of_the_panel_and_nobody_else(
        uint256 learner,
        uint256 neighbor,
        uint96 reward,
        uint24 seats,
        uint8 verdicts,
        bytes32 previous
    ) external {
        IIdmlEscrow.Terms memory t;
        (learner, neighbor) = (within(learner, 1, SEATS + 2), within(neighbor, 1, SEATS + 2));
        vm.assume(learner != neighbor);
        (t.learner, t.neighbor, t.previous) = (holders[learner], holders[neighbor], previous);
        t.reward = uint96(within(reward, 1, STAKE - 5 ether));
        t.parameterSet = uint16(verdicts >> 7);
        t.openBy = uint40(block.timestamp) + 300;
        t.reportBy = t.openBy + 600;
        t.seats = uint24(within(seats, 1, SEATS));
        t.nonce = 1;
        t.salts = keccak256(abi.encode(keccak256(abi.encode(LEARNER_SALT)), keccak256(abi.encode(NEIGHBOR_SALT))));
        bytes32 id = escrow.encounterId(t);
        {
            (bytes32 lr, bytes32 lvs) = _sign(learner, id);
            (bytes32 nr, bytes32 nvs) = _sign(neighbor, id);
            escrow.openSigned(t, lr, lvs, nr, nvs);
        }
        uint256[] memory panel = _panel(id, t.seats, learner, neighbor, t.parameterSet == 0 ? 3 : 7);
        if (panel.length == 0) return;
        uint256 yes = _settle(t, id, panel, verdicts, learner, neighbor);
        _check(t, panel, verdicts, yes);
    }

    function _settle(
        IIdmlEscrow.Terms memory t,
        bytes32 id,
        uint256[] memory panel,
        uint8 verdicts,
        uint256 learner,
        uint256 neighbor
    ) private returns (uint256 yes) {
        bytes memory ballots;
        for (uint256 i; i < panel.length; ++i) {
            uint256 valid = verdicts >> i & 1;
            yes += valid;
            bytes32 typehash = keccak256("Vote(bytes32 encounter,bytes32 updated,bool valid,uint8 reason)");
            (bytes32 r, bytes32 vs) = _sign(panel[i], _typed(keccak256(abi.encode(typehash, id, UPDATED, valid, 0))));
            ballots = bytes.concat(ballots, bytes1(uint8(valid)), r, vs);
        }
        bytes32 report = keccak256(abi.encode(keccak256("Report(bytes32 encounter,bytes32 updated)"), id, UPDATED));
        (bytes32 rr, bytes32 rvs) = _sign(2 * yes < panel.length ? neighbor : learner, _typed(report));
        escrow.settle(t, UPDATED, LEARNER_SALT, NEIGHBOR_SALT, bytes.concat(rr, rvs, ballots));
    }

    function _check(IIdmlEscrow.Terms memory t, uint256[] memory panel, uint8 verdicts, uint256 yes) private view {
        IIdmlEscrow.ParameterSet memory rules = escrow.parameterSet(t.parameterSet);
        uint256 packed = uint256(rules.pnBps) << 8 | uint256(rules.qBps) << 24 | uint256(rules.bondBps) << 40;
        Settlement.Payoff memory pay = Settlement.settle(t.reward, yes, panel.length - yes, packed);
        int256 all;
        for (uint256 seat = 1; seat <= SEATS + 2; ++seat) {
            address one = holders[seat];
            int256 expected;
            if (one == t.learner) expected = pay.learnerRefund - int256(uint256(t.reward));
            if (one == t.neighbor) expected = pay.neighborDelta;
            for (uint256 i; i < panel.length; ++i) {
                if (panel[i] == seat) expected = verdicts >> i & 1 == 1 ? pay.eachYes : pay.eachNo;
            }
            IIdmlEscrow.AccountView memory found = escrow.account(one);
            same(int256(uint256(found.free)) - int256(STAKE), expected, "what an account gained");
            same(found.locked, 0, "still locked");
            bool member = seat <= SEATS && seat % 9 != 0 && found.free >= 5 ether;
            same(found.seat, member ? seat : 0, "the seat");
            all += expected;
        }
        same(-all, int256(escrow.pendingFines()), "burned");
    }

    /// @dev The seats that vote, which are also the keys of who holds them.
    function _panel(bytes32 id, uint256 seats, uint256 learner, uint256 neighbor, uint256 most)
        private
        pure
        returns (uint256[] memory panel)
    {
        bytes32 seed = keccak256(abi.encode(id, LEARNER_SALT, NEIGHBOR_SALT));
        uint256[] memory drawn = new uint256[](most);
        uint256 size;
        for (uint256 k; k < 64 && size < most; ++k) {
            uint256 seat = uint256(keccak256(abi.encode(seed, k))) % seats + 1;
            bool skipped = seat % 9 == 0 || seat == learner || seat == neighbor;
            for (uint256 i; i < size; ++i) {
                if (drawn[i] == seat) skipped = true;
            }
            if (!skipped) drawn[size++] = seat;
        }
        panel = new uint256[](size);
        for (uint256 i; i < size; ++i) {
            panel[i] = drawn[i];
        }
    }

    function _typed(bytes32 hash) private view returns (bytes32) {
        bytes32 domain = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 separator =
            keccak256(abi.encode(domain, keccak256("iDML"), keccak256("1"), block.chainid, address(escrow)));
        return keccak256(abi.encodePacked(hex"1901", separator, hash));
    }

    function _sign(uint256 key, bytes32 digest) private pure returns (bytes32 r, bytes32 vs) {
        (uint8 v, bytes32 r_, bytes32 s) = vm.sign(key, digest);
        return (r_, bytes32(uint256(s) | uint256(v - 27) << 255));
    }
}
