// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @notice What of forge's cheatcodes these tests use.
interface Vm {
    function warp(uint256 time) external;
    function prank(address sender) external;
    function deal(address who, uint256 balance) external;
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function store(address target, bytes32 slot, bytes32 value) external;
    function toString(uint256 number) external pure returns (string memory);
    function assume(bool condition) external pure;
    function expectRevert(bytes calldata data) external;
    function expectPartialRevert(bytes4 selector) external;
    function snapshotState() external returns (uint256 id);
    function revertToState(uint256 id) external returns (bool);
}

/// @notice Checks that say what differs.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error Differs(string what, int256 found, int256 expected);
    error NotSo(string what);

    function check(bool condition, string memory what) internal pure {
        if (!condition) revert NotSo(what);
    }

    function same(uint256 found, uint256 expected, string memory what) internal pure {
        if (found != expected) revert Differs(what, int256(found), int256(expected));
    }

    function same(int256 found, int256 expected, string memory what) internal pure {
        if (found != expected) revert Differs(what, found, expected);
    }

    /// @notice A number from low to high, from any number.
    function within(uint256 any, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + any % (high - low + 1);
    }
}
