"""`idml-agent key` as an operator meets it: what it asks for, what it prints, and errors of one line."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from device_agent import __main__ as command
from device_agent import passphrase
from device_agent.errors import PassphraseFault
from device_agent.keystore import MIN_SCRYPT_N, Keys, create, open_keystore
from device_agent.passphrase import CREDENTIAL, MAX_BYTES, obtain

KEYS = Keys(account_key=b"\x0a" * 32, link_key=b"\x0b" * 32, radio_key=b"\x0c" * 32)
PASSPHRASE, OTHER = "correct horse", "battery staple"

Run = Callable[..., tuple[int, str, str]]
File = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "terminal", lambda: None)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `idml-agent key ...`; return exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = command.main(["key", *(str(one) for one in arguments)])
        except SystemExit as ended:
            code = int(str(ended.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def file(tmp_path: Path) -> File:
    """A function (text, mode) that writes a file with a passphrase."""
    numbers = iter(range(100))

    def make(text: str | bytes, mode: int = 0o600) -> Path:
        path = tmp_path / f"passphrase-{next(numbers)}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return make


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A keystore with `KEYS`."""
    path = tmp_path / "keystore.json"
    create(path, KEYS, PASSPHRASE, n=MIN_SCRYPT_N)
    return path


def typing(lines: Iterable[str | BaseException], prompts: list[str] | None = None) -> Callable[[], passphrase.Ask]:
    """A terminal at which these lines are typed."""
    left = iter(lines)

    def ask(prompt: str) -> str:
        if prompts is not None:
            prompts.append(prompt)
        line = next(left)
        if isinstance(line, BaseException):
            raise line
        return line

    return lambda: ask


# -- the commands ------------------------------------------------------------------------------------------------------


def test_new_keys_are_kept_and_what_is_public_is_printed(run: Run, file: File, tmp_path: Path) -> None:
    path = tmp_path / "new" / "keystore.json"
    code, out, err = run("new", "--keystore", path, "--passphrase-file", file(PASSPHRASE))
    assert (code, err) == (0, "")
    keys = open_keystore(path, PASSPHRASE)
    assert keys.public.address in out
    assert keys.public.link_fingerprint in out
    assert not any(one.hex() in out for one in (keys.account_key, keys.link_key, keys.radio_key))


def test_what_is_public_is_shown_without_a_passphrase(run: Run, store: Path) -> None:
    code, out, err = run("show", "--keystore", store)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"keystore        {store}",
        f"address         {KEYS.public.address}",
        f"link key        {KEYS.public.link_key.hex()}",
        f"link key sha256 {KEYS.public.link_fingerprint}",
    ]


def test_a_program_reads_it_as_json(run: Run, store: Path) -> None:
    code, out, _ = run("show", "--keystore", store, "--json")
    assert code == 0
    assert json.loads(out) == {
        "keystore": str(store),
        "address": KEYS.public.address,
        "link_key": KEYS.public.link_key.hex(),
        "link_key_sha256": KEYS.public.link_fingerprint,
    }


def test_a_backup_is_restored_on_another_device(run: Run, file: File, store: Path, tmp_path: Path) -> None:
    own, of_backup, later = file(PASSPHRASE), file(OTHER), file("third")
    backup, again = tmp_path / "backup.json", tmp_path / "again.json"
    arguments = ("--passphrase-file", own, "--backup-passphrase-file", of_backup)
    assert run("backup", "--keystore", store, "--to", backup, *arguments)[0] == 0
    assert open_keystore(backup, OTHER) == KEYS
    arguments = ("--backup-passphrase-file", of_backup, "--passphrase-file", later)
    code, out, _ = run("restore", "--keystore", again, "--from", backup, *arguments)
    assert code == 0
    assert KEYS.public.address in out
    assert open_keystore(again, "third") == KEYS


def test_the_passphrase_is_changed(run: Run, file: File, store: Path) -> None:
    files = ("--passphrase-file", file(PASSPHRASE), "--new-passphrase-file", file(OTHER))
    assert run("passphrase", "--keystore", store, *files)[0] == 0
    assert open_keystore(store, OTHER) == KEYS


