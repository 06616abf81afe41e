// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The panel draw
/// @notice Mirrors contracts/panel.py. A panel is up to SEATS seat numbers (from 1) of 24 bits each, the first in the lowest
/// bits; a zero ends it.
library Panel {
    uint256 internal constant SEATS = 8;
    uint256 internal constant LIMIT = 64;

    /// @notice Draw seats, skipping duplicates, the two excluded and those not in the bitmap.
    /// @param eligible bit (seat & 255) of word (seat >> 8) is set when the seat may be drawn
    /// @param seed what nobody could choose alone
    /// @param count seats that take part: 1 to count
    /// @param wanted seats to draw, at most SEATS
    function draw(
        mapping(uint256 => uint256) storage eligible,
        bytes32 seed,
        uint256 count,
        uint256 excluded1,
        uint256 excluded2,
        uint256 wanted
    ) internal view returns (uint192 panel) {
        if (count == 0) return 0;
        uint256 packed = 0;
        uint256 shift = 0;
        uint256 loaded = 0;
        uint256 word = eligible[0];
        unchecked {
            for (uint256 k; k < LIMIT; ++k) {
                uint256 seat = drawn(seed, k, count);
                if (seat >> 8 != loaded) {
                    loaded = seat >> 8;
                    word = eligible[loaded];
                }
                uint256 bit = 1 << (seat & 255);
                if (word & bit == 0 || seat == excluded1 || seat == excluded2) continue;
                word ^= bit; // a duplicate is not eligible, as long as this word stays loaded
                if (count > 255 && contains(packed, shift, seat)) continue;
                packed |= seat << shift;
                shift += 24;
                if (shift == 24 * wanted) break;
            }
        }
        return uint192(packed);
    }

    /// @notice Draw k: a seat from 1 to count, which must not be zero.
    function drawn(bytes32 seed, uint256 k, uint256 count) internal pure returns (uint256 seat) {
        assembly ("memory-safe") {
            mstore(0, seed)
            mstore(32, k)
            seat := add(mod(keccak256(0, 64), count), 1)
        }
    }

    /// @notice The seat at a position; zero when there is none.
    function seatAt(uint192 panel, uint256 position) internal pure returns (uint24) {
        return position < SEATS ? uint24(panel >> (24 * position)) : 0;
    }

    /// @notice How many seats a panel has.
    function size(uint192 panel) internal pure returns (uint256 seats) {
        unchecked {
            for (; panel != 0; panel >>= 24) ++seats;
        }
    }

    /// @notice Whether a seat is among the first used / 24 of a panel.
    function contains(uint256 packed, uint256 used, uint256 seat) internal pure returns (bool) {
        unchecked {
            for (uint256 at; at < used; at += 24) {
                if (uint24(packed >> at) == seat) return true;
            }
        }
        return false;
    }
}
