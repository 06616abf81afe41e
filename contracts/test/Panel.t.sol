// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base} from "./Base.sol";
import {Panel} from "../src/libraries/Panel.sol";

/// @notice The draw, for every seed and every pattern of taken seats.
contract PanelTest is Base {
    mapping(uint256 => uint256) private taken;

    function draw(bytes32 seed, uint16 count, uint256 low, uint256 high, uint24 first, uint24 second, uint256 wanted)
        private
        returns (uint192)
    {
        taken[0] = low;
        taken[1] = high;
        return Panel.draw(taken, seed, within(count, 0, 511), first, second, wanted);
    }

    function test_a_panel_holds_only_seats_that_may_be_drawn_and_each_once(
        bytes32 seed,
        uint16 count,
        uint256 low,
        uint256 high,
        uint24 first,
        uint24 second,
        uint8 wanted
    ) external {
        uint256 most = within(wanted, 1, Panel.SEATS);
        uint192 panel = draw(seed, count, low, high, first, second, most);
        uint256 seats = Panel.size(panel);
        check(seats <= most, "too many");
        for (uint256 i; i < seats; ++i) {
            uint256 seat = Panel.seatAt(panel, i);
            check(seat >= 1 && seat <= within(count, 0, 511), "no such seat");
            check((seat < 256 ? low >> seat : high >> (seat - 256)) & 1 == 1, "not taken");
            check(seat != first && seat != second, "a party");
            for (uint256 j; j < i; ++j) {
                check(Panel.seatAt(panel, j) != seat, "twice");
            }
        }
        same(Panel.seatAt(panel, seats), 0, "the end");
    }

    function test_a_shorter_panel_is_the_beginning_of_a_longer_one(
        bytes32 seed,
        uint16 count,
        uint256 low,
        uint24 first,
        uint8 wanted
    ) external {
        uint256 most = within(wanted, 1, Panel.SEATS - 1);
        uint192 short = draw(seed, count, low, low, first, 0, most);
        uint192 long = draw(seed, count, low, low, first, 0, Panel.SEATS);
        same(uint256(long) & ((1 << (24 * Panel.size(short))) - 1), short, "another panel");
    }

    function test_with_enough_seats_a_panel_is_full(bytes32 seed) external {
        uint192 panel = draw(seed, 255, type(uint256).max, 0, 0, 0, Panel.SEATS);
        same(Panel.size(panel), Panel.SEATS, "seats");
    }
}
