// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base} from "./Base.sol";
import {IIdmlEscrow} from "../src/interfaces/IIdmlEscrow.sol";
import {Settlement} from "../src/libraries/Settlement.sol";
import {Slots} from "../src/libraries/Slots.sol";

/// @notice The pay table: what holds for every reward, every vote and every parameter set that the contract accepts.
contract SettlementTest is Base {
    uint256 private constant BPS = 10_000;

    struct Case {
        uint96 reward;
        uint8 yes;
        uint8 no;
        uint16 pn;
        uint16 q;
        uint16 bond;
    }

    function settle(Case memory c) private pure returns (Settlement.Payoff memory pay, uint256 rules) {
        c.reward = uint96(within(c.reward, 1, type(uint96).max));
        c.yes = uint8(within(c.yes, 0, 7));
        c.no = uint8(within(c.no, 0, 7 - c.yes));
        c.pn = uint16(within(c.pn, 0, BPS));
        c.q = uint16(within(c.q, 0, BPS));
        c.bond = uint16(within(c.bond, BPS - c.pn, BPS));
        rules = Slots.pack(IIdmlEscrow.ParameterSet(7, c.pn, c.q, c.bond, 0, 1, false, false));
        pay = Settlement.settle(c.reward, c.yes, c.no, rules);
    }

    function test_nothing_is_made_and_nothing_is_lost(Case memory c) external pure {
        (Settlement.Payoff memory pay,) = settle(c);
        int256 votes = int256(uint256(c.yes)) * pay.eachYes + int256(uint256(c.no)) * pay.eachNo;
        same(
            pay.learnerRefund - int256(uint256(c.reward)) + pay.neighborDelta + votes + pay.burned, 0, "sum of movements"
        );
    }

    function test_no_fine_is_greater_than_what_is_locked_for_it(Case memory c) external pure {
        (Settlement.Payoff memory pay,) = settle(c);
        int256 reward = int256(uint256(c.reward));
        int256 bond = int256(uint256(Settlement.bond(c.reward, c.bond)));
        check(pay.neighborDelta >= -reward, "the Neighbor's fine");
        check(pay.eachYes >= -bond && pay.eachNo >= -bond, "a bond");
        check(pay.learnerRefund >= 0 && pay.learnerRefund <= reward, "the refund");
        check(pay.burned >= 0, "burning");
    }

    function test_lost_bonds_are_burned_in_full(Case memory c) external pure {
        (Settlement.Payoff memory pay,) = settle(c);
        int256 lost = (pay.eachYes < 0 ? -pay.eachYes * int256(uint256(c.yes)) : int256(0))
            + (pay.eachNo < 0 ? -pay.eachNo * int256(uint256(c.no)) : int256(0));
        check(pay.burned >= lost, "bonds that somebody else got");
    }

    function test_the_majority_never_loses_and_the_minority_never_gains(Case memory c) external pure {
        (Settlement.Payoff memory pay,) = settle(c);
        if (c.yes > c.no) check(pay.eachYes >= 0 && pay.eachNo <= 0 && pay.neighborDelta >= 0, "valid work");
        if (c.no > c.yes) check(pay.eachNo >= 0 && pay.eachYes <= 0 && pay.neighborDelta <= 0, "invalid work");
        if (c.no == c.yes) check(pay.eachNo == 0 && pay.eachYes == 0 && pay.neighborDelta == 0, "no verdict");
    }

    function test_what_is_paid_is_at_most_the_share_of_the_table(Case memory c) external pure {
        (Settlement.Payoff memory pay,) = settle(c);
        if (c.yes <= c.no) return;
        uint256 votes = uint256(c.yes) + c.no;
        uint256 exact = uint256(c.reward) * c.pn * c.yes;
        same(uint256(pay.neighborDelta), exact / (BPS * votes), "the Neighbor's pay");
        same(uint256(pay.eachYes), uint256(c.reward) * (BPS - c.pn) / (BPS * c.yes), "a voter's pay");
    }

    function test_a_bond_is_rounded_up(uint96 reward, uint16 share) external pure {
        share = uint16(within(share, 0, BPS));
        uint256 bond = Settlement.bond(reward, share);
        check(bond * BPS >= uint256(reward) * share, "too small");
        check(bond <= reward && (bond == 0 || (bond - 1) * BPS < uint256(reward) * share), "too large");
    }
}
