// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IIdmlEscrow} from "../interfaces/IIdmlEscrow.sol";

/// @notice A participant in one word, from the lowest bits up: free (96), locked (96), seat (24), leavingAt (32), busy lanes (8).
/// The supply of the token is below 2^96, so that sums of balances never overflow a field.
type Account is uint256;

using {free, locked, total, seat, leavingAt, isBusy, flip, credit, debit, lock, unlock, sit, leave} for Account global;

/// @notice A storage slot of one word: whoever reads it and writes it later looks it up, which means hashing, once.
type Place is bytes32;

using {read, write} for Place global;

function read(Place place) view returns (uint256 word) {
    assembly ("memory-safe") {
        word := sload(place)
    }
}

function write(Place place, uint256 word) {
    assembly ("memory-safe") {
        sstore(place, word)
    }
}

function free(Account a) pure returns (uint96) {
    return uint96(Account.unwrap(a));
}

function locked(Account a) pure returns (uint96) {
    return uint96(Account.unwrap(a) >> 96);
}

/// @dev Free and locked.
function total(Account a) pure returns (uint256) {
    unchecked {
        return uint256(a.free()) + a.locked();
    }
}

/// @dev The validator seat it holds; zero for none.
function seat(Account a) pure returns (uint24) {
    return uint24(Account.unwrap(a) >> 192);
}

/// @dev When it announced that it leaves its seat; zero when it stays.
function leavingAt(Account a) pure returns (uint40) {
    return uint32(Account.unwrap(a) >> 216);
}

/// @dev Whether an encounter that was opened by signatures occupies the lane of a nonce.
function isBusy(Account a, uint256 nonce) pure returns (bool) {
    return Account.unwrap(a) >> (248 | nonce & 7) & 1 == 1;
}

/// @dev The lane of a nonce changes from vacant to busy or back.
function flip(Account a, uint256 nonce) pure returns (Account) {
    return Account.wrap(Account.unwrap(a) ^ 1 << (248 | nonce & 7));
}

/// @dev The caller makes sure that free + amount < 2^96.
function credit(Account a, uint256 amount) pure returns (Account) {
    unchecked {
        return Account.wrap(Account.unwrap(a) + amount);
    }
}

/// @dev The caller makes sure that amount <= free.
function debit(Account a, uint256 amount) pure returns (Account) {
    unchecked {
        return Account.wrap(Account.unwrap(a) - amount);
    }
}

/// @dev From free to locked; the caller makes sure that amount <= free.
function lock(Account a, uint256 amount) pure returns (Account) {
    unchecked {
        return Account.wrap(Account.unwrap(a) - amount + (amount << 96));
    }
}

/// @dev Out of locked, into nothing: `credit` says where it goes. The caller makes sure that amount <= locked.
function unlock(Account a, uint256 amount) pure returns (Account) {
    unchecked {
        return Account.wrap(Account.unwrap(a) - (amount << 96));
    }
}

/// @dev With this seat, staying; seat zero takes the seat away.
function sit(Account a, uint24 seat_) pure returns (Account) {
    return Account.wrap(Account.unwrap(a) & ~(uint256(type(uint56).max) << 192) | uint256(seat_) << 192);
}

/// @dev On the same seat, leaving since a time; time zero takes the announcement back.
function leave(Account a, uint32 since) pure returns (Account) {
    return Account.wrap(Account.unwrap(a) & ~(uint256(type(uint32).max) << 216) | uint256(since) << 216);
}

/// @title One storage slot per thing
/// @notice Packs what is read and written together into one word: the compiler's own packing would read and write the slot once per
/// member. Members lie from the lowest bits up, in the order of their declaration.
library Slots {
    /// @notice Where an encounter stands. The parties' seats are those at their check-in; validators, sealedVoting and bondBps are
    /// copied from the parameter set when voting starts.
    struct Progress {
        IIdmlEscrow.State state;
        uint96 reward;
        uint40 deadline;
        uint16 parameterSet;
        uint8 voted;
        uint8 yes;
        uint8 sealed_;
        uint24 learnerSeat;
        uint24 neighborSeat;
        uint8 validators;
        bool sealedVoting;
        uint16 bondBps;
    }

    function pack(Progress memory p) internal pure returns (uint256) {
        return uint256(p.state) | uint256(p.reward) << 8 | uint256(p.deadline) << 104 | uint256(p.parameterSet) << 144
            | uint256(p.voted) << 160 | uint256(p.yes) << 168 | uint256(p.sealed_) << 176
            | uint256(p.learnerSeat) << 184 | uint256(p.neighborSeat) << 208 | uint256(p.validators) << 232
            | (p.sealedVoting ? 1 << 239 : 0) | uint256(p.bondBps) << 240;
    }

    function progress(uint256 word) internal pure returns (Progress memory p) {
        p.state = IIdmlEscrow.State(uint8(word));
        p.reward = uint96(word >> 8);
        p.deadline = uint40(word >> 104);
        p.parameterSet = uint16(word >> 144);
        p.voted = uint8(word >> 160);
        p.yes = uint8(word >> 168);
        p.sealed_ = uint8(word >> 176);
        p.learnerSeat = uint24(word >> 184);
        p.neighborSeat = uint24(word >> 208);
        p.validators = uint8(word >> 232) & 127;
        p.sealedVoting = word >> 239 & 1 == 1;
        p.bondBps = uint16(word >> 240);
    }

    /// @dev Never zero for a valid set: validators is at least 1. `retired` is kept elsewhere.
    function pack(IIdmlEscrow.ParameterSet memory s) internal pure returns (uint256) {
        return uint256(s.validators) | uint256(s.pnBps) << 8 | uint256(s.qBps) << 24 | uint256(s.bondBps) << 40
            | uint256(s.standbyDelay) << 56 | uint256(s.voteTime) << 88 | (s.sealedVotes ? 1 << 120 : 0);
    }

    function pnBps(uint256 rules) internal pure returns (uint256) {
        return uint16(rules >> 8);
    }

    function qBps(uint256 rules) internal pure returns (uint256) {
        return uint16(rules >> 24);
    }

    function bondBps(uint256 rules) internal pure returns (uint16) {
        return uint16(rules >> 40);
    }

    function voteTime(uint256 rules) internal pure returns (uint32) {
        return uint32(rules >> 88);
    }

    function sealedVotes(uint256 rules) internal pure returns (bool) {
        return rules >> 120 & 1 == 1;
    }

    function parameterSet(uint256 word) internal pure returns (IIdmlEscrow.ParameterSet memory s) {
        s.validators = uint8(word);
        s.pnBps = uint16(word >> 8);
        s.qBps = uint16(word >> 24);
        s.bondBps = uint16(word >> 40);
        s.standbyDelay = uint32(word >> 56);
        s.voteTime = uint32(word >> 88);
        s.sealedVotes = word >> 120 & 1 == 1;
    }
}
