"""The device's keys on its disk: whole or not there, opened by one passphrase, and shown to nobody."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.identity import Identity
from device_agent import keystore
from device_agent.errors import KeystoreFault, KeystoreProblem
from device_agent.keystore import (
    MAX_BYTES,
    MIN_SCRYPT_N,
    Keys,
    back_up,
    change_passphrase,
    create,
    open_keystore,
    read_public,
    restore,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEYS = Keys(account_key=b"\x0a" * 32, link_key=b"\x0b" * 32, radio_key=b"\x0c" * 32)
CHEAP = MIN_SCRYPT_N
PASSPHRASE, OTHER = "correct horse", "battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A keystore with `KEYS`."""
    made = tmp_path / "keystore.json"
    create(made, KEYS, PASSPHRASE, n=CHEAP)
    return made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for many examples, which write it anew."""
    made = tmp_path_factory.mktemp("shared") / "keystore.json"
    create(made, KEYS, PASSPHRASE, n=CHEAP)
    return made


def fault(path: Path, passphrase: str = PASSPHRASE) -> KeystoreFault:
    """Return why a keystore does not open; the message names the file and is one line."""
    with pytest.raises(KeystoreFault) as caught:
        open_keystore(path, passphrase)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return caught.value


def rewritten(path: Path, **changes: Any) -> None:
    """Change members of the file, in the form in which it is written."""
    values = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(values, indent=2) + "\n")


# -- keys --------------------------------------------------------------------------------------------------------------


def test_what_was_kept_comes_back(path: Path) -> None:
    assert open_keystore(path, PASSPHRASE) == KEYS


def test_what_is_public_is_read_without_the_passphrase(path: Path) -> None:
    public = read_public(path)
    key = Ed25519PrivateKey.from_private_bytes(KEYS.link_key).public_key()
    assert public == KEYS.public
    assert public.address == Identity(KEYS.account_key).address
    assert public.link_key == key.public_bytes_raw()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public.link_fingerprint == hashlib.sha256(spki).hexdigest()


def test_no_secret_is_shown_or_stands_in_the_file(path: Path) -> None:
    shown = f"{KEYS!r} {KEYS} {path.read_text()}"
    for secret in (KEYS.account_key, KEYS.link_key, KEYS.radio_key):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
        assert secret not in path.read_bytes()
    assert repr(KEYS) == f"Keys({KEYS.public.address})"


def test_fresh_keys_are_three_different_ones_each_time() -> None:
    drawn = [Keys.fresh() for _ in range(3)]
    assert len({key for one in drawn for key in (one.account_key, one.link_key, one.radio_key)}) == 9


@pytest.mark.parametrize("bad", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_a_draw_that_is_no_account_is_drawn_again(bad: int) -> None:
    draws = iter([bad.to_bytes(32, "big"), *(bytes([number]) * 32 for number in (1, 2, 3))])
    keys = Keys.fresh(lambda _: next(draws))
    assert (keys.account_key, keys.link_key, keys.radio_key) == (b"\1" * 32, b"\2" * 32, b"\3" * 32)


def test_broken_random_numbers_make_no_keys() -> None:
    with pytest.raises(KeystoreFault, match="random numbers are broken") as caught:
        Keys.fresh(bytes)
    assert caught.value.problem is KeystoreProblem.KEYS


@pytest.mark.parametrize("number", [1, ORDER - 1])
def test_the_first_and_the_last_key_of_the_curve_are_some(number: int) -> None:
    keys = Keys(account_key=number.to_bytes(32, "big"), link_key=bytes(32), radio_key=bytes(32))
    assert keys.public.address.startswith("0x")


@pytest.mark.parametrize("number", [0, ORDER])
def test_keys_hold_no_account_that_the_curve_does_not_have(number: int) -> None:
    with pytest.raises(ValueError, match="secp256k1"):
        Keys(account_key=number.to_bytes(32, "big"), link_key=bytes(32), radio_key=bytes(32))


@pytest.mark.parametrize("member", ["account_key", "link_key", "radio_key"])
def test_keys_have_thirty_two_bytes(member: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(**({"account_key": b"a" * 32, "link_key": b"b" * 32, "radio_key": b"c" * 32} | {member: b"d" * 31}))


# -- the passphrase ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [OTHER, PASSPHRASE + " ", PASSPHRASE.upper()])
def test_another_passphrase_does_not_open_it(path: Path, passphrase: str) -> None:
    found = fault(path, passphrase)
    assert found.problem is KeystoreProblem.LOCKED
    assert passphrase not in str(found)


def test_an_empty_passphrase_is_refused(path: Path, tmp_path: Path) -> None:
    assert fault(path, "").problem is KeystoreProblem.LOCKED
    with pytest.raises(KeystoreFault, match="empty passphrase"):
        create(tmp_path / "new", KEYS, "", n=CHEAP)
    assert not (tmp_path / "new").exists()


def test_a_passphrase_may_be_typed_on_any_keyboard(tmp_path: Path) -> None:
    create(tmp_path / "new", KEYS, "Zu\u0308rich", n=CHEAP)
    assert open_keystore(tmp_path / "new", "Z\u00fcrich") == KEYS


def test_the_same_keys_and_passphrase_never_give_the_same_file(path: Path, tmp_path: Path) -> None:
    create(tmp_path / "again", KEYS, PASSPHRASE, n=CHEAP)
    first, second = (json.loads(one.read_bytes()) for one in (path, tmp_path / "again"))
    assert first["kdf"]["salt"] != second["kdf"]["salt"]
    assert first["nonce"] != second["nonce"]
    assert first["secrets"] != second["secrets"]


def test_a_guess_costs_32_mib_unless_something_else_is_said(tmp_path: Path) -> None:
    create(tmp_path / "dear", KEYS, PASSPHRASE)
    kdf = json.loads((tmp_path / "dear").read_bytes())["kdf"]
    assert (kdf["n"], kdf["r"], kdf["p"]) == (2**15, 8, 1)
    assert 128 * kdf["n"] * kdf["r"] == 32 << 20
    assert open_keystore(tmp_path / "dear", PASSPHRASE) == KEYS


def test_the_passphrase_changes_and_the_keys_stay(path: Path) -> None:
    change_passphrase(path, PASSPHRASE, OTHER, n=CHEAP)
    assert open_keystore(path, OTHER) == KEYS
    assert fault(path).problem is KeystoreProblem.LOCKED


def test_who_does_not_know_the_passphrase_does_not_change_it(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeystoreFault) as caught:
        change_passphrase(path, OTHER, "mine", n=CHEAP)
    assert caught.value.problem is KeystoreProblem.LOCKED
    assert path.read_bytes() == before


# -- backups -----------------------------------------------------------------------------------------------------------


def test_a_backup_has_a_passphrase_of_its_own_and_gives_the_keys_back(path: Path, tmp_path: Path) -> None:
    backup, again = tmp_path / "backup.json", tmp_path / "again.json"
    back_up(path, PASSPHRASE, backup, OTHER, n=CHEAP)
    assert fault(backup).problem is KeystoreProblem.LOCKED
    restore(again, backup, OTHER, "third", n=CHEAP)
    assert open_keystore(again, "third") == KEYS
    assert stat.S_IMODE(backup.stat().st_mode) == stat.S_IMODE(again.stat().st_mode) == 0o600


def test_nothing_that_exists_is_overwritten(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    create(other, Keys.fresh(), PASSPHRASE, n=CHEAP)
    before = path.read_bytes(), other.read_bytes()
    for attempt in (
        lambda: create(path, KEYS, PASSPHRASE, n=CHEAP),
        lambda: back_up(path, PASSPHRASE, other, OTHER, n=CHEAP),
        lambda: back_up(path, PASSPHRASE, path, OTHER, n=CHEAP),
        lambda: restore(path, other, PASSPHRASE, OTHER, n=CHEAP),
    ):
        with pytest.raises(KeystoreFault, match="something already") as caught:
            attempt()
        assert caught.value.problem is KeystoreProblem.EXISTS
    assert (path.read_bytes(), other.read_bytes()) == before


def test_not_even_one_that_came_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keystore.json"
    monkeypatch.setattr(keystore, "refuse_existing", lambda _: path.write_text("another process was faster"))
    with pytest.raises(KeystoreFault) as caught:
        create(path, KEYS, PASSPHRASE, n=CHEAP)
    assert caught.value.problem is KeystoreProblem.EXISTS
    assert path.read_text() == "another process was faster"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_leads_nowhere_is_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeystoreFault) as caught:
        create(tmp_path / "link", KEYS, PASSPHRASE, n=CHEAP)
    assert caught.value.problem is KeystoreProblem.EXISTS


# -- whose file it is --------------------------------------------------------------------------------------------------


def test_only_its_owner_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "keystore.json"
    before = os.umask(0)
    try:
        create(path, KEYS, PASSPHRASE, n=CHEAP)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path.parent.parent)] == [0o700, 0o700]
    change_passphrase(path, PASSPHRASE, OTHER, n=CHEAP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("more", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_one_that_others_may_use_is_refused(path: Path, more: int) -> None:
    path.chmod(0o600 | more)
    found = fault(path)
    assert found.problem is KeystoreProblem.EXPOSED
    assert "chmod 600" in str(found)
    with pytest.raises(KeystoreFault):
        read_public(path)


def test_one_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody)
    assert fault(path).problem is KeystoreProblem.NOT_OURS


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_plain_file_is_refused(path: Path, tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "odd"
    if kind == "folder":
        odd.mkdir(mode=0o700)
    elif kind == "link":
        odd.symlink_to(path)
    else:
        os.mkfifo(odd, 0o600)
    assert fault(odd).problem is KeystoreProblem.NOT_A_FILE


def test_one_that_is_not_there_is_told_how_to_be_made(tmp_path: Path) -> None:
    found = fault(tmp_path / "none")
    assert found.problem is KeystoreProblem.MISSING
    assert "idml-agent key new" in str(found)


# -- what stands in it -------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(st.data())
def test_any_changed_byte_is_refused(shared: Path, data: st.DataObject) -> None:
    original = shared.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    shared.write_bytes(changed)
    try:
        fault(shared)
    finally:
        shared.write_bytes(original)


@pytest.mark.parametrize(
    "written",
    [
        json.dumps,
        lambda values: json.dumps(values, indent=2),
        lambda values: json.dumps(values, indent=2) + "\n ",
        lambda values: json.dumps(values, indent=4) + "\n",
        lambda values: json.dumps(dict(reversed(values.items())), indent=2) + "\n",
        lambda values: json.dumps(values | {"more": 1}, indent=2) + "\n",
        lambda values: json.dumps(values, indent=2).replace("{", '{\n  "version": 1,', 1) + "\n",
    ],
    ids=["one line", "no line end", "space", "wider", "order", "more", "twice"],
)
def test_a_file_has_one_form_only(path: Path, written: Callable[[dict[str, Any]], str]) -> None:
    path.write_text(written(json.loads(path.read_bytes())))
    assert fault(path).problem is KeystoreProblem.MALFORMED


@given(st.integers(min_value=0))
def test_a_cut_file_is_refused(shared: Path, cut: int) -> None:
    original = shared.read_bytes()
    shared.write_bytes(original[: cut % len(original)])
    try:
        assert fault(shared).problem is KeystoreProblem.MALFORMED
    finally:
        shared.write_bytes(original)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused(shared: Path, data: bytes) -> None:
    original = shared.read_bytes()
    shared.write_bytes(data)
    try:
        assert fault(shared).problem in (KeystoreProblem.MALFORMED, KeystoreProblem.VERSION)
    finally:
        shared.write_bytes(original)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"[" * 1500, b'{"version":' * 150, b'{"version":' + b"9" * 1500])
def test_text_that_is_meant_to_hurt_a_parser_does_not(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert fault(path).problem is KeystoreProblem.MALFORMED


def test_a_large_file_is_not_read_to_its_end(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        found = fault(path)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 1 << 20
    assert found.problem is KeystoreProblem.MALFORMED
    assert f"more than {MAX_BYTES} bytes" in str(found)


@pytest.mark.parametrize("version", [0, 2, 1000])
def test_another_version_is_refused_as_such(path: Path, version: int) -> None:
    rewritten(path, version=version)
    assert fault(path).problem is KeystoreProblem.VERSION
    path.write_text(json.dumps({"version": version, "entirely": "different"}))
    assert fault(path).problem is KeystoreProblem.VERSION


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1 << 40},
        {"n": 1 << 17},
        {"n": 0},
        {"n": -(1 << 15)},
        {"n": 3000},
        {"n": MIN_SCRYPT_N // 2},
        {"r": 1 << 20},
        {"r": 0},
        {"p": 1 << 20},
        {"p": 0},
        {"p": -1},
    ],
)
def test_absurd_parameters_are_refused_before_they_cost_anything(
    path: Path, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def derived(**_: object) -> None:
        pytest.fail("it was begun")

    monkeypatch.setattr(keystore, "Scrypt", derived)
    rewritten(path, kdf=json.loads(path.read_bytes())["kdf"] | change)
    assert fault(path).problem is KeystoreProblem.KDF


def test_the_dearest_file_that_is_opened_takes_an_eighth_of_the_smallest_pi(tmp_path: Path) -> None:
    most = keystore.MAX_SCRYPT_BYTES // (128 * keystore.SCRYPT_R)
    create(tmp_path / "dearest", KEYS, PASSPHRASE, n=most)
    assert open_keystore(tmp_path / "dearest", PASSPHRASE) == KEYS
    with pytest.raises(KeystoreFault) as caught:
        create(tmp_path / "dearer", KEYS, PASSPHRASE, n=2 * most)
    assert caught.value.problem is KeystoreProblem.KDF


def test_a_device_without_memory_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor:
        def __init__(self, **_: object) -> None: ...

        def derive(self, _: bytes) -> bytes:
            raise MemoryError

    monkeypatch.setattr(keystore, "Scrypt", Poor)
    found = fault(path)
    assert found.problem is KeystoreProblem.KDF
    assert "1 MiB of memory" in str(found)


@pytest.mark.parametrize(
    "change",
    [{"address": Identity(b"\1" * 32).address}, {"address": KEYS.public.address.lower()}, {"link_key": "00" * 32}],
    ids=["address", "checksum", "link key"],
)
def test_a_file_cannot_lie_about_what_is_public(path: Path, change: dict[str, str]) -> None:
    rewritten(path, **change)
    assert fault(path).problem is KeystoreProblem.LOCKED


@pytest.mark.parametrize("member", ["address", "link_key"])
def test_not_even_one_who_knows_the_passphrase_names_other_keys(
    path: Path, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    lie = {"address": Identity(b"\1" * 32).address, "link_key": Keys.fresh().public.link_key}[member]
    true = KEYS.public
    public = keystore.PublicKeys(**({"address": true.address, "link_key": true.link_key} | {member: lie}))
    with monkeypatch.context() as lying:
        lying.setattr(Keys, "public", public)
        create(path, KEYS, PASSPHRASE, n=CHEAP)
    found = fault(path)
    assert found.problem is KeystoreProblem.KEYS
    assert "not those it names" in str(found)


@pytest.mark.parametrize("number", [0, ORDER])
def test_a_file_with_a_key_that_the_curve_does_not_have_is_refused(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    bad = object.__new__(Keys)
    for name, key in (("account_key", number.to_bytes(32, "big")), ("link_key", b"b" * 32), ("radio_key", b"c" * 32)):
        object.__setattr__(bad, name, key)
    with monkeypatch.context() as lying:
        lying.setattr(Keys, "public", KEYS.public)
        create(path, bad, PASSPHRASE, n=CHEAP)
    found = fault(path)
    assert found.problem is KeystoreProblem.KEYS
    assert bad.link_key.hex() not in str(found)


# -- the disk ----------------------------------------------------------------------------------------------------------

STEPS = ("write", "fsync", "name", "fsync of the folder")
CUT = """
import os, signal, sys
from pathlib import Path
from device_agent import keystore
from device_agent.keystore import MIN_SCRYPT_N, Keys, change_passphrase, create

