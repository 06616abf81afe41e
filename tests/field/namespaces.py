"""Hosts on one bridge, made of Linux network namespaces. Needs root and `ip`; some of it `tc` or `iptables`."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

PACKAGE_OF = {"ip": "iproute2", "tc": "iproute2", "iptables": "iptables", "ip6tables": "iptables"}
"""Which Debian package has each program."""

_NUMBERS = itertools.count()
_LINK = "eth0"
_QUICK_S = 10.0
_PATIENCE_S = 5.0


def what_is_missing(*programs: str) -> str | None:
    """Return why no network can be made here, None if one can."""
    for one in ("ip", *programs):
        if shutil.which(one) is None:
            return f"{one} is missing: it is in the package {PACKAGE_OF[one]}"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = _fresh_name("try")
    tried = _try("ip", "netns", "add", name)
    if tried.returncode != 0:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _do("ip", "netns", "del", name)
    return None


def kill(started: Iterable[subprocess.Popen[str]]) -> None:
    """End programs that still run, and close what leads to them."""
    for one in started:
        one.kill()
        one.wait(_PATIENCE_S)
        for pipe in (one.stdin, one.stdout, one.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Host:
    """One host: a namespace with one network card, `eth0`."""

    def __init__(self, bridge: str, number: int) -> None:
        self.namespace = _fresh_name(f"h{number}")
        self.ip = f"10.77.0.{number + 1}"
        self._bridge = bridge
        self._port = f"port{number}"
        self._started: list[subprocess.Popen[str]] = []

    def make(self) -> None:
        """Make the namespace and plug it into the bridge."""
        _do("ip", "netns", "add", self.namespace)
        far_end = ("peer", "name", _LINK, "netns", self.namespace)
        _do("ip", "-n", self._bridge, "link", "add", self._port, "type", "veth", *far_end)
        _do("ip", "-n", self._bridge, "link", "set", self._port, "master", "br0", "up")
        # Nobody else has these addresses: the kernel need not ask for a second or two.
        self.run(["sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{_LINK}/accept_dad"])
        self._ip("link", "set", "lo", "up")
        self._ip("addr", "add", f"{self.ip}/24", "dev", _LINK)
        self.mend()

    def remove(self) -> None:
        """Kill what still runs here and remove the namespace."""
        kill(self._started)
        _try("ip", "netns", "del", self.namespace)

    def run(self, command: list[str], timeout_s: float = _QUICK_S) -> subprocess.CompletedProcess[str]:
        """Run a program on this host; raise if it fails."""
        return _do("ip", "netns", "exec", self.namespace, *command, timeout_s=timeout_s)

    def popen(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program on this host; it is killed when the network is taken down."""
        argv = _argv("ip", "netns", "exec", self.namespace, *command)
        process = subprocess.Popen(argv, text=True, **options)
        self._started.append(process)
        return process

    def pids(self) -> list[int]:
        """The processes on this host."""
        return [int(one) for one in _do("ip", "netns", "pids", self.namespace).stdout.split()]

    def cut(self) -> None:
        """Pull the cable."""
        self._ip("link", "set", _LINK, "down")

    def mend(self) -> None:
        """Plug it in again."""
        self._ip("link", "set", _LINK, "up")
        self._route()

    def readdress(self, ip: str) -> None:
        """Give the host another IPv4 address, as a new lease would."""
        self._ip("addr", "flush", "dev", _LINK, "scope", "global")
        self._ip("addr", "add", f"{ip}/24", "dev", _LINK)
        self._route()
        self.ip = ip

    def part(self, other: Host) -> None:
        """Let neither of two hosts hear any more what the other says, to it or to all; no cable is touched."""
        self._filter(other, "-A")
        other._filter(self, "-A")

    def join(self, other: Host) -> None:
        """Let them hear each other again."""
        self._filter(other, "-D")
        other._filter(self, "-D")

    def _filter(self, other: Host, what: str) -> None:
        card = other.run(["cat", f"/sys/class/net/{_LINK}/address"]).stdout.strip()
        for program in ("iptables", "ip6tables"):
            self.run([program, what, "INPUT", "-m", "mac", "--mac-source", card, "-j", "DROP"])

    def rate(self, mbit: float) -> None:
        """Let no more than so much through, each way."""
        shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "200ms")
        _do("tc", "-n", self.namespace, "qdisc", "replace", "dev", _LINK, *shape)
        _do("tc", "-n", self._bridge, "qdisc", "replace", "dev", self._port, *shape)

    def loss(self, percent: float) -> None:
        """Lose so much of what arrives here, at random; nothing any more with 0."""
        for program in ("iptables", "ip6tables"):
            self.run([program, "-F", "INPUT"])
            if percent:
                chance = ["-m", "statistic", "--mode", "random", "--probability", f"{percent / 100:.4f}"]
                self.run([program, "-A", "INPUT", "-i", _LINK, *chance, "-j", "DROP"])

    def count(self, ip: str) -> None:
        """Begin to count what arrives from an IPv4 address."""
        self.run(["iptables", "-A", "INPUT", "-s", ip])

    def counted_bytes(self, ip: str) -> int:
        """What has arrived from there since, headers included."""
        lines = self.run(["iptables", "-nvxL", "INPUT"]).stdout.splitlines()
        return sum(int(line.split()[1]) for line in lines if ip in line.split())

    def _ip(self, *arguments: str) -> None:
        _do("ip", "-n", self.namespace, *arguments)

    def _route(self) -> None:
        """Send multicast through the card: without a default route a program that names no card could not."""
        self._ip("route", "replace", "224.0.0.0/4", "dev", _LINK)


class Bridge:
    """Hosts on one bridge, which has a namespace of its own: nothing of it is seen outside.

    Use as a context manager: whatever happens, nothing is left.
    """

    def __init__(self, hosts: int) -> None:
        self._namespace = _fresh_name("br")
        self.hosts = [Host(self._namespace, number) for number in range(hosts)]

    def __enter__(self) -> Self:
        try:
            _do("ip", "netns", "add", self._namespace)
            _do("ip", "-n", self._namespace, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            _do("ip", "-n", self._namespace, "link", "set", "br0", "up")
            for host in self.hosts:
                host.make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _remove(self) -> None:
        for host in self.hosts:
            host.remove()
        _try("ip", "netns", "del", self._namespace)


def _fresh_name(what: str) -> str:
    return f"idml-{os.getpid()}-{next(_NUMBERS)}-{what}"


def _argv(program: str, *arguments: str) -> list[str]:
    return [shutil.which(program) or program, *arguments]


def _do(program: str, *arguments: str, timeout_s: float = _QUICK_S) -> subprocess.CompletedProcess[str]:
    done = _try(program, *arguments, timeout_s=timeout_s)
    assert done.returncode == 0, f"{' '.join(done.args)}: {done.stderr.strip() or done.returncode}"
    return done


def _try(program: str, *arguments: str, timeout_s: float = _QUICK_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_argv(program, *arguments), check=False, capture_output=True, text=True, timeout=timeout_s)
