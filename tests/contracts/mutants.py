"""Seeded faults in the contracts, each of which some test has to find: `python tests/contracts/mutants.py`.

Works on a copy of the repository. Each mutant is compiled and meets the tests in Python (those of the escrow, the
signed door and the attacks); what survives them meets the tests in Solidity. Exit code 1: a mutant survived.
Options: numbers or a part of a name to try only these, and `--jobs N`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[2]
ESCROW = "IdmlEscrow.sol"
SETTLEMENT = "libraries/Settlement.sol"
PANEL = "libraries/Panel.sol"
SLOTS = "libraries/Slots.sol"
TOKEN = "IdmlToken.sol"
PYTHON_TESTS = ("test_signed_door.py", "test_escrow.py", "test_settlement.py", "test_panel.py", "test_attacks.py")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One fault: `old` becomes `new` in a source, once."""

    name: str
    source: str
    old: str
    new: str


def _of(source: str, *faults: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(name=name, source=source, old=old, new=new) for name, old, new in faults]


MUTANTS = [
    *_of(
        ESCROW,
        (
            "openings any time",
            "if (block.timestamp > words.openBy) revert DeadlinePassed(uint40(words.openBy), block.timestamp);\n        _checkTerms",
            "_checkTerms",
        ),
        (
            "the Learner need not sign",
            "_checkSignature(id, learnerR, learnerVS, learner);",
            "_signer(id, learnerR, learnerVS);",
        ),
        (
            "the Neighbor need not sign",
            "_checkSignature(id, neighborR, neighborVS, words.neighbor);",
            "_signer(id, neighborR, neighborVS);",
        ),
        (
            "lanes take old nonces",
            "if (uint32(place.read()) >= nonce)",
            "if (uint32(place.read()) > nonce)",
        ),
        (
            "lanes take two at a time",
            "if (acc.isBusy(nonce)) revert LaneBusy(address(uint160(learner)), uint32(nonce));",
            "",
        ),
        ("other terms in the same lane", "|| _lanePlace(learner, nonce).read() != _laneWord(id, nonce)", ""),
        (
            "lanes never vacated",
            "acc = acc.flip(nonce);\n    }\n\n    // Inside: encounters",
            "}\n\n    // Inside: encounters",
        ),
        ("the Neighbor is not locked", "place.write(Account.unwrap(_locking(acc, words.reward)));", ""),
        ("minimum stake may be locked", "uint256(minStake) + amount; //", "uint256(minStake) * 0 + amount; //"),
        (
            "settled any time",
            "if (block.timestamp > latest) revert DeadlinePassed(uint40(latest), block.timestamp);\n            if (length",
            "if (length",
        ),
        ("fined by the Learner's word", "if (2 * yes < votes) _wrongSigner(terms.neighbor, signer);", ""),
        (
            "paid by the Neighbor's word",
            "} else if (2 * yes > votes && block.timestamp <= terms.reportBy) {",
            "} else if (false) {",
        ),
        ("anybody signs a report", "if (signer != terms.learner) _wrongSigner(terms.learner, signer);", ""),
        ("sealed votes settled openly", "if (Slots.sealedVotes(rules)) revert VotesAreSealed(id);", "id;"),
        ("taken seats skipped", "if and(shr(and(drawn, 255), sload(keccak256(0, 64))), 1) {", "if 0 {"),
        ("taken seats only of the first word", "mstore(0, shr(8, drawn))", "mstore(0, 0)"),
        (
            "a voter twice on a panel of many",
            "0x800000800000800000800000800000800000800000800000800000800000",
            "0x800000800000800000800000",
        ),
        ("a voter twice on a panel", "panel := or(shl(24, panel), seat)", ""),
        ("parties on the panel", "seed, words.seats, parties, votes", "seed, words.seats, 0, votes"),
        ("an endless draw", "if eq(k, 64) {", "if eq(k, 64000) {"),
        ("any reason for any verdict", "if iszero(and(shr(verdict, 0x5b), 1)) {", "if 0 {"),
        (
            "malleable signatures",
            "if iszero(gt(s, HALF_ORDER)) {\n                let free_",
            "if 1 {\n                let free_",
        ),
        ("malleable ballots", "if iszero(gt(s, HALF_ORDER)) { pop", "if 1 { pop"),
        (
            "salts unchecked",
            "if (salts != terms.salts) revert SaltMismatch(terms.salts, salts);",
            "if (salts == 0) revert SaltMismatch(terms.salts, salts);",
        ),
        ("one salt chooses the panel", "mstore(add(free_, 64), neighborSalt)", "mstore(add(free_, 64), learnerSalt)"),
        ("voting twice", "if (entered >> position & 1 != 0) revert AlreadyVoted(id, position);", ""),
        (
            "late votes",
            "if (block.timestamp > now_.deadline) revert DeadlinePassed(now_.deadline, block.timestamp);\n        _checkRecord",
            "_checkRecord",
        ),
        ("standby at once", "if (position >= now_.validators) {", "if (false) {"),
        (
            "more than V votes",
            "if (votes >= now_.validators) revert VotesComplete(id, uint8(votes));",
            "if (votes > 7) revert VotesComplete(id, uint8(votes));",
        ),
        (
            "votes on another digest",
            "if (given != encounter_.record) revert DigestMismatch(encounter_.record, given);",
            "if (given == 0) revert DigestMismatch(encounter_.record, given);",
        ),
        (
            "paid before the votes",
            "if (block.timestamp <= end && votes < needed) revert VotesMissing(uint8(votes), uint8(needed), end);",
            "",
        ),
        (
            "seals opened early",
            "if (block.timestamp <= now_.deadline && _count(now_.sealed_) < now_.validators) {",
            "if (false) {",
        ),
        (
            "seals opened by anything",
            "if (_sealOf(voter, commitment) != sealed_) revert SealMismatch(id, position);",
            "if (_sealOf(voter, commitment) == 0) revert SealMismatch(id, position);",
        ),
        (
            "seals opened in another's name",
            "keccak256(abi.encode(voter, commitment))",
            "keccak256(abi.encode(voter == address(0), commitment))",
        ),
        ("silence costs nothing", "burned += bond;\n", "burned += 0;\n"),
        (
            "expired too early",
            "if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);\n        if (both || state == State.LearnerCheckedIn)",
            "if (both || state == State.LearnerCheckedIn)",
        ),
        (
            "the Neighbor shut out by a false report",
            "if (terms.nonce != 0) {\n            // Signed",
            "if (false) {\n            // Signed",
        ),
        ("a voter's name keeps its verdict", "who := xor(word, shl(160, valid))", "who := word"),
        ("a nonce stands for bits of an id", ">> 32 << 32 | uint32(nonce)", ">> 32 << 32 | nonce"),
        ("a bond out of nothing is burned", "missing -= part;", "missing = 0;"),
        (
            "a voter without a bond keeps its seat",
            "if (missing != 0 && acc.seat() != 0) _accounts[who] = _stand(who, acc);",
            "",
        ),
        ("unbonding out of reach", "_unbonding[who].amount = leaving - part;", ""),
        (
            "stake executed twice",
            "_use(who, nonce);\n        Account acc = _accounts[who].credit(amount);",
            "isUsed(who, nonce);\n        Account acc = _accounts[who].credit(amount);",
        ),
        (
            "withdrawn at once",
            "if (block.timestamp < leaving.releaseAt) revert StillUnbonding(leaving.releaseAt, block.timestamp);",
            "",
        ),
        (
            "a validator takes its stake along",
            "if (acc.seat() != 0 && acc.leavingAt() == 0 && left < minStake) revert BelowMinStake(uint96(left), minStake);",
            "if (acc.seat() != 0 && acc.leavingAt() == 0 && left == type(uint256).max) revert BelowMinStake(uint96(left), minStake);",
        ),
        (
            "dismissed at once",
            "if (block.timestamp < notBefore) revert TooEarly(notBefore, block.timestamp);\n        _accounts[validator]",
            "if (notBefore == 0) revert TooEarly(notBefore, block.timestamp);\n        _accounts[validator]",
        ),
        (
            "a cheat keeps its seat",
            "acc = _stand(address(uint160(who)), acc);\n        }\n        place.write(Account.unwrap(acc));\n    }\n",
            "if (who == 0) acc = _stand(address(0), acc);\n        }\n        place.write(Account.unwrap(acc));\n    }\n",
        ),
        (
            "seats more than there are",
            'if (terms.seats > uint24(reg)) revert ParameterOutOfRange("seats", terms.seats);',
            "",
        ),
        ("members of terms overflow", "if (excess != 0) revert();", "excess;"),
        ("retired rules go on", "if (!_inForce(reg, number)) {", "if (false) {"),
        ("fines burned twice", "pendingFines = 0;", ""),
        (
            "actions of others",
            "r, vs, uint160(action.account)\n        );",
            "r, vs, _signer(_typed(_domainSeparatorV4(), keccak256(abi.encode(ACTION_TYPEHASH, action))), r, vs)\n        );",
        ),
        (
            "actions for ever",
            "if (block.timestamp > action.deadline) revert DeadlinePassed(action.deadline, block.timestamp);",
            "",
        ),
        ("a draw among no seats", " || terms.seats == 0) {", ") {"),
        (
            "reported by signature any time",
            "if (block.timestamp > latest) revert DeadlinePassed(latest, block.timestamp);\n        if (signatures",
            "latest;\n        if (signatures",
        ),
        (
            "the Learner shut out",
            "if (block.timestamp <= reportBy) revert TooEarly(reportBy + 1, block.timestamp);",
            "reportBy;",
        ),
        (
            "reporting closed early",
            "if (block.timestamp <= now_.deadline) revert TooEarly(now_.deadline + 1, block.timestamp);\n        _startVoting",
            "_startVoting",
        ),
        (
            "seals opened for ever",
            "if (block.timestamp > revealBy) revert DeadlinePassed(revealBy, block.timestamp);",
            "revealBy;",
        ),
        (
            "lives without end",
            "if (terms.reportBy > latest) revert LifeTooLong(uint40(terms.reportBy), latest);",
            "latest;",
        ),
        (
            "unbonding again keeps the time",
            "_unbonding[who] = Unbond(total, releaseAt);",
            "_unbonding[who] = Unbond(total, total == amount ? releaseAt : _unbonding[who].releaseAt);",
        ),
        (
            "a seat outlives its stake",
            "if (acc.leavingAt() != 0 && acc.total() < minStake) _accounts[who] = _stand(who, acc);",
            "acc;",
        ),
        (
            "a seat for nothing",
            "if (acc.free() < minStake) revert BelowMinStake(acc.free(), minStake);\n        if (acc.seat() == 0) {",
            "if (acc.seat() == 0) {",
        ),
        ("any reason step by step", "if (!fits) revert BadReason(valid, reason);", "fits;"),
        ("a vote without a bond", "if (acc.free() < bond) revert InsufficientFree(acc.free(), bond);", ""),
        (
            "a fined voter keeps its seat",
            "_save(place, voter, acc.debit(part));",
            "place.write(Account.unwrap(acc.debit(part)));",
        ),
        ("a bad item stops the batch", "if (!done) emit Skipped(i, _returned());", "if (!done) revert ZeroAmount();"),
        (
            "a front-run permit is a failure",
            "if (token.allowance(owner, address(this)) < amount) revert PermitFailed(owner, reason);",
            "revert PermitFailed(owner, reason);",
        ),
    ),
    *_of(
        SETTLEMENT,
        ("bonds rounded down", "bondBps + 9_999", "bondBps"),
        ("all-no pays best", "pay.eachNo = reward * q / (BPS * no);", "pay.eachNo = reward / no;"),
        ("the minority keeps its bond", "pay.eachNo = -lost;", "pay.eachNo = 0;"),
        (
            "a split verdict pays in full",
            "pay.neighborDelta = reward * pn * yes / (BPS * votes);",
            "pay.neighborDelta = reward * pn / BPS;",
        ),
        ("fines rounded down", "-((reward * no + votes - 1) / votes)", "-(reward * no / votes)"),
        ("even votes pay", "if (yes == no) {", "if (yes == no && yes == 0) {"),
    ),
    *_of(
        PANEL,
        ("left seats drawn", "if (word & bit == 0 || seat", "if (seat"),
        ("duplicates drawn", "word ^= bit;", ""),
        ("only the first word of seats", "if (seat >> 8 != loaded) {", "if (false) {"),
    ),
    *_of(
        TOKEN,
        ("coins for one token twice", "_burn(msg.sender, amount);\n        emit Sold", "emit Sold"),
        ("no cap", "if (totalSupply() > MAX_SUPPLY) revert SupplyExceeded(totalSupply(), MAX_SUPPLY);", ""),
        ("sold twice", "_use(nonce);\n        if (amount == 0", "isUsed(msg.sender, nonce);\n        if (amount == 0"),
    ),
]


