// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {IIdmlToken} from "./interfaces/IIdmlToken.sol";

/// @notice See IIdmlToken.
contract IdmlToken is IIdmlToken, ERC20Permit {
    uint256 public constant RATE = 1000;
    uint256 public constant MAX_SUPPLY = type(uint96).max;

    mapping(address => mapping(uint256 => uint256)) private _used; // a bit per nonce

    constructor() ERC20("iDML", "IDML") ERC20Permit("iDML") {}

    function buy(uint32 nonce) external payable returns (uint256 amount) {
        _use(nonce);
        if (msg.value == 0) revert ZeroAmount();
        amount = msg.value * RATE;
        _mint(msg.sender, amount);
        if (totalSupply() > MAX_SUPPLY) revert SupplyExceeded(totalSupply(), MAX_SUPPLY);
        emit Bought(msg.sender, msg.value, amount);
    }

    function sell(uint256 amount, uint32 nonce) external returns (uint256 value) {
        _use(nonce);
        if (amount == 0 || amount % RATE != 0) revert NotRedeemable(amount, RATE);
        value = amount / RATE;
        _burn(msg.sender, amount);
        emit Sold(msg.sender, amount, value);
        (bool taken, ) = msg.sender.call{value: value}("");
        if (!taken) revert PaymentRefused(msg.sender, value);
    }

    function burn(uint256 amount) external {
        _burn(msg.sender, amount);
    }

    function isUsed(address account, uint32 nonce) public view returns (bool) {
        return _used[account][nonce >> 8] >> (nonce & 255) & 1 == 1;
    }

    function _use(uint32 nonce) private {
        if (isUsed(msg.sender, nonce)) revert NonceUsed(msg.sender, nonce);
        _used[msg.sender][nonce >> 8] |= 1 << (nonce & 255);
    }
}
