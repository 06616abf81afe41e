// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IIdmlEscrow} from "../interfaces/IIdmlEscrow.sol";

/// @title One storage slot per thing
/// @notice Packs what is read and written together into one word: the compiler's own packing would read and write the slot once per
/// member. Members lie from the lowest bits up, in the order of their declaration.
library Slots {
    /// @notice A participant.
    struct Account {
        uint96 free;
        uint96 locked;
        uint24 seat;
        bool active;
    }

    /// @notice Where an encounter stands; see IIdmlEscrow.EncounterView. The parties' seats are those at their check-in.
    struct Progress {
        IIdmlEscrow.State state;
        uint96 reward;
        uint40 deadline;
        uint24 seatCount;
        uint16 parameterSet;
        uint8 voted;
        uint8 yes;
        uint24 learnerSeat;
        uint24 neighborSeat;
    }

    function pack(Account memory a) internal pure returns (uint256) {
        return uint256(a.free) | uint256(a.locked) << 96 | uint256(a.seat) << 192 | (a.active ? 1 << 216 : 0);
    }

    function account(uint256 word) internal pure returns (Account memory a) {
        a.free = uint96(word);
        a.locked = uint96(word >> 96);
        a.seat = uint24(word >> 192);
        a.active = word >> 216 & 1 == 1;
    }

    function pack(Progress memory p) internal pure returns (uint256) {
        return uint256(p.state) | uint256(p.reward) << 8 | uint256(p.deadline) << 104 | uint256(p.seatCount) << 144
            | uint256(p.parameterSet) << 168 | uint256(p.voted) << 184 | uint256(p.yes) << 192
            | uint256(p.learnerSeat) << 200 | uint256(p.neighborSeat) << 224;
    }

    function progress(uint256 word) internal pure returns (Progress memory p) {
        p.state = IIdmlEscrow.State(uint8(word));
        p.reward = uint96(word >> 8);
        p.deadline = uint40(word >> 104);
        p.seatCount = uint24(word >> 144);
        p.parameterSet = uint16(word >> 168);
        p.voted = uint8(word >> 184);
        p.yes = uint8(word >> 192);
        p.learnerSeat = uint24(word >> 200);
        p.neighborSeat = uint24(word >> 224);
    }

    /// @dev Never zero for a valid set: validators is at least 1.
    function pack(IIdmlEscrow.ParameterSet memory s) internal pure returns (uint256) {
        return uint256(s.validators) | uint256(s.pnBps) << 8 | uint256(s.qBps) << 24 | uint256(s.bondBps) << 40
            | uint256(s.standbyDelay) << 56 | uint256(s.voteTime) << 88 | (s.retired ? 1 << 120 : 0);
    }

    function parameterSet(uint256 word) internal pure returns (IIdmlEscrow.ParameterSet memory s) {
        s.validators = uint8(word);
        s.pnBps = uint16(word >> 8);
        s.qBps = uint16(word >> 24);
        s.bondBps = uint16(word >> 40);
        s.standbyDelay = uint32(word >> 56);
        s.voteTime = uint32(word >> 88);
        s.retired = word >> 120 & 1 == 1;
    }
}
