// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title The token of the incentive mechanism
/// @notice ERC-20 with permit (ERC-2612). Native coin buys tokens at a fixed rate and tokens can be sold back at it (iDML
/// step 0). The contract always holds enough native coin to redeem every token: balance * RATE >= totalSupply.
interface IIdmlToken is IERC20 {
    /// @notice Native coin came in and tokens were made: value in wei, amount in base units.
    event Bought(address indexed buyer, uint256 value, uint256 amount);
    /// @notice Tokens were destroyed and native coin paid out: amount in base units, value in wei.
    event Sold(address indexed seller, uint256 amount, uint256 value);

    /// @notice The seller's address did not accept the native coin.
    error PaymentRefused(address to, uint256 value);
    /// @notice Only whole wei can be paid back: the amount must be a positive multiple of the rate.
    error NotRedeemable(uint256 amount, uint256 rate);
    /// @notice So many tokens may not exist: balances must fit the escrow's packed fields. supply is what it would be.
    error SupplyExceeded(uint256 supply, uint256 maximum);
    /// @notice This exchange was done: every nonce of an account serves once, so that a transaction executed twice has one effect.
    error NonceUsed(address account, uint32 nonce);
    /// @notice Nothing to exchange.
    error ZeroAmount();

    /// @notice Token base units per wei.
    function RATE() external view returns (uint256);

    /// @notice Token base units that can exist at most: 2^96 - 1.
    function MAX_SUPPLY() external view returns (uint256);

    /// @notice Exchange the native coin sent along for tokens.
    /// @param nonce any number this account has not used yet, for a purchase or a sale
    function buy(uint32 nonce) external payable returns (uint256 amount);

    /// @notice Exchange tokens for native coin.
    /// @param amount token base units, a multiple of RATE
    /// @param nonce any number this account has not used yet, for a purchase or a sale
    function sell(uint256 amount, uint32 nonce) external returns (uint256 value);

    /// @notice Destroy own tokens; their native coin stays in the contract for good.
    /// @param amount token base units
    function burn(uint256 amount) external;

    /// @notice Whether an account has used a nonce.
    function isUsed(address account, uint32 nonce) external view returns (bool);
}