def test_the_default_is_in_the_users_data_folder(
    run: Run, file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("new", "--passphrase-file", file(PASSPHRASE))[0] == 0
    assert json.loads(run("show", "--json")[1])["keystore"] == str(tmp_path / "data" / "idml" / "keystore.json")


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["new", "backup", "restore"])
def test_what_is_there_is_not_overwritten_and_nothing_is_asked_for(
    run: Run, store: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase, "terminal", typing([]))
    other = tmp_path / "other.json"
    create(other, KEYS, OTHER, n=MIN_SCRYPT_N)
    before = store.read_bytes(), other.read_bytes()
    more = {"new": (), "backup": ("--to", other), "restore": ("--from", other)}[what]
    code, out, err = run(what, "--keystore", store, *more)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "something already" in err
    assert (store.read_bytes(), other.read_bytes()) == before


@pytest.mark.parametrize("arguments", [("show",), ("backup", "--to", "b"), ("passphrase",)])
def test_without_a_keystore_nothing_is_asked_for(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrase, "terminal", typing([]))
    code, out, err = run(*arguments, "--keystore", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err == f"idml-agent: {tmp_path / 'none'}: there is no keystore: make one with `idml-agent key new`\n"


def test_a_wrong_passphrase_is_one_line_and_changes_nothing(run: Run, file: File, store: Path, tmp_path: Path) -> None:
    before = store.read_bytes()
    files = ("--passphrase-file", file(OTHER), "--new-passphrase-file", file("third"))
    code, out, err = run("passphrase", "--keystore", store, *files)
    assert (code, out) == (1, "")
    assert err.startswith(f"idml-agent: {store}: the passphrase is wrong")
    assert err.count("\n") == 1
    assert OTHER not in err
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [(), ("forge",), ("backup",), ("restore",), ("show", "--passphrase-file", "x"), ("new", "--passphrase", "secret")],
)
def test_bad_usage_is_told_apart(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_ctrl_c_at_the_prompt_makes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "terminal", typing([KeyboardInterrupt()]))
    code, _, err = run("new", "--keystore", tmp_path / "new.json")
    assert (code, err) == (130, "idml-agent: interrupted\n")
    assert list(tmp_path.iterdir()) == []


# -- where the passphrase comes from -----------------------------------------------------------------------------------


def test_the_first_source_that_there_is_counts(file: File, tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text("of systemd\n")
    ask = typing(["of the terminal"])()

    def first(named: Path | None, credentials: str | None) -> str:
        return obtain("it", file=named, option="--file", credentials=credentials, ask=ask)

    assert first(file("of the file"), str(tmp_path)) == "of the file"
    assert first(None, str(tmp_path)) == "of systemd"
    assert first(None, str(tmp_path / "none")) == "of the terminal"


def test_systemd_gives_the_keystores_passphrase_and_not_the_backups(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CREDENTIAL).write_text(PASSPHRASE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    prompts: list[str] = []
    monkeypatch.setattr(passphrase, "terminal", typing([OTHER, OTHER], prompts))
    assert run("backup", "--keystore", store, "--to", tmp_path / "backup")[0] == 0
    assert open_keystore(tmp_path / "backup", OTHER) == KEYS
    assert prompts == ["passphrase of the backup: ", "passphrase of the backup, again: "]


def test_a_credential_is_taken_with_the_rights_that_systemd_gives_it(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text(PASSPHRASE)
    (tmp_path / CREDENTIAL).chmod(0o440)
    assert obtain("it", file=None, option="--file", credentials=str(tmp_path)) == PASSPHRASE


@pytest.mark.parametrize("text", [PASSPHRASE, f"{PASSPHRASE}\n", f"{PASSPHRASE}\r\n", f"{PASSPHRASE}\nsecond line"])
def test_the_first_line_of_a_file_counts(file: File, text: str) -> None:
    assert obtain("it", file=file(text), option="--file") == PASSPHRASE


def test_spaces_are_part_of_it(file: File) -> None:
    assert obtain("it", file=file(" a b "), option="--file") == " a b "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_use_is_refused(file: File, mode: int) -> None:
    with pytest.raises(PassphraseFault, match="chmod 600"):
        obtain("it", file=file(PASSPHRASE, mode), option="--file")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty"),
        (b"\nsecond line", "empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (MAX_BYTES + 1), "at most"),
        (b"x" * (1 << 20), "at most"),
    ],
    ids=["nothing", "empty line", "other text", "long", "very long"],
)
def test_a_file_without_a_usable_passphrase_is_refused(file: File, text: bytes, why: str) -> None:
    with pytest.raises(PassphraseFault, match=why):
        obtain("it", file=file(text), option="--file")


def test_the_longest_passphrase_is_taken_with_its_line_end(file: File) -> None:
    assert len(obtain("it", file=file(b"x" * MAX_BYTES + b"\r\n"), option="--file")) == MAX_BYTES


def test_a_file_that_is_not_there_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(PassphraseFault, match="No such file"):
        obtain("it", file=tmp_path / "none", option="--file", ask=typing([PASSPHRASE])())


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ([""], "empty"),
        ([PASSPHRASE, OTHER], "in two ways"),
        ([EOFError()], "nothing was typed"),
        (["\udcff"], "not UTF-8"),
        (["x" * (MAX_BYTES + 1)], "at most"),
    ],
    ids=["empty", "slip", "end", "other text", "long"],
)
def test_what_is_typed_badly_is_refused(typed: list[str | BaseException], why: str) -> None:
    with pytest.raises(PassphraseFault, match=why) as caught:
        obtain("it", file=None, option="--file", new=True, ask=typing(typed)())
    assert PASSPHRASE not in str(caught.value)


