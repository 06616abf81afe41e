"""The inventory: what a good one says, and that every bad one is one clear line."""

from pathlib import Path

import pytest

from provisioning.__main__ import main
from provisioning.errors import InventoryError
from provisioning.inventory import Release, read_inventory

GOOD = """
[fleet]
name = "trial"
gateway = "https://192.168.8.1:8547"

[[devices]]
id = "07"
release = "bookworm"

[[devices]]
id = "08"
roles = ["validator"]
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "fleet.toml"
        path.write_text(text)
        return path

    return write


def test_a_fleet_is_read_with_its_defaults(written) -> None:
    fleet = read_inventory(written(GOOD))
    first, second = fleet.devices
    assert fleet.hostname(first) == "trial-07"
    assert (first.release, first.release.python, first.trains) == (Release.BOOKWORM, "3.11", True)
    assert (second.release, second.release.python, second.trains) == (Release.TRIXIE, "3.13", False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('id = "08"', 'id = "07"'), "must be unique, given twice: 07"),
        (('release = "bookworm"', 'release = "buster"'), "devices.0.release = 'buster'"),
        (("[fleet]", "[fleet]\nwifi = 1"), "unknown key fleet.wifi"),
        (('name = "trial"', ""), "fleet.name is missing"),
        (('name = "trial"', 'name = "Trial!"'), "fleet.name = 'Trial!'"),
        (("https://192.168.8.1:8547", "ftp://host"), "must be an http or https URL"),
        (("https://192.168.8.1:8547", "https://me@host"), "must be an http or https URL"),
        (('["validator"]', "[]"), "devices.1.roles"),
        (("[fleet]", "[fleet"), "not TOML"),
    ],
)
def test_a_bad_inventory_is_one_line_naming_file_and_key(written, change, said, capsys) -> None:
    path = written(GOOD.replace(*change))
    with pytest.raises(InventoryError, match=r"fleet\.toml"):
        read_inventory(path)
    assert main(["inventory", str(path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, capsys) -> None:
    assert main(["inventory", str(tmp_path / "none.toml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_command_lists_every_device(written, capsys) -> None:
    assert main(["inventory", str(written(GOOD))]) == 0
    out = capsys.readouterr().out
    assert "trial-07" in out
    assert "without torch" in out
