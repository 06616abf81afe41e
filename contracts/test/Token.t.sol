// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Base} from "./Base.sol";
import {IdmlToken} from "../src/IdmlToken.sol";
import {IIdmlToken} from "../src/interfaces/IIdmlToken.sol";

/// @notice A seller that takes no coin.
contract Refusing {
    function trade(IdmlToken token) external payable {
        token.buy{value: msg.value}(1);
        token.sell(token.balanceOf(address(this)), 2);
    }
}

contract TokenTest is Base {
    IdmlToken private token;

    function setUp() external {
        token = new IdmlToken();
    }

    receive() external payable {}

    function test_what_was_bought_can_be_sold_for_the_same(uint96 value) external {
        value = uint96(within(value, 1, token.MAX_SUPPLY() / token.RATE()));
        vm.deal(address(this), value);
        uint256 amount = token.buy{value: value}(1);
        same(amount, uint256(value) * token.RATE(), "bought");
        check(address(token).balance * token.RATE() >= token.totalSupply(), "backing");
        same(token.sell(amount, 2), value, "sold");
        same(address(this).balance, value, "coins");
        same(token.totalSupply(), 0, "supply");
    }

    function test_a_nonce_serves_once(uint32 nonce, uint8 times) external {
        vm.deal(address(this), 1000);
        token.buy{value: 10}(nonce);
        check(token.isUsed(address(this), nonce), "not used");
        bytes memory used = abi.encodeWithSelector(IIdmlToken.NonceUsed.selector, address(this), nonce);
        for (uint256 i; i < within(times, 1, 3); ++i) {
            vm.expectRevert(used);
            token.buy{value: 10}(nonce);
        }
        vm.expectRevert(used);
        token.sell(1000, nonce);
        same(token.balanceOf(address(this)), 10 * token.RATE(), "tokens");
    }

    function test_no_more_tokens_than_the_escrow_can_hold(uint256 value) external {
        uint256 most = token.MAX_SUPPLY() / token.RATE();
        value = within(value, most + 1, type(uint128).max);
        vm.deal(address(this), value);
        vm.expectPartialRevert(IIdmlToken.SupplyExceeded.selector);
        token.buy{value: value}(1);
    }

    function test_only_whole_wei_are_redeemed(uint256 amount) external {
        vm.deal(address(this), 1 ether);
        token.buy{value: 1 ether}(1);
        vm.assume(amount % token.RATE() != 0);
        vm.expectPartialRevert(IIdmlToken.NotRedeemable.selector);
        token.sell(amount, 2);
    }

    function test_a_seller_that_refuses_coins_keeps_its_tokens() external {
        Refusing refusing = new Refusing();
        vm.deal(address(this), 5);
        vm.expectPartialRevert(IIdmlToken.PaymentRefused.selector);
        refusing.trade{value: 5}(token);
        same(token.balanceOf(address(refusing)), 0, "tokens");
    }

    function test_burned_tokens_never_unback_the_others(uint96 value, uint96 burned) external {
        value = uint96(within(value, 1, 10 ** 20));
        vm.deal(address(this), value);
        uint256 amount = token.buy{value: value}(1);
        token.burn(within(burned, 0, amount));
        check(address(token).balance * token.RATE() >= token.totalSupply(), "backing");
    }
}
