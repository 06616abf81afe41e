"""Radios on a real network, each in its own process on its own host: who finds whom, and how soon."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from namespaces import Bridge
from radios import RadioProcess

A, B, C = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"
Network = Callable[[int], Bridge]


def test_two_radios_find_each_other_and_a_newcomer(bridge: Network) -> None:
    hosts = bridge(3).hosts
    a, b = RadioProcess(hosts[0], A), RadioProcess(hosts[1], B)
    a.sees(b)
    b.sees(a)
    a.announced()
    b.announced()
    newcomer = RadioProcess(hosts[2], C)
    opened_at_s = newcomer.wait_for("opens")["at_s"]
    old_seen_s = max(newcomer.sees(one)["seen_at_s"] for one in (a, b)) - opened_at_s
    new_seen_s = max(one.sees(newcomer)["seen_at_s"] for one in (a, b)) - opened_at_s
    print(f"a newcomer sees the others after {old_seen_s:.2f} s, they see it after {new_seen_s:.2f} s")
    assert old_seen_s < 3
    assert new_seen_s < 5
    assert [one.sightings_of(one.radio_id) for one in (a, b, newcomer)] == [[], [], []]


def test_who_said_goodbye_is_seen_anew_when_it_comes_back(bridge: Network) -> None:
    hosts = bridge(2).hosts
    a, b = RadioProcess(hosts[0], A).announced(), RadioProcess(hosts[1], B).announced()
    a.sees(b)
    b.close()
    assert b.said(what="end of sightings")
    a.forget()
    again = RadioProcess(hosts[1], B)
    a.sees(again)


def test_who_was_killed_and_comes_back_is_seen_again_and_nobody_in_between(bridge: Network) -> None:
    hosts = bridge(2).hosts
    a, b = RadioProcess(hosts[0], A).announced(), RadioProcess(hosts[1], B).announced()
    a.sees(b)
    b.kill()
    time.sleep(3)
    a.forget()
    time.sleep(5)
    assert a.sightings_of(B) == []  # nobody says so, but it is gone
    again = RadioProcess(hosts[1], B).announced()
    again.sees(a)
    a.sees(again)
    time.sleep(1)
    assert len(a.sightings_of(B)) == 1  # an announcement is three packets
    again.kill()
    elsewhere = RadioProcess(hosts[1], B, port=4321)
    a.sees(elsewhere)


def test_a_new_id_is_seen_and_the_old_one_goes(bridge: Network) -> None:
    hosts = bridge(3).hosts
    a, b = RadioProcess(hosts[0], A).announced(), RadioProcess(hosts[1], B).announced()
    a.sees(b)
    b.rename(C)
    a.sees(b)
    b.wait_for("renamed")
    newcomer = RadioProcess(hosts[2], "dddddddddddddddd")
    newcomer.sees(b)
    newcomer.announced()
    assert newcomer.sightings_of(B) == []
    assert [b.sightings_of(one) for one in (B, C)] == [[], []]


def test_a_new_address_is_announced(bridge: Network) -> None:
    hosts = bridge(2).hosts
    a, b = RadioProcess(hosts[0], A).announced(), RadioProcess(hosts[1], B).announced()
    a.sees(b)
    b.sees(a)
    b.forget()
    changed_at_s = time.monotonic()
    hosts[1].readdress("10.77.0.99")
    seen_s = a.sees(b)["seen_at_s"] - changed_at_s
    print(f"another address is seen after {seen_s:.2f} s")
    b.sees(a)


def test_a_radio_without_a_network_waits_for_one(bridge: Network) -> None:
    hosts = bridge(2).hosts
    a = RadioProcess(hosts[0], A).announced()
    hosts[1].cut()
    b = RadioProcess(hosts[1], B)
    b.wait_for("radio fault", reason="no network is up")
    time.sleep(6)
    hosts[1].mend()
    a.sees(b)
    b.sees(a)
    assert len(b.said(what="radio fault")) == 1


def test_two_that_were_apart_find_each_other_when_the_cable_is_back(bridge: Network) -> None:
    hosts = bridge(2).hosts
    a = RadioProcess(hosts[0], A).announced()
    hosts[0].cut()
    b = RadioProcess(hosts[1], B).announced()
    a.wait_for("radio fault", reason="no network is up")
    a.forget()
    hosts[0].mend()
    a.sees(b)
    b.sees(a)


@pytest.mark.programs("iptables", "ip6tables")
def test_parts_of_a_network_that_come_together_find_each_other_though_no_cable_was_touched(bridge: Network) -> None:
    hosts = bridge(3).hosts
    hosts[0].part(hosts[2])
    hosts[1].part(hosts[2])
    a, b, c = (RadioProcess(host, one).announced() for host, one in zip(hosts, (A, B, C), strict=True))
    a.sees(b)
    time.sleep(3)
    assert [one.sightings_of(C) for one in (a, b)] == [[], []]
    for _ in range(2):  # the second time they know each other's records already
        hosts[0].join(hosts[2])
        hosts[1].join(hosts[2])
        for one, other in ((a, c), (b, c), (c, a), (c, b)):
            one.sees(other, 40)
        hosts[0].part(hosts[2])
        hosts[1].part(hosts[2])
        time.sleep(3)
        for one in (a, b, c):
            one.forget()


def test_twenty_radios_find_all_pairs(bridge: Network) -> None:
    _all_pairs(bridge(20))


@pytest.mark.programs("iptables", "ip6tables")
def test_twenty_radios_find_all_pairs_though_a_tenth_is_lost(bridge: Network) -> None:
    network = bridge(20)
    for host in network.hosts:
        host.loss(10)
    _all_pairs(network)


def _all_pairs(network: Bridge) -> None:
    started_at_s = time.monotonic()
    radios = [RadioProcess(host, f"{number:016x}") for number, host in enumerate(network.hosts)]
    last_open_s = max(one.wait_for("opens", 30)["at_s"] for one in radios)
    seen_s = [one.sees(other, 30)["seen_at_s"] for one in radios for other in radios if one is not other]
    assert len(seen_s) == 380
    from_start_s, from_open_s = max(seen_s) - started_at_s, max(seen_s) - last_open_s
    print(f"380 pairs after {from_start_s:.1f} s, {from_open_s:.1f} s after the last radio opened")
    assert from_start_s < 30


@pytest.mark.parametrize("at_once", [True, False])
def test_two_radios_with_one_id_are_both_seen(bridge: Network, at_once: bool) -> None:
    hosts = bridge(3).hosts
    c = RadioProcess(hosts[2], C).announced()
    a = RadioProcess(hosts[0], A, port=1111)
    if not at_once:
        a.announced()
    copy = RadioProcess(hosts[1], A, port=2222)
    c.sees(a)
    c.sees(copy)
    assert copy.wait_until(lambda: bool(copy.said(what="radio fault") or a.said(what="radio fault")), 10)
    faults = a.said(what="radio fault") + copy.said(what="radio fault")
    assert {one["reason"] for one in faults} == {"another device has this instance name"}
    a.sees(c)
    copy.sees(c)
    newcomer = RadioProcess(hosts[2], B, port=3333)
    newcomer.sees(a)
    newcomer.sees(copy)


GARBAGE = """
import random, socket
noise = random.Random(1)
air = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
air.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
for number in range(500):
    head = bytes([0, 0, 132, 0, 0, 0, 0, noise.randrange(4), 0, 0, 0, 0]) if number % 2 else b""
    air.sendto(head + noise.randbytes(noise.randrange(1400)), ("224.0.0.251", 5353))
