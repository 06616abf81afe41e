"""The gateway's own key: made once, kept to itself, never shown."""

import stat
from multiprocessing import get_context
from pathlib import Path

import pytest

from contracts.identity import Identity
from gateway.errors import ConfigError, StoreUnavailable
from gateway.operator import load_operator


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    place = tmp_path / "data" / "operator.key"
    first = load_operator(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert load_operator(place).address == first.address
    assert [one.name for one in place.parent.iterdir()] == ["operator.key"]


def test_the_key_is_shown_nowhere(tmp_path: Path) -> None:
    operator = load_operator(tmp_path / "operator.key")
    secret = (tmp_path / "operator.key").read_text().strip()
    assert secret not in repr(operator) + str(vars(operator))


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32, "11" * 33, "0x" + "ff" * 32])
def test_a_file_without_a_key_is_told_by_its_name_and_not_by_its_content(tmp_path: Path, text: str) -> None:
    place = tmp_path / "operator.key"
    place.write_text(text)
    with pytest.raises(ConfigError, match=r"operator\.key must hold 64 hex digits") as caught:
        load_operator(place)
    assert not text or text not in str(caught.value)


def test_a_key_may_begin_with_0x(tmp_path: Path) -> None:
    place = tmp_path / "operator.key"
    place.write_text("0x" + "11" * 32 + "\n")
    assert load_operator(place).address == Identity(b"\x11" * 32).address


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match=r"operator\.key"):
        load_operator(tmp_path / "file" / "operator.key")


def _address(place: Path) -> str:
    return load_operator(place).address


def test_processes_that_start_together_use_one_key(tmp_path: Path) -> None:
    with get_context("spawn").Pool(3) as pool:
        found = pool.map(_address, [tmp_path / "operator.key"] * 6)
    assert len(set(found)) == 1
