"""Whatever bytes reach a parser of the agent: each gives a value that reads back the same, or its own fault.

`make thorough` tries ten times as many.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import tracemalloc
import types
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import zstandard
from agent_rig import FakeTransport
from agent_values import LEARNER_SALT, LEARNING, NEIGHBOR, NEIGHBOR_SALT, proposal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mangled import hostile, mangled, mangled_json

from contracts.settlement import DEFAULT_PARAMETERS
from contracts.terms import commitment, terms_to_json
from device_agent import keystore, messages, passphrase, vouching
from device_agent.agent_config import AgentConfig, read_agent_config
from device_agent.errors import (
    ConfigError,
    GatewayRefused,
    GatewayUnreachable,
    KeystoreFault,
    PassphraseFault,
    PeerFault,
)
from device_agent.gateway import GatewayClient
from device_agent.link import wire
from device_agent.radio import RadioId
from device_agent.radio.records import Found, Reason, instance_name, properties_of, read_record
from device_agent.transport import Response
from models.errors import MalformedSnapshot
from models.options import Codec
from models.packing import pack, unpack
from models.registry import Architecture, TensorSpec
from models.snapshot import claimed_architecture, decode, encode, parse

T = TypeVar("T")
F = TypeVar("F", bound=Exception)

slow = settings(deadline=None)


def outcome(read: Callable[[], T], fault: type[F]) -> T | F:
    """What a reader makes of what it reads: its value, or its fault. Any other fault is a test's."""
    try:
        return read()
    except fault as error:
        return error


LINE = 600
"""What a fault says of a stranger's bytes is no longer than that, whatever they hold."""
HEX8, HEX32, HEX64 = "0a" * 8, "1b" * 32, "2c" * 64
STATEMENT = vouching.write(vouching.vouch(LEARNING, bytes(range(32)), now_s=1_790_000_000))


# -- the link and the radio --------------------------------------------------------------------------------------------

SAID = {
    type(said): wire.write(said)
    for said in (
        wire.Challenge(vouching=STATEMENT.decode(), nonce=HEX32),
        wire.Hello(vouching=STATEMENT.decode(), radio_id=HEX8, port=4711, nonce=HEX32, signature=HEX64),
        wire.Welcome(token=HEX32, radio_id=HEX8),
        wire.Pong(radio_id=HEX8),
        wire.Manifest(digest=HEX32, size_bytes=1000, sha256=HEX32, nonce=HEX32, signature=HEX64),
    )
}
MESSAGES = [
    messages.encode(one)
    for one in (
        proposal(),
        messages.Accept(key=HEX32, neighbor=NEIGHBOR, commitment=HEX32),
        messages.Accept(key=HEX32, neighbor=NEIGHBOR, commitment=HEX32, signature=HEX64),
        messages.Decline(key=HEX32, reason=messages.Refusal.BUSY),
        messages.Offer(key=HEX32, updated=HEX32, size_bytes=1000, age=3),
        messages.Reveal(key=HEX32, salt=HEX32),
    )
]