"""

LIES = """
import socket, sys, time
from zeroconf import ServiceInfo, Zeroconf
air = Zeroconf(interfaces=[sys.argv[1]])
good = {"v": "1", "id": "e" * 16, "f": "07"}
lies = [
    ("e" * 16, {}, ["10.77.0.9"], 1), ("e" * 15 + "0", good, ["10.77.0.9"], 1), ("boo", good, ["10.77.0.9"], 1),
    ("e" * 16, good, ["10.77.0.9"], 0), ("e" * 16, good, ["224.0.0.1"], 1), ("e" * 16, good, ["127.0.0.1"], 1),
    ("e" * 16, good, [f"10.77.1.{one}" for one in range(40)], 1),
]
for name, properties, addresses, port in lies:
    info = ServiceInfo("_idml._tcp.local.", f"{name}._idml._tcp.local.", port=port, properties=properties,
                       server=f"{name}.local.", parsed_addresses=addresses)
    air.register_service(info, cooperating_responders=True)
    time.sleep(0.3)
    air.unregister_service(info)
    time.sleep(1.2)
air.close()
"""


def test_garbage_and_lies_kill_nobody(bridge: Network) -> None:
    hosts = bridge(3).hosts
    a = RadioProcess(hosts[0], A).announced()
    hosts[2].run([sys.executable, "-c", GARBAGE])
    hosts[2].run([sys.executable, "-c", LIES, hosts[2].ip], timeout_s=40)
    b = RadioProcess(hosts[1], B)
    a.sees(b)
    b.sees(a)
    assert {one["radio_id"] for one in a.said(what="sighting")} == {B}
    assert len(a.said(what="radio fault")) >= 5
    assert a.usage().memory_info().rss < 100 << 20


FLOOD = """
import sys, time
from zeroconf import Zeroconf, ServiceInfo, DNSOutgoing
air = Zeroconf(interfaces=[sys.argv[1]])
for number in range(3000):
    radio_id = f"{number + 1:016x}"
    one = ServiceInfo("_idml._tcp.local.", f"{radio_id}._idml._tcp.local.", port=1 + number,
                      server=f"{radio_id}.local.", properties={"v": "1", "id": radio_id, "f": "07"},
                      parsed_addresses=["10.77.0.200"])
    said = DNSOutgoing(0x8400)
    for record in (one.dns_pointer(), one.dns_service(), one.dns_text(), *one.dns_addresses()):
        said.add_answer_at_time(record, 0)
    air.send(said)
    time.sleep(0.001)
