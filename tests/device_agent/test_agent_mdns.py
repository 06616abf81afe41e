"""The radio on the local network where that needs no root: which records are believed, and two radios on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSOutgoing, ServiceInfo, Zeroconf

from device_agent.clock import SystemClock
from device_agent.radio import Endpoint, RadioId, Sighting
from device_agent.radio.mdns import MdnsRadio
from device_agent.radio.records import (
    MOST_ADDRESSES,
    SERVICE,
    Found,
    Reason,
    id_in_name,
    instance_name,
    properties_of,
    read_record,
)

ID = RadioId("0123456789abcdef")
NAME = instance_name(ID)
SAYS = properties_of(ID, 7)
HOME = [ip_network("192.168.1.0/24"), ip_network("fe80::/64")]

bytes_or_none = st.none() | st.binary(max_size=20)
believable = st.sampled_from([b"v", b"id", b"f"])
properties = st.dictionaries(believable | st.binary(max_size=8), st.sampled_from([*SAYS.values()]) | bytes_or_none)
ips = st.ip_addresses().map(str)
addresses = st.lists(ips | st.text(max_size=12) | st.sampled_from(["192.168.1.7", "fe80::1%2", "::1", "127.0.0.1"]))
ports = st.none() | st.integers(-1, 1 << 17)


def found(*addresses: str) -> Found | Reason:
    return read_record(NAME, SAYS, addresses, 8765, HOME)


def test_a_record_as_we_write_it_is_believed() -> None:
    there = Endpoint(host="192.168.1.7", port=8765)
    assert found("192.168.1.7") == Found(radio_id=ID, family=7, endpoint=there)
    marked = read_record(instance_name(ID, "beef"), SAYS, ["192.168.1.7"], 8765, HOME)
    assert marked == found("192.168.1.7")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({b"v": b"2"}, Reason.VERSION),
        ({b"v": None}, Reason.VERSION),
        ({b"id": b"fedcba9876543210"}, Reason.RADIO_ID),
        ({b"id": b"\xff" * 16}, Reason.RADIO_ID),
        ({b"f": b"7"}, Reason.FAMILY),
        ({b"f": b"0x"}, Reason.FAMILY),
        ({b"f": None}, Reason.FAMILY),
    ],
)
def test_a_text_that_is_not_ours_is_not_believed(changed: dict[bytes, bytes | None], reason: Reason) -> None:
    assert read_record(NAME, {**SAYS, **changed}, ["192.168.1.7"], 8765, HOME) == reason


@pytest.mark.parametrize("port", [None, -1, 0, 65536])
def test_a_port_is_one_of_tcp(port: int | None) -> None:
    assert read_record(NAME, SAYS, ["192.168.1.7"], port, HOME) == Reason.PORT


@pytest.mark.parametrize("name", ["", SERVICE, f"{ID}.local.", f"{ID[:-1]}.{SERVICE}", f"{ID}-beefy.{SERVICE}"])
def test_an_instance_is_called_as_its_id(name: str) -> None:
    assert id_in_name(name) is None
    assert read_record(name, SAYS, ["192.168.1.7"], 8765, HOME) == Reason.NAME


@pytest.mark.parametrize(
    ("addresses", "best"),
    [
        (["10.0.0.1", "192.168.1.7"], "192.168.1.7"),
        (["fe80::1%2", "10.0.0.1"], "10.0.0.1"),
        (["fe80::1", "fe80::2%2"], "fe80::2%2"),
        (["192.168.1.9", "192.168.1.7"], "192.168.1.9"),  # the newest first: an old address may still be there
        (["224.0.0.251", "127.0.0.1", "0.0.0.0", "nonsense", "192.168.1.7"], "192.168.1.7"),
    ],
)
def test_of_several_addresses_the_nearest_is_taken(addresses: list[str], best: str) -> None:
    one = found(*addresses)
    assert isinstance(one, Found)
    assert one.endpoint.host == best


@pytest.mark.parametrize(
    "address",
    ["224.0.0.251", "127.0.0.1", "0.0.0.0", "255.255.255.255", "192.168.1.255", "::1", "::", "ff02::fb%2", "fe80::1",
     "2001:db8::1", "::ffff:192.168.1.7", "", "here"],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_not_believed(address: str) -> None:
    assert found(address) == Reason.ADDRESS


def test_nobody_has_a_hundred_addresses() -> None:
    many = [f"192.168.1.{one}" for one in range(1, 100)]
    assert found(*many) == Reason.TOO_MANY
    assert isinstance(found(*many[:MOST_ADDRESSES]), Found)
    assert found() == Reason.ADDRESS


def test_loopback_counts_only_where_it_is_asked_for() -> None:
    assert isinstance(read_record(NAME, SAYS, ["127.0.0.1"], 8765, [ip_network("127.0.0.0/8")]), Found)


def test_what_leads_back_to_ourselves_is_nobody_else() -> None:
    own = {Endpoint(host="192.168.1.2", port=8765), Endpoint(host="fe80::2", port=8765)}

    def found(*addresses: str, port: int = 8765) -> Found | Reason:
        return read_record(NAME, SAYS, addresses, port, HOME, own)

    assert found("192.168.1.2", "fe80::2%3") == Reason.OURSELVES
    assert isinstance(found("192.168.1.2", port=1), Found)  # another agent on this device
    other = found("192.168.1.2", "192.168.1.7")  # who had our address before
    assert isinstance(other, Found)
    assert other.endpoint.host == "192.168.1.7"


@given(st.text(max_size=40) | st.just(NAME), properties, addresses, ports)
def test_whatever_comes_from_the_air_gives_a_usable_endpoint_or_a_reason(
    name: str, said: dict[bytes, bytes | None], addresses: list[str], port: int | None
) -> None:
    one = read_record(name, said, addresses, port, HOME)
    if isinstance(one, Reason):
        return
    host = ip_address(one.endpoint.host)
    assert one.radio_id == ID
    assert one.endpoint.host in {str(ip_address(each)) for each in addresses if _is_address(each)}
    assert 0 < one.endpoint.port < 65536
    assert 0 <= one.family < 256
    assert not host.is_multicast
    assert not host.is_loopback
    assert not host.is_unspecified


@given(addresses, ports)
def test_a_believable_text_is_refused_for_where_it_leads_alone(addresses: list[str], port: int | None) -> None:
    one = read_record(NAME, SAYS, addresses, port, HOME)
    assert isinstance(one, Found) or one in {Reason.PORT, Reason.TOO_MANY, Reason.ADDRESS}


@given(st.binary(min_size=8, max_size=8).map(bytes.hex).map(RadioId), st.integers(0, 255))
def test_what_we_write_we_read(radio_id: RadioId, family: int) -> None:
    one = read_record(instance_name(radio_id), properties_of(radio_id, family), ["10.0.0.1"], 1, HOME)
    assert one == Found(radio_id=radio_id, family=family, endpoint=Endpoint(host="10.0.0.1", port=1))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# -- on loopback ------------------------------------------------------------------------------------------------------


class Heard:
    """A radio on loopback under an id that no other run of the tests has, and what it says."""

    def __init__(self, port: int) -> None:
        self.radio_id = RadioId(os.urandom(8).hex())
        self.port = port
        self.faults: list[object] = []
        self.radio = MdnsRadio(
            port=port,
            clock=SystemClock(),
            radio_id=self.radio_id,
            family=7,
            observe=self._observe,
            interfaces=["lo"],
        )

    async def first_of(self, radio_id: RadioId) -> Sighting:
        async for one in self.radio.sightings():
            if one.radio_id == radio_id:
                return one
        raise AssertionError("the radio was closed")

    def _observe(self, name: str, **fields: object) -> None:
        if name == "radio fault":
            self.faults.append(fields["reason"])


def test_two_radios_on_loopback_find_each_other() -> None:
    async def play() -> None:
        a, b = Heard(4001), Heard(4002)
        async with asyncio.timeout(20), a.radio, b.radio:
            seen_by_a, seen_by_b = await asyncio.gather(a.first_of(b.radio_id), b.first_of(a.radio_id))
            assert seen_by_a.endpoint == Endpoint(host="127.0.0.1", port=4002)
            assert seen_by_b.endpoint == Endpoint(host="127.0.0.1", port=4001)
            new_id = RadioId(os.urandom(8).hex())
            await b.radio.rename(new_id)
            assert (await a.first_of(new_id)).endpoint == seen_by_a.endpoint
        assert a.faults == b.faults == []

    asyncio.run(play())


def test_a_closed_radio_yields_nothing_more() -> None:
    async def play() -> None:
        a = Heard(4003)
        async with asyncio.timeout(10), a.radio:
            waiting = asyncio.create_task(a.first_of(RadioId("nobody")))
            await asyncio.sleep(0.1)
            await a.radio.close()
            with pytest.raises(AssertionError, match="closed"):
                await waiting

    asyncio.run(play())


def test_of_a_crowd_that_nobody_asks_about_the_newest_are_remembered() -> None:
    async def play() -> None:
        a = Heard(4004)
        async with asyncio.timeout(20), a.radio:
            await asyncio.sleep(2)  # until it listens
            crowd = [RadioId(os.urandom(8).hex()) for _ in range(400)]
            await asyncio.to_thread(announce, crowd)
        seen = [one.radio_id async for one in a.radio.sightings()]
        assert len(seen) <= 256
        # Some packets are lost where the machine is busy, but not most of them.
        older, newer = crowd[:100], crowd[-100:]
        assert len({*seen} & {*newer}) > len({*seen} & {*older})

    asyncio.run(play())


def announce(crowd: list[RadioId]) -> None:
    """Announce devices that do not exist."""
    with contextlib.closing(Zeroconf(interfaces=["127.0.0.1"])) as air:
        for radio_id in crowd:
            one = ServiceInfo(
                SERVICE,
                instance_name(radio_id),
                port=1,
                server=f"{radio_id}.local.",
                properties=properties_of(radio_id, 7),
                parsed_addresses=["127.0.0.2"],
            )
            said = DNSOutgoing(0x8400)
            for record in (one.dns_pointer(), one.dns_service(), one.dns_text(), *one.dns_addresses()):
                said.add_answer_at_time(record, 0)
            air.send(said)
            time.sleep(0.002)
        time.sleep(0.5)
