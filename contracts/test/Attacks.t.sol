// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {Base} from "./Base.sol";
import {IdmlEscrow} from "../src/IdmlEscrow.sol";
import {IdmlToken} from "../src/IdmlToken.sol";
import {IIdmlEscrow} from "../src/interfaces/IIdmlEscrow.sol";
import {IIdmlToken} from "../src/interfaces/IIdmlToken.sol";
import {Account} from "../src/libraries/Slots.sol";

/// @notice A token that does not keep to the rules, in the way asked for.
contract OddToken {
    enum Way {
        CallBack,
        ReturnFalse,
        ReturnNothing,
        TakeFee
    }

    Way private immutable way;
    mapping(address => uint256) public balanceOf;
    bytes public call;
    uint256 public calls;
    bool public ok;

    constructor(Way way_) {
        way = way_;
    }

    function give(address who, uint256 amount) external {
        balanceOf[who] += amount;
    }

    function callBack(bytes calldata call_) external {
        call = call_;
    }

    function transferFrom(address from, address to, uint256 amount) public returns (bool) {
        return move(from, to, amount);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return move(msg.sender, to, amount);
    }

    function move(address from, address to, uint256 amount) private returns (bool) {
        if (way == Way.ReturnFalse) return false;
        balanceOf[from] -= amount;
        balanceOf[to] += way == Way.TakeFee ? amount * 99 / 100 : amount;
        if (way == Way.CallBack && call.length != 0) {
            ++calls;
            bytes memory once = call;
            delete call;
            (ok,) = Holder(from == msg.sender ? to : from).relay(msg.sender, once);
        }
        if (way == Way.ReturnNothing) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }
}

/// @notice An account of the escrow that is a contract: the hook of its token calls the escrow in its name.
contract Holder {
    function relay(address to, bytes calldata call) external returns (bool ok, bytes memory data) {
        return to.call(call);
    }
}