time.sleep(1)
air.close()
"""


def test_a_crowd_that_is_made_up_costs_little_memory_and_hides_nobody(bridge: Network) -> None:
    hosts = bridge(3).hosts
    a = RadioProcess(hosts[0], A).announced()
    before = a.usage().memory_info().rss
    hosts[2].run([sys.executable, "-c", FLOOD, hosts[2].ip], timeout_s=60)
    b = RadioProcess(hosts[1], B)
    a.sees(b, 30)
    b.sees(a, 30)
    grown_mib = (a.usage().memory_info().rss - before) / (1 << 20)
    print(f"{len(a.said(what='sighting'))} sightings, {grown_mib:.0f} MiB more")
    assert grown_mib < 40


def test_an_idle_radio_costs_next_to_nothing(bridge: Network) -> None:
    hosts = bridge(3).hosts
    radios = [RadioProcess(host, secrets.token_hex(8)) for host in hosts]
    for one in radios:
        for other in radios:
            if one is not other:
                one.sees(other)
    time.sleep(3)
    process = radios[0].usage()
    radios[0].forget()
    before_ns = cpu_ns(process.pid)
    time.sleep(30)
    cpu_percent = (cpu_ns(process.pid) - before_ns) / 30e9 * 100
    rss_mib = process.memory_info().rss / (1 << 20)
    print(f"idle: {cpu_percent:.2f} % of a core, {rss_mib:.0f} MiB")
    assert cpu_percent < 3
    assert rss_mib < 80
    assert len(radios[0].said(what="sighting")) <= 8  # each of two others at most once per silence


def cpu_ns(pid: int) -> int:
    """Return what a process used so far, finer than the system's ticks."""
    return sum(int(one.read_text().split()[0]) for one in Path(f"/proc/{pid}/task").glob("*/schedstat"))
