"""``idml-provision``: look at a fleet before it is made.

Exit codes: 0 done, 2 bad usage or a bad inventory (one line on stderr says why), 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioning.errors import InventoryError
from provisioning.inventory import Fleet, read_inventory

_EXAMPLES = """\
examples:
  idml-provision inventory fleet.toml        check the file and list its devices

the inventory:
  [fleet]
  name = "field-trial"
  gateway = "https://192.168.8.1:8547"

  [[devices]]
  id = "07"
  release = "trixie"                # or bookworm
  roles = ["learner", "validator"]  # ["validator"] alone installs no torch
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="idml-provision",
        description="Describe a fleet of devices, and check the description.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    inventory = commands.add_parser("inventory", help="check an inventory and list its devices")
    inventory.add_argument("file", type=Path, metavar="FLEET.toml")
    arguments = parser.parse_args(argv)
    try:
        _list(read_inventory(arguments.file))
    except InventoryError as error:
        print(f"idml-provision: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _list(fleet: Fleet) -> None:
    print(f"fleet {fleet.fleet.name}: {len(fleet.devices)} devices, gateway {fleet.fleet.gateway}")
    width = max(len(fleet.hostname(one)) for one in fleet.devices)
    for one in fleet.devices:
        bundle = "with torch" if one.trains else "without torch"
        roles = ", ".join(one.roles)
        name, release = fleet.hostname(one), one.release
        print(f"  {name:{width}}  {release}  Python {release.python}  {bundle}  ({roles})")


if __name__ == "__main__":
    sys.exit(main())
