"""The rig itself: what it does to a network, and that nothing of it is left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from conftest import need
from namespaces import Bridge, Host

Network = Callable[[int], Bridge]


def hears(one: Host, other: Host) -> bool:
    """Return whether a datagram gets through within a second or so: TCP to a port that nobody has is refused."""
    probe = f"import socket; socket.create_connection(({other.ip!r}, 9), 1)"
    tried = one.popen([sys.executable, "-c", probe], stderr=subprocess.PIPE)
    _, said = tried.communicate(timeout=10)
    return "ConnectionRefusedError" in said


def test_hosts_hear_each_other_unless_the_cable_is_pulled(bridge: Network) -> None:
    a, b = bridge(2).hosts
    assert hears(a, b)
    b.cut()
    assert not hears(a, b)
    b.mend()
    assert hears(a, b)
    b.readdress("10.77.0.50")
    assert b.ip == "10.77.0.50"
    assert hears(a, b)


@pytest.mark.programs("iptables", "ip6tables")
def test_what_is_lost_does_not_arrive(bridge: Network) -> None:
    a, b = bridge(2).hosts
    b.loss(100)
    assert not hears(a, b)
    b.loss(0)
    assert hears(a, b)


TAKE = (
    "import socket; taking = socket.create_server(('', 7000)); print('ready', flush=True); other, _ = taking.accept()"
)
TAKE += "\nwhile other.recv(1 << 16): pass"
GIVE = "import socket, sys; to = socket.create_connection((sys.argv[1], 7000)); to.sendall(bytes(1 << 20))"
GIVE += "; to.shutdown(socket.SHUT_WR); to.recv(1)"


@pytest.mark.programs("tc")
def test_a_slow_network_is_slow(bridge: Network) -> None:
    a, b = bridge(2).hosts
    b.rate(8)
    taking = b.popen([sys.executable, "-c", TAKE], stdout=subprocess.PIPE)
    assert taking.stdout is not None
    taking.stdout.readline()
    started_at_s = time.monotonic()
    a.run([sys.executable, "-c", GIVE, b.ip], timeout_s=30)
    assert 0.8 < time.monotonic() - started_at_s < 5  # a mebibyte at 8 Mbit/s


def test_nothing_is_left_after_a_fault() -> None:
    need()
    with pytest.raises(ZeroDivisionError), Bridge(2) as network:  # noqa: PT012
        a, _ = network.hosts
        running = a.popen(["sleep", "60"])
        assert a.namespace in namespaces()
        _ = 1 / 0
    assert running.poll() is not None
    assert not {one.namespace for one in network.hosts} & namespaces()


def namespaces() -> set[str]:
    listed = subprocess.run(["/usr/bin/env", "ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines()}