def test_one_that_is_not_new_is_asked_for_once() -> None:
    assert obtain("it", file=None, option="--file", ask=typing([PASSPHRASE])()) == PASSPHRASE


def test_without_a_terminal_it_says_what_to_give(run: Run, store: Path, tmp_path: Path) -> None:
    code, out, err = run("backup", "--keystore", store, "--to", tmp_path / "backup")
    assert (code, out) == (1, "")
    assert "no terminal" in err
    assert "--passphrase-file FILE, or the systemd credential idml-passphrase" in err


# -- as a process ------------------------------------------------------------------------------------------------------

AT_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from device_agent.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_help_is_quick_and_loads_no_cryptography() -> None:
    seen = "import sys; from device_agent.__main__ import main\ntry: main(['key', '--help'])\nexcept SystemExit: pass\n"
    seen += "print(sorted({'cryptography', 'pydantic', 'eth_account', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("[]\n")


def test_a_process_without_a_terminal_does_not_wait_for_one(tmp_path: Path) -> None:
    new = [sys.executable, "-m", "device_agent", "key", "new", "--keystore", str(tmp_path / "new.json")]
    done = subprocess.run(
        new, input="secret\nsecret\n", capture_output=True, text=True, timeout=60, start_new_session=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no terminal to ask at" in done.stderr
    assert not (tmp_path / "new.json").exists()


def test_what_is_typed_at_a_terminal_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    ours, theirs = pty.openpty()
    new = [sys.executable, "-c", AT_A_TERMINAL, "key", "new", "--keystore", str(path)]
    child = subprocess.Popen(new, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        said = reply(ours, b"passphrase of the keystore: ", b"correct horse\n")
        said += reply(ours, b"passphrase of the keystore, again: ", b"correct horse\n")
        said += reply(ours, b"sha256", b"")
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert PASSPHRASE.encode() not in said
    assert open_keystore(path, PASSPHRASE).public.address.encode() in said


def reply(terminal: int, prompt: bytes, line: bytes) -> bytes:
    """Wait until a terminal shows a prompt, type a line, and return what was shown."""
    shown, until = b"", time.monotonic() + 30
    while prompt not in shown:
        assert select.select([terminal], [], [], max(0, until - time.monotonic()))[0], shown
        shown += os.read(terminal, 4096)
    os.write(terminal, line)
    return shown


def test_ctrl_c_at_a_terminal_is_exit_code_130(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    new = [sys.executable, "-c", AT_A_TERMINAL, "key", "new", "--keystore", str(tmp_path / "new.json")]
    child = subprocess.Popen(new, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        reply(ours, b"passphrase of the keystore: ", b"")
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    assert list(tmp_path.iterdir()) == []