step, what, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

fsync = os.fsync
class Torn:
    def __init__(self, file):
        self._file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def write(self, data):
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        die()

if step == "write":
    fdopen = os.fdopen
    os.fdopen = lambda descriptor, mode: Torn(fdopen(descriptor, mode)) if mode == "wb" else fdopen(descriptor, mode)
elif step == "fsync":
    os.fsync = die
elif step == "name":
    Path.hardlink_to = Path.replace = die
else:
    keystore._sync_folder = die
if what == "create":
    keys = Keys(account_key=b"\\x0a" * 32, link_key=b"\\x0b" * 32, radio_key=b"\\x0c" * 32)
    create(path, keys, "correct horse", n=MIN_SCRYPT_N)
else:
    change_passphrase(path, "correct horse", "battery staple", n=MIN_SCRYPT_N)
"""
BUSY = """
import sys
from pathlib import Path
from device_agent.keystore import MIN_SCRYPT_N, change_passphrase
path, old, new = Path(sys.argv[1]), "correct horse", "battery staple"
print("begun", flush=True)
while True:
    change_passphrase(path, old, new, n=MIN_SCRYPT_N)
    old, new = new, old
"""


def killed(step: str, what: str, path: Path) -> None:
    """Have another process kill itself (SIGKILL) at a step of writing a keystore."""
    ended = subprocess.run([sys.executable, "-c", CUT, step, what, str(path)], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_one_that_is_killed_as_it_makes_a_keystore_leaves_a_whole_one_or_none(tmp_path: Path, step: str) -> None:
    path = tmp_path / "keystore.json"
    killed(step, "create", path)
    if step == STEPS[-1]:
        assert open_keystore(path, PASSPHRASE) == KEYS
        return
    assert not path.exists()
    create(path, KEYS, PASSPHRASE, n=CHEAP)
    assert open_keystore(path, PASSPHRASE) == KEYS


@pytest.mark.parametrize("step", STEPS)
def test_one_that_is_killed_as_it_changes_the_passphrase_leaves_a_keystore(path: Path, step: str) -> None:
    killed(step, "change", path)
    assert open_keystore(path, OTHER if step == STEPS[-1] else PASSPHRASE) == KEYS


def test_a_keystore_opens_whenever_who_changes_it_is_killed(path: Path) -> None:
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", BUSY, str(path)], stdout=subprocess.PIPE) as busy:
            assert busy.stdout is not None
            assert busy.stdout.readline() == b"begun\n"
            time.sleep(random.uniform(0.02, 0.2))
            busy.kill()
        if not opens(path, PASSPHRASE):
            change_passphrase(path, OTHER, PASSPHRASE, n=CHEAP)
        assert open_keystore(path, PASSPHRASE) == KEYS


def opens(path: Path, passphrase: str) -> bool:
    """Tell whether a keystore is under a passphrase; any other fault is one."""
    try:
        open_keystore(path, passphrase)
    except KeystoreFault as error:
        if error.problem is not KeystoreProblem.LOCKED:
            raise
        return False
    return True


@pytest.fixture(params=["fsync", "name"])
def full_disk(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A keystore on a disk on which, from then on, a step of writing fails."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        if request.param == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(Path, "hardlink_to", full)
            patched.setattr(Path, "replace", full)
        yield path


def test_on_a_full_disk_the_old_keystore_stays_and_nothing_is_left_behind(full_disk: Path, tmp_path: Path) -> None:
    path = full_disk
    for attempt in (
        lambda: change_passphrase(path, PASSPHRASE, OTHER, n=CHEAP),
        lambda: back_up(path, PASSPHRASE, tmp_path / "backup", OTHER, n=CHEAP),
    ):
        with pytest.raises(KeystoreFault, match="disk is full") as caught:
            attempt()
        assert caught.value.problem is KeystoreProblem.STORAGE
    assert open_keystore(path, PASSPHRASE) == KEYS
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_hard_links_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    with pytest.raises(KeystoreFault, match="copy it from there"):
        create(tmp_path / "stick", KEYS, PASSPHRASE, n=CHEAP)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keystore.json"
    synced: list[tuple[bool, bool]] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    create(path, KEYS, PASSPHRASE, n=CHEAP)
    assert synced == [(False, False), (True, True)]