def copied(place: Path) -> Path:
    """The repository without what is built; the toolchain is shared."""
    skipped = shutil.ignore_patterns(
        ".git", ".venv", "runs", "node_modules", "__pycache__", "forge", ".hypothesis", ".*_cache"
    )
    shutil.copytree(ROOT, place, ignore=skipped)
    modules, theirs = ROOT / "contracts/toolchain/node_modules", place / "contracts/toolchain/node_modules"
    shutil.copytree(modules / "@openzeppelin", theirs / "@openzeppelin")  # the compiler follows no link out of its root
    for name in (".bin", ".idml-lock", "@foundry-rs"):
        (theirs / name).symlink_to(modules / name)
    return place


def killer(mutant: Mutant, place: Path) -> str | None:
    """Which tests found the mutant; None if it survived. Raises ValueError if it cannot be made."""
    source = place / "contracts/src" / mutant.source
    good = source.read_text()
    if good.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: its text occurs {good.count(mutant.old)} times in {mutant.source}")
    source.write_text(good.replace(mutant.old, mutant.new))
    try:
        return _tried(place)
    finally:
        source.write_text(good)


def _tried(place: Path) -> str | None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "FOUNDRY_FUZZ_RUNS": "300",
            "FOUNDRY_INVARIANT_RUNS": "10",
            "FOUNDRY_INVARIANT_DEPTH": "500",
            "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "1",
            "PYTHONPATH": str(place),
        }
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)

    python = sys.executable
    compiled = run(python, "-m", "contracts", "compile")
    if compiled.returncode != 0:
        raise ValueError(f"does not compile: {compiled.stderr.strip()[-100:]}")
    tests = [f"tests/contracts/{name}" for name in PYTHON_TESTS if (place / "tests/contracts" / name).exists()]
    found = run(python, "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-m", "not chain", *tests)
    if found.returncode != 0:
        failed = [line for line in found.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return failed[0].split(" - ")[0].removeprefix("FAILED tests/contracts/") if failed else "pytest"
    script = (
        "from contracts.solidity import run_tests; print(*[f'{o.suite}.{o.name}' for o in run_tests() if o.reason])"
    )
    solidity = run(python, "-c", script)
    if solidity.returncode != 0:
        raise ValueError(solidity.stderr.strip()[-100:])
    return solidity.stdout.split()[0] if solidity.stdout.split() else None


def main() -> int:
    """Try the mutants; tell which tests found each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="numbers, or parts of names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="show the mutants, try none")
    arguments = parser.parse_args()
    chosen = [
        (number, one)
        for number, one in enumerate(MUTANTS, start=1)
        if not arguments.only
        or any(part == str(number) or (not part.isdigit() and part in one.name) for part in arguments.only)
    ]
    if arguments.list:
        for number, one in chosen:
            print(f"{number:3} {one.source}: {one.name}")
        return 0
    bad = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(arguments.jobs) as workers:
        places: Queue[Path] = Queue()
        for number in range(arguments.jobs):
            places.put(copied(Path(folder) / str(number)))

        def attempt(numbered: tuple[int, Mutant]) -> tuple[int, Mutant, str | None, float]:
            place, started_s = places.get(), time.monotonic()
            try:
                return (*numbered, killer(numbered[1], place), time.monotonic() - started_s)
            except ValueError as error:
                return (*numbered, f"NOT MADE: {error}", 0.0)
            finally:
                places.put(place)

        for number, one, by, took_s in workers.map(attempt, chosen):
            survived = by is None or by.startswith("NOT MADE")
            bad += survived
            print(
                f"{number:3} {'ALIVE ' if survived else 'killed'} {one.name:<42} {by or ''} ({took_s:.0f} s)",
                flush=True,
            )
    print(f"{len(chosen) - bad} of {len(chosen)} mutants killed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
