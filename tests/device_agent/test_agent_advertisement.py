"""The ten bytes on Bluetooth: what we write we read, and whatever else is heard is a value or a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.radio import RadioId
from device_agent.radio.advertisement import (
    LEGACY_BYTES,
    PAYLOAD_BYTES,
    SERVICE_UUID,
    Advertisement,
    Reason,
    decode,
    encode,
    read,
)

ID = RadioId("0123456789abcdef")

said = st.builds(
    Advertisement,
    radio_id=st.binary(min_size=8, max_size=8).map(bytes.hex).map(RadioId),
    family=st.integers(0, 255),
    capabilities=st.integers(0, 15),
)
uuids = st.uuids().map(str) | st.just(SERVICE_UUID) | st.just(SERVICE_UUID.upper())


@given(said)
def test_what_we_write_we_read(one: Advertisement) -> None:
    assert decode(encode(one)) == one
    assert read({SERVICE_UUID: encode(one)}) == one


@given(said)
def test_it_fits_a_legacy_advertisement_to_the_byte(one: Advertisement) -> None:
    assert len(encode(one)) == PAYLOAD_BYTES
    flags, head = 3, 2 + 16
    assert flags + head + PAYLOAD_BYTES == LEGACY_BYTES


def test_the_bytes_are_where_the_documentation_says() -> None:
    payload = encode(Advertisement(radio_id=ID, family=6, capabilities=5))
    assert payload.hex() == "15" + ID + "06"


@given(st.binary(max_size=255))
def test_any_bytes_give_a_value_or_a_reason(payload: bytes) -> None:
    one = decode(payload)
    if isinstance(one, Advertisement):
        assert encode(one) == payload
    elif len(payload) == PAYLOAD_BYTES:
        assert one is Reason.VERSION
    else:
        assert one is Reason.LENGTH


@given(st.binary(min_size=PAYLOAD_BYTES, max_size=PAYLOAD_BYTES))
def test_ten_bytes_are_believed_for_their_version_alone(payload: bytes) -> None:
    assert (decode(payload) is Reason.VERSION) == (payload[0] >> 4 != 1)


@given(st.dictionaries(uuids, st.binary(max_size=32), max_size=4))
def test_data_of_other_services_says_nothing(service_data: dict[str, bytes]) -> None:
    assert (read(service_data) is Reason.SERVICE) == (SERVICE_UUID not in service_data)


def test_of_what_an_address_sent_under_several_services_ours_is_read() -> None:
    ours = Advertisement(radio_id=ID, family=6)
    assert read({"0000fd6f-0000-1000-8000-00805f9b34fb": b"old", SERVICE_UUID: encode(ours)}) == ours


@pytest.mark.parametrize(
    "wrong",
    [
        Advertisement(radio_id=RadioId("0123"), family=0),
        Advertisement(radio_id=RadioId(ID + "00"), family=0),
        Advertisement(radio_id=RadioId("not in hex digits"), family=0),
        Advertisement(radio_id=ID, family=256),
        Advertisement(radio_id=ID, family=-1),
        Advertisement(radio_id=ID, family=0, capabilities=16),
    ],
)
def test_what_does_not_fit_is_not_written(wrong: Advertisement) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whichever part
        encode(wrong)