@pytest.mark.parametrize("kind", SAID, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_what_a_link_says_is_taken_whole_or_is_the_peers_fault(kind: type[Any], data: st.DataObject) -> None:
    honest = SAID[kind]
    assert wire.write(wire.read(honest, kind)) == honest
    said = data.draw(hostile(honest))
    taken = outcome(lambda: wire.read(said, kind), PeerFault)
    if isinstance(taken, PeerFault):
        assert len(str(taken)) < LINE
        return
    assert wire.read(wire.write(taken), kind) == taken
    assert len(wire.write(taken)) <= wire.MAX_ANSWER_BYTES


@given(st.sampled_from(MESSAGES).flatmap(hostile))
@example(b'{"kind":"%b"}' % (b"0" * 3000))
@example(MESSAGES[1][:-1] + b',"%b":1}' % (b"0" * 3000))
def test_a_message_is_taken_whole_or_is_the_peers_fault(data: bytes) -> None:
    taken = outcome(lambda: messages.parse(data), PeerFault)
    if isinstance(taken, PeerFault):
        assert len(str(taken)) < LINE
        return
    assert messages.parse(messages.encode(taken)) == taken
    assert len(messages.encode(taken)) <= messages.MAX_MESSAGE_BYTES


@given(mangled(MESSAGES[0]) | mangled_json(MESSAGES[0]))
def test_terms_of_whatever_proposal_are_some_or_are_the_peers_fault(data: bytes) -> None:
    try:
        taken = messages.parse(data)
        assert isinstance(taken, messages.Propose)
        terms = taken.terms(neighbor=NEIGHBOR, commitment=commitment(NEIGHBOR_SALT))
    except PeerFault:
        return
    assert (terms.learner, terms.reward, terms.nonce) == (taken.learner, taken.reward, taken.nonce)


@given(hostile(STATEMENT))
def test_a_statement_is_the_one_that_was_written_or_is_the_peers_fault(data: bytes) -> None:
    try:
        taken = vouching.read(data)
    except PeerFault:
        return
    assert vouching.write(taken) == data
    if data != STATEMENT:
        with pytest.raises(PeerFault):
            vouching.verify(taken, now_s=1_790_000_000)


ID = RadioId(HEX8)
HOME = [ip_network("192.168.1.0/24"), ip_network("fe80::/64")]
IPS = (b"192.168.1.7", b"10.0.0.1", b"fe80::1%2", b"fe80::1%eth0", b"::ffff:192.168.1.7", b"192.168.1.255")


@given(
    mangled(instance_name(ID, "beef").encode()) | st.just(instance_name(ID).encode()),
    st.fixed_dictionaries({key: st.just(value) | mangled(value) for key, value in properties_of(ID, 7).items()}),
    st.lists(st.sampled_from(IPS).flatmap(lambda ip: st.just(ip) | mangled(ip)), max_size=20),
    st.integers(-1, 1 << 17),
)
def test_a_record_that_is_believed_says_where_its_name_leads(
    name: bytes, said: dict[bytes, bytes], ips: list[bytes], port: int
) -> None:
    addresses = [one.decode(errors="replace") for one in ips]
    found = read_record(name.decode(errors="replace"), said, addresses, port, HOME)
    if isinstance(found, Reason):
        return
    assert isinstance(found, Found)
    again = properties_of(found.radio_id, found.family)
    host, its_port = found.endpoint.host, found.endpoint.port
    assert {key: said[key] for key in again} == again
    assert read_record(instance_name(found.radio_id), again, [host], its_port, HOME) == found


# -- snapshots ---------------------------------------------------------------------------------------------------------

TINY = Architecture(
    name="tiny-1x1x1",
    family="tiny",
    input_shape=(1, 1, 1),
    classes=2,
    tensors=(TensorSpec(name="a.bias", shape=(3,)), TensorSpec(name="scalar", shape=())),
    graph=Path("none"),
    digest=bytes(32),
)


def _snapshots() -> list[bytes]:
    weights = {"a.bias": np.array([0.5, -1.0, 0.25], np.float32), "scalar": np.array(0.1, np.float32)}
    return [encode(weights, TINY, codec).data for codec in Codec]


SNAPSHOTS = _snapshots()


@st.composite
def other_headers(draw: st.DrawFn) -> bytes:
    """Snapshots with another header, of which the length is right."""
    data = draw(st.sampled_from(SNAPSHOTS))
    length = 8 + int.from_bytes(data[:8], "little")
    header = draw(mangled_json(data[8:length]) | mangled(data[8:length]))
    return len(header).to_bytes(8, "little") + header + data[length:]


@slow
@given(st.sampled_from(SNAPSHOTS).flatmap(mangled) | other_headers())
def test_a_snapshot_is_canonical_or_malformed(data: bytes) -> None:
    try:
        taken = parse(data, TINY)
    except MalformedSnapshot:
        with pytest.raises(MalformedSnapshot):
            decode(data, TINY)
        return
    assert taken.data == data
    assert encode(decode(data, TINY), TINY, taken.codec) == taken


@slow
@given(st.sampled_from(SNAPSHOTS).flatmap(mangled) | other_headers())
def test_a_snapshot_says_its_architecture_or_is_malformed(data: bytes) -> None:
    try:
        claimed = claimed_architecture(data)
    except MalformedSnapshot:
        return
    assert type(claimed) is str


@given(st.sampled_from(SNAPSHOTS).map(pack).flatmap(lambda packed: mangled(packed) | st.just(packed)))
def test_what_is_unpacked_is_no_longer_than_asked_for_or_it_is_malformed(data: bytes) -> None:
    at_most = max(len(one) for one in SNAPSHOTS)
    try:
        taken = unpack(data, at_most)
    except MalformedSnapshot:
        return
    assert len(taken) <= at_most
    assert unpack(pack(taken), at_most) == taken


# -- the gateway -------------------------------------------------------------------------------------------------------

DIGEST = "0x" + HEX32
CHAIN: dict[str, Any] = {
    "chain_id": 137,
    "escrow": NEIGHBOR,
    "token": NEIGHBOR,
    "chain_time_s": 1_790_000_000,
    "min_stake": 10**18,
    "seat_count": 9,
    "tokens_per_wei": 100,
    "tip_wei": 1,
    "max_fee_wei": 2,
    "parameter_sets": {"0": dataclasses.asdict(DEFAULT_PARAMETERS)},
}
ACCOUNT = {
    "next_nonce": 7,
    "native_wei": 10**18,
    "tokens": 10**20,
    "permit_nonce": 1,
    "free": 10**18,
    "locked": 0,
    "seat": 3,
    "active": True,
}
ENCOUNTER = {
    "state": "reported",
    "salts": [DIGEST, DIGEST],
    "updated": DIGEST,
    "panel": [1, 2, 3],
    "vote_by": 1_790_000_100,
    "yes": 1,
    "no": 0,
    "chain_time_s": 1_790_000_000,
}
JOBS = {
    "jobs": [
        {
            "encounter": DIGEST,
            "terms": terms_to_json(proposal().terms(neighbor=NEIGHBOR, commitment=commitment(LEARNER_SALT))),
            "updated": DIGEST,
            "panel": [1, 2, 3],
            "position": 1,
            "opens_at_s": 1_790_000_000,
            "vote_by": 1_790_000_100,
        }
    ],
    "chain_time_s": 1_790_000_000,
}
REFUSAL = {"error": {"code": "not_now", "message": "later", "retry": True}}

Ask = Callable[[GatewayClient], Any]
ASKED: dict[str, tuple[dict[str, Any], Ask]] = {
    "chain": (CHAIN, GatewayClient.chain),
    "account": (ACCOUNT, lambda client: client.account(NEIGHBOR)),
    "encounter": (ENCOUNTER, lambda client: client.encounter(bytes(32))),
    "jobs": (JOBS, lambda client: client.jobs(NEIGHBOR)),
    "submit": ({"id": "7"}, lambda client: client.submit(b"raw")),
    "relay": ({"id": "7"}, lambda client: client.relay(b"call")),
    "model": ({}, lambda client: client.get_model(bytes(32), max_bytes=1000)),
}
ENCODINGS = st.sampled_from(["", "", "identity", "gzip", "zstd", "deflate, gzip"])


def answers(honest: dict[str, Any]) -> st.SearchStrategy[bytes]:
    said, refusal = json.dumps(honest).encode(), json.dumps(REFUSAL).encode()
    return st.one_of(hostile(said), mangled_json(said), hostile(refusal))


def asked(ask: Ask, status: int, body: bytes, encoding: str = "") -> Any:
    """What the client makes of a gateway's answer."""

    async def main() -> Any:
        transport = FakeTransport(Response(status=status, body=body, encoding=encoding))
        client = GatewayClient("http://gateway", transport=transport)
        try:
            return await ask(client)
        finally:
            await client.close()

    return asyncio.run(main())


@pytest.mark.parametrize("what", ASKED)
def test_a_gateways_honest_answer_is_understood(what: str) -> None:
    honest, ask = ASKED[what]
    if what == "model":
        assert asked(ask, 404, b"") is None
    else:
        assert asked(ask, 200, json.dumps(honest).encode())


@pytest.mark.parametrize("what", ASKED)
@slow
@given(data=st.data())
def test_a_gateways_answer_has_the_types_it_should_have_or_counts_as_none(what: str, data: st.DataObject) -> None:
    status = data.draw(st.sampled_from([200, 200, 200, 204, 302, 400, 401, 404, 429, 500, 503, 599]))
    encoding, body = data.draw(ENCODINGS), data.draw(answers(ASKED[what][0]))
    try:
        taken = asked(ASKED[what][1], status, body, encoding)
    except (GatewayUnreachable, GatewayRefused):
        return
    for value in taken if isinstance(taken, tuple) else (taken,):
        assert_typed(value, type(value))


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("chain", {"parameter_sets": {"0": dataclasses.asdict(DEFAULT_PARAMETERS) | {"validators": True}}}),
        ("chain", {"parameter_sets": {"0": dataclasses.asdict(DEFAULT_PARAMETERS) | {"q_bps": 0.5}}}),
        ("chain", {"parameter_sets": {"0": dataclasses.asdict(DEFAULT_PARAMETERS) | {"retired": "no"}}}),
        ("chain", {"parameter_sets": {"-1": dataclasses.asdict(DEFAULT_PARAMETERS)}}),
        ("account", {"active": "no"}),
    ],
)
def test_what_python_would_take_for_a_number_or_a_flag_counts_as_no_answer(what: str, changes: dict[str, Any]) -> None:
    honest, ask = ASKED[what]
    with pytest.raises(GatewayUnreachable, match="makes no sense"):
        asked(ask, 200, json.dumps(honest | changes).encode())