/// @notice Attacks that need contracts of the attacker's: the others are in tests/contracts/test_attacks.py.
contract AttacksTest is Base {
    uint256 private constant ACCOUNTS = 6; // slots of IdmlEscrow's mappings
    uint256 private constant LANES = 9;

    IdmlToken private token;
    IdmlEscrow private escrow;

    function setUp() external {
        token = new IdmlToken();
        escrow = escrowOf(address(token));
    }

    receive() external payable {
        revert NotSo("coins are not wanted");
    }

    function escrowOf(address token_) private returns (IdmlEscrow) {
        IIdmlEscrow.ParameterSet memory rules = IIdmlEscrow.ParameterSet(3, 7000, 3000, 3000, 60, 600, false, false);
        return new IdmlEscrow(IIdmlToken(token_), 5 ether, 20_000, 10_000, rules, address(this));
    }

    function odd(OddToken.Way way) private returns (OddToken made, IdmlEscrow over, Holder holder) {
        made = new OddToken(way);
        over = escrowOf(address(made));
        holder = new Holder();
        made.give(address(holder), 100 ether);
    }

    function test_a01_reentrancy_from_a_hooked_token() external {
        (OddToken hooked, IdmlEscrow over, Holder holder) = odd(OddToken.Way.CallBack);
        holder.relay(address(over), abi.encodeCall(over.stake, (50 ether, 1)));
        holder.relay(address(over), abi.encodeCall(over.unbond, (20 ether, 2)));
        vm.warp(block.timestamp + 20_000);
        // While the first withdrawal pays out, the same account asks for another one, and to unbond more.
        hooked.callBack(abi.encodeCall(over.withdraw, ()));
        holder.relay(address(over), abi.encodeCall(over.withdraw, ()));
        same(hooked.calls(), 1, "the hook");
        check(!hooked.ok(), "paid twice");
        same(hooked.balanceOf(address(over)), 30 ether, "held");
        same(over.account(address(holder)).free, 30 ether, "owed");
        // While a stake comes in, it is already accounted for, once.
        hooked.callBack(abi.encodeCall(over.stake, (1 ether, 1)));
        holder.relay(address(over), abi.encodeCall(over.stake, (1 ether, 3)));
        same(hooked.calls(), 2, "the hook");
        check(!hooked.ok(), "a nonce served twice");
        same(hooked.balanceOf(address(over)), over.account(address(holder)).free, "held and owed");
    }

    function test_a13_reverting_recipient() external {
        vm.deal(address(this), 10);
        uint256 amount = token.buy{value: 10}(1);
        // This contract takes no coins: only its own sale fails, and its tokens stay its own.
        vm.expectRevert(abi.encodeWithSelector(IIdmlToken.PaymentRefused.selector, address(this), 10));
        token.sell(amount, 2);
        same(token.balanceOf(address(this)), amount, "tokens");
        check(!token.isUsed(address(this), 2), "the nonce of a failed sale");
    }

    function test_a17_a_token_that_returns_false() external {
        (, IdmlEscrow over, Holder holder) = odd(OddToken.Way.ReturnFalse);
        (bool ok,) = holder.relay(address(over), abi.encodeCall(over.stake, (1 ether, 1)));
        check(!ok && over.account(address(holder)).free == 0, "stake out of nothing");
    }

    function test_a17_a_token_that_returns_nothing() external {
        (OddToken silent, IdmlEscrow over, Holder holder) = odd(OddToken.Way.ReturnNothing);
        (bool ok,) = holder.relay(address(over), abi.encodeCall(over.stake, (1 ether, 1)));
        check(ok && silent.balanceOf(address(over)) == over.account(address(holder)).free, "held and owed");
    }

    function test_a17_a_token_without_code() external {
        IdmlEscrow over = escrowOf(address(0xdead));
        vm.expectPartialRevert(bytes4(keccak256("SafeERC20FailedOperation(address)")));
        over.stake(1 ether, 1);
        same(over.account(address(this)).free, 0, "stake out of nothing");
    }

    /// @notice The assumption in SPEC.md, shown: such a token would leave the escrow short, which is why it is IdmlToken.
    function test_a17_a_token_that_takes_a_fee_breaks_the_assumption() external {
        (OddToken greedy, IdmlEscrow over, Holder holder) = odd(OddToken.Way.TakeFee);
        holder.relay(address(over), abi.encodeCall(over.stake, (100 ether, 1)));
        same(over.account(address(holder)).free - greedy.balanceOf(address(over)), 1 ether, "short by the fee");
    }

    function test_a18_overflow_of_packed_fields(uint96 free, uint96 locked, uint24 seat, uint32 since, uint8 lanes, uint96 amount)
        external
        pure
    {
        vm.assume(uint256(free) + locked <= type(uint96).max);
        Account acc = Account.wrap(
            uint256(free) | uint256(locked) << 96 | uint256(seat) << 192 | uint256(since) << 216 | uint256(lanes) << 248
        );
        amount = uint96(within(amount, 0, free));
        Account after_ = acc.lock(amount);
        same(after_.free(), free - amount, "free");
        same(after_.locked(), uint256(locked) + amount, "locked");
        after_ = after_.unlock(amount).credit(amount);
        same(Account.unwrap(after_), Account.unwrap(acc), "locked and unlocked");
        same(Account.unwrap(acc.debit(amount).credit(amount)), Account.unwrap(acc), "debited and credited");
        same(acc.sit(7).seat(), 7, "seat");
        same(acc.sit(7).leavingAt(), 0, "a new seat stays");
        same(acc.leave(type(uint32).max).leavingAt(), type(uint32).max, "leaving");
        for (uint32 nonce; nonce < 8; ++nonce) {
            check(acc.flip(nonce).isBusy(nonce) != acc.isBusy(nonce), "a lane");
            same(acc.flip(nonce).free(), free, "beside the lane");
            same(acc.flip(nonce).leavingAt(), since, "below the lane");
        }
        same(uint256(Account.unwrap(acc.leave(9)) >> 248), lanes, "above leavingAt");
        same(uint256(Account.unwrap(acc.sit(9)) >> 248), lanes, "above the seat");
    }

    /// @notice A settlement reads its terms unchecked, since only checked ones are in a lane. So no excess bits of a nonce may stand
    /// for bits of an id: here they would make any terms at all those of a busy lane, and in earnest of one whose id has many ones.
    function test_a18_a_nonce_beyond_its_type_stands_for_no_other_terms(uint96 reward) external {
        address learner = address(this);
        bytes32 busy = keccak256(abi.encode(learner, ACCOUNTS));
        vm.store(address(escrow), busy, bytes32(uint256(1) << 255));
        bytes32 place = keccak256(abi.encode(uint256(7), keccak256(abi.encode(learner, LANES))));
        vm.store(address(escrow), place, bytes32(type(uint256).max));
        (bytes32 word, bool held) = escrow.lane(learner, 7);
        check(held && word == bytes32(type(uint256).max), "the layout of the storage is another: see ACCOUNTS and LANES");
        uint256[13] memory terms;
        terms[0] = uint160(learner);
        terms[1] = uint160(address(1));
        terms[5] = reward;
        terms[12] = type(uint256).max;
        bytes memory call = abi.encodeWithSelector(escrow.settle.selector, terms, 0, 0, 0, 17 * 32, 0);
        (bool ok, bytes memory reason) = address(escrow).call(call);
        check(!ok && bytes4(reason) == IIdmlEscrow.NotOpen.selector, "terms that nobody agreed on");
    }

    function test_a20_forced_balance(uint96 gift) external {
        gift = uint96(within(gift, 1, 1 ether));
        vm.deal(address(this), 2 ether);
        token.buy{value: gift}(1);
        token.transfer(address(escrow), token.balanceOf(address(this)));
        same(escrow.account(address(this)).free, 0, "a gift is nobody's stake");
        vm.expectPartialRevert(IIdmlEscrow.NothingToBurn.selector);
        escrow.burnFines();
        vm.deal(address(token), address(token).balance + 1 ether);
        same(token.totalSupply(), uint256(gift) * token.RATE(), "coins without tokens");
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        token.sell(1000, 2);
    }
}
