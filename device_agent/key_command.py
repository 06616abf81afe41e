"""`idml-agent key`: make, show, back up and restore the device's keys, and change their passphrase."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from device_agent.keystore import PublicKeys

_OWN = "passphrase of the keystore"
_NEW = "new passphrase of the keystore"
_BACKUP = "passphrase of the backup"

_EXAMPLES = """\
examples:
  idml-agent key new                             make keys, under a passphrase that is asked for twice
  idml-agent key show --json                     what everybody may know; asks for nothing
  idml-agent key backup --to device-7.json
  idml-agent key restore --from device-7.json
  idml-agent key passphrase --passphrase-file old --new-passphrase-file new

The keystore's passphrase comes from --passphrase-file, else from the systemd credential idml-passphrase, else from the
terminal. Who loses it, or the file, loses the account and what it owns: keep a backup."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `key` and its own commands to those of `idml-agent`."""
    parser = commands.add_parser(
        "key",
        allow_abbrev=False,
        help="make, show, back up and restore the device's keys",
        description="The keys of this device: of its account, its link and its radios, in one encrypted file.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(required=True, metavar="COMMAND")
    making = _step(steps, "new", _new, "make keys and print the account's address and the link key's fingerprint")
    showing = _step(steps, "show", _show, "print what is public: the address, the link key and its fingerprint")
    for one in (making, showing):
        one.add_argument("--json", action="store_true", help="print JSON")
    backing_up = _step(steps, "backup", _backup, "copy the keys to a file under a passphrase of its own")
    backing_up.add_argument("--to", type=Path, required=True, metavar="FILE", help="where nothing is yet")
    restoring = _step(steps, "restore", _restore, "make the keystore from a backup; refused where there is one")
    restoring.add_argument("--from", dest="backup", type=Path, required=True, metavar="FILE", help="the backup")
    for one in (backing_up, restoring):
        _takes_file(one, "--backup-passphrase-file", _BACKUP)
    changing = _step(steps, "passphrase", _change, "put the same keys under another passphrase")
    _takes_file(changing, "--new-passphrase-file", _NEW)
    for one in (making, backing_up, restoring, changing):
        _takes_file(one, "--passphrase-file", _OWN)


def _step(
    steps: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: object, about: str
) -> argparse.ArgumentParser:
    parser = steps.add_parser(name, allow_abbrev=False, help=about, description=f"{about[:1].upper()}{about[1:]}.")
    parser.add_argument("--keystore", type=Path, metavar="PATH", help="the file (default: in this user's data folder)")
    parser.set_defaults(run=run, extra="agent")
    return parser


def _takes_file(parser: argparse.ArgumentParser, option: str, label: str) -> None:
    parser.add_argument(option, type=Path, metavar="FILE", help=f"the first line is the {label}")


def _new(arguments: argparse.Namespace) -> int:
    from device_agent import keystore  # noqa: PLC0415 - --help stays quick

    path = _path(arguments)
    keystore.refuse_existing(path)
    keys = keystore.Keys.fresh()
    keystore.create(path, keys, _own(arguments, new=True))
    return _say(path, keys.public, as_json=arguments.json)


def _show(arguments: argparse.Namespace) -> int:
    from device_agent.keystore import read_public  # noqa: PLC0415

    path = _path(arguments)
    return _say(path, read_public(path), as_json=arguments.json)


def _backup(arguments: argparse.Namespace) -> int:
    from device_agent import keystore  # noqa: PLC0415

    path = _path(arguments)
    keystore.refuse_existing(arguments.to)
    public = keystore.read_public(path)
    keystore.back_up(path, _own(arguments), arguments.to, _of_backup(arguments, new=True))
    print(f"the keys of {public.address} are backed up in {arguments.to}")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from device_agent import keystore  # noqa: PLC0415

    path = _path(arguments)
    keystore.refuse_existing(path)
    public = keystore.read_public(arguments.backup)
    keystore.restore(path, arguments.backup, _of_backup(arguments), _own(arguments, new=True))
    print(f"the keys of {public.address} are restored in {path}")
    return 0


def _change(arguments: argparse.Namespace) -> int:
    from device_agent import keystore  # noqa: PLC0415

    path = _path(arguments)
    public = keystore.read_public(path)
    old = _own(arguments)
    new = _asked(_NEW, arguments.new_passphrase_file, "--new-passphrase-file", new=True)
    keystore.change_passphrase(path, old, new)
    print(f"the keys of {public.address} are under the new passphrase; backups keep theirs")
    return 0


def _path(arguments: argparse.Namespace) -> Path:
    import platformdirs  # noqa: PLC0415

    return arguments.keystore or platformdirs.user_data_path("idml") / "keystore.json"


def _own(arguments: argparse.Namespace, *, new: bool = False) -> str:
    """Return the keystore's own passphrase, which systemd may give too."""
    from device_agent.passphrase import credentials_of  # noqa: PLC0415

    return _asked(_OWN, arguments.passphrase_file, "--passphrase-file", new=new, credentials=credentials_of(os.environ))


def _of_backup(arguments: argparse.Namespace, *, new: bool = False) -> str:
    return _asked(_BACKUP, arguments.backup_passphrase_file, "--backup-passphrase-file", new=new)


def _asked(label: str, file: Path | None, option: str, *, new: bool, credentials: str | None = None) -> str:
    from device_agent.passphrase import obtain, terminal  # noqa: PLC0415

    return obtain(label, file=file, option=option, new=new, credentials=credentials, ask=terminal())


def _say(path: Path, public: PublicKeys, *, as_json: bool) -> int:
    import json  # noqa: PLC0415

    shown: dict[str, Any] = {
        "keystore": str(path),
        "address": public.address,
        "link_key": public.link_key.hex(),
        "link_key_sha256": public.link_fingerprint,
    }
    if as_json:
        print(json.dumps(shown))
        return 0
    for name, value in shown.items():
        print(f"{name.replace('_', ' '):<16}{value}")
    return 0
