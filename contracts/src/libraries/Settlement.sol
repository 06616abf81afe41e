// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Slots} from "./Slots.sol";

/// @title The pay table
/// @notice Mirrors contracts/settlement.py line by line. One rule for every division: what is paid out rounds down, what is
/// taken rounds up, and the difference is burned; in case 1 it returns to the Learner.
library Settlement {
    int256 internal constant BPS = 10_000;

    /// @notice Movements in token base units; learnerRefund - reward + neighborDelta + yes * eachYes + no * eachNo + burned == 0.
    struct Payoff {
        uint8 number;
        int256 learnerRefund;
        int256 neighborDelta;
        int256 eachYes;
        int256 eachNo;
        int256 burned;
    }

    /// @notice What a voter locks: the reward's share bondBps, rounded up.
    function bond(uint256 reward, uint256 bondBps) internal pure returns (uint96) {
        unchecked {
            return uint96((reward * bondBps + 9_999) / 10_000); // bondBps <= 10,000: at most the reward
        }
    }

    /// @notice The amounts of cases 1 to 5.
    /// @param reward_ below 2^96, as yes_ and no_ are below 2^8
    /// @param rules a parameter set in one word, see Slots
    /// @dev unchecked: every product is below 2^96 * 2^14 * 2^8, every divisor is positive
    function settle(uint256 reward_, uint256 yes_, uint256 no_, uint256 rules)
        internal
        pure
        returns (Payoff memory pay)
    {
        unchecked {
            int256 reward = int256(reward_);
            int256 yes = int256(yes_);
            int256 no = int256(no_);
            int256 votes = yes + no;
            int256 pn = int256(Slots.pnBps(rules));
            int256 pv = BPS - pn;
            int256 q = int256(Slots.qBps(rules));
            int256 lost = int256(uint256(bond(reward_, Slots.bondBps(rules))));
            if (yes == no) {
                pay.number = 5;
                pay.learnerRefund = reward;
            } else if (no == 0) {
                pay.number = 1;
                pay.neighborDelta = reward * pn / BPS;
                pay.eachYes = reward * pv / (BPS * yes);
                pay.learnerRefund = reward - pay.neighborDelta - yes * pay.eachYes; // dust
            } else if (yes == 0) {
                pay.number = 2;
                pay.neighborDelta = -reward;
                pay.eachNo = reward * q / (BPS * no);
                pay.learnerRefund = reward;
            } else if (yes > no) {
                pay.number = 3;
                pay.neighborDelta = reward * pn * yes / (BPS * votes);
                pay.eachYes = reward * pv / (BPS * yes);
                pay.eachNo = -lost;
                pay.learnerRefund = reward * pn * no / (BPS * votes);
            } else {
                pay.number = 4;
                pay.neighborDelta = -((reward * no + votes - 1) / votes);
                pay.eachYes = -lost;
                pay.eachNo = reward * q / (BPS * votes);
                pay.learnerRefund = reward;
            }
            pay.burned = reward - pay.learnerRefund - pay.neighborDelta - yes * pay.eachYes - no * pay.eachNo;
        }
    }
}