@pytest.mark.parametrize("ask", [ask for _, ask in ASKED.values()], ids=ASKED)
def test_a_compressed_answer_is_not_even_unpacked(ask: Ask) -> None:
    bomb = zstandard.compress(bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(GatewayUnreachable, match="encoding"):
            asked(ask, 200, {b"Content-Encoding": b"zstd"}, bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def assert_typed(value: Any, hint: Any) -> None:
    """Fail unless a value, and all that is in it, is exactly what its class says."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        assert type(value) in [get_origin(one) or one for one in inner]
        assert_typed(value, next(one for one in inner if (get_origin(one) or one) is type(value)))
    elif dataclasses.is_dataclass(hint):
        assert type(value) is hint
        hints = get_type_hints(hint)
        for field in dataclasses.fields(hint):
            assert_typed(getattr(value, field.name), hints[field.name])
    elif origin is dict:
        for key, one in value.items():
            assert_typed(key, inner[0])
            assert_typed(one, inner[1])
    elif origin is tuple or isinstance(value, list):
        for one in value:
            assert_typed(one, inner[0] if inner else type(one))
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        assert isinstance(value, hint)
    else:
        assert type(value) is hint, f"{value!r} is not of {hint}"


# -- the device's own files --------------------------------------------------------------------------------------------

KEYS = keystore.Keys(account_key=b"\x0a" * 32, link_key=b"\x0b" * 32, radio_key=b"\x0c" * 32)
PASSPHRASE = "correct horse"
CONFIG = b"""# The settings of a device.
state = "/var/lib/idml"
seed = 7
log_format = "json"

[identity]
keystore = "keys.json"

[gateway]
url = "https://gateway.example:8547"
enrolled = true
token_file = "token"

[mdns]
on = true
interfaces = ["eth0", "wlan0"]

[ble]
on = true
adapter = "hci0"

[share]
number = 3
of = 10

[incentives]
reward = 1.5
tolerance_bps = 200

[behaviour]
door = "batched"
learner = false
poll_s = 2.0
"""
SETTINGS_TOKENS = (
    b"[" * 5000, b"0x" + b"f" * 5000, b"9" * 5000, b"1e400", b"nan", b"-0.0", b"true", b"1979-05-27", b'"""', b"{",
    b'"\\u0000"', b'"\\ud800"', b"\n[gateway]\n", b"\nseed = 8\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that only its owner may read: written anew each time."""
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.touch(mode=0o600)
    return path


@pytest.fixture(scope="module")
def sealed(place: Path) -> bytes:
    """A keystore's bytes."""
    path = place.with_name("keys.json")
    keystore.create(path, KEYS, PASSPHRASE, n=keystore.MIN_SCRYPT_N)
    return path.read_bytes()


@slow
@given(data=st.data())
def test_a_keystore_gives_its_keys_or_a_fault(place: Path, sealed: bytes, data: st.DataObject) -> None:
    written = data.draw(hostile(sealed) | st.just(sealed))
    place.write_bytes(written)
    keys = outcome(lambda: keystore.open_keystore(place, PASSPHRASE), KeystoreFault)
    if written == sealed:
        assert keys == KEYS
    else:
        assert isinstance(keys, KeystoreFault)
        assert str(keys).startswith(str(place))


@slow
@given(data=st.data())
def test_what_a_keystore_says_of_itself_is_a_key_and_an_account_or_a_fault(
    place: Path, sealed: bytes, data: st.DataObject
) -> None:
    place.write_bytes(data.draw(hostile(sealed)))
    try:
        public = keystore.read_public(place)
    except KeystoreFault:
        return
    assert len(bytes.fromhex(public.address[2:])) == 20
    assert len(bytes.fromhex(public.link_fingerprint)) == 32


@slow
@given(st.binary(max_size=2000) | mangled(b"p\xc3\xa4ssphrase of a device\n") | mangled(b"correct horse\r\nand more"))
def test_a_passphrase_is_the_first_line_of_its_file_or_a_fault(place: Path, data: bytes) -> None:
    place.write_bytes(data)
    taken = outcome(lambda: passphrase.obtain("Passphrase", file=place, option="--file"), PassphraseFault)
    if isinstance(taken, PassphraseFault):
        assert str(place) in str(taken)
        return
    assert data.split(b"\n")[0].removesuffix(b"\r") == taken.encode()
    assert 0 < len(taken.encode()) <= passphrase.MAX_BYTES


@st.composite
def other_settings(draw: st.DrawFn) -> bytes:
    """Settings of which one is something else."""
    lines = CONFIG.split(b"\n")
    at = draw(st.sampled_from([number for number, line in enumerate(lines) if b" = " in line]))
    name, _, value = lines[at].partition(b" = ")
    other = draw(st.sampled_from(SETTINGS_TOKENS) | mangled(value))
    lines[at] = name + b" = " + other
    return b"\n".join(lines)


@slow
@given(st.just(CONFIG) | mangled(CONFIG) | other_settings() | st.sampled_from(SETTINGS_TOKENS))
@example(b"seed = " + b"[" * 5000)
@example(b"seed = " + b"9" * 5000)
@example(b"seed = 0x" + b"f" * 5000)
@example(b"[incentives]\nreward = 1e-30")
def test_settings_are_taken_whole_or_refused_in_one_line(place: Path, data: bytes) -> None:
    place.write_bytes(data)
    taken = outcome(lambda: read_agent_config(place), ConfigError)
    if isinstance(taken, ConfigError):
        assert str(taken).startswith(str(place))
        assert "\n" not in str(taken)
        assert data != CONFIG
        return
    assert AgentConfig.model_validate(taken.model_dump()) == taken
    assert taken.settings.reward > 0
