"""Who is near: what radios show is asked about, who answered is a neighbour, who falls silent is one no more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.link import Greeting
from device_agent.neighborhood import Neighborhood, NeighborUp
from device_agent.radio import Endpoint, Medium, PeerId, RadioId, Sighting
from device_agent.radio.proximity import Distance

A, B = PeerId("a"), PeerId("b")


def place(name: str) -> Endpoint:
    return Endpoint(host=name, port=1)


def sighting(name: str, at_s: float, medium: Medium = Medium.LOOPBACK, **more: int) -> Sighting:
    return Sighting(radio_id=RadioId(name), seen_at_s=at_s, medium=medium, endpoint=place(name), **more)


def greeting(peer: str, *, shows: str | None = None, at: str | None = None) -> Greeting:
    return Greeting(peer=PeerId(peer), radio_id=RadioId(shows or peer), endpoint=place(at or peer))


def neighborhood(past_contacts_s: Sequence[float] = ()) -> Neighborhood:
    past = {A: tuple(past_contacts_s)}
    return Neighborhood(
        lost_after_s=20, usual_contact_s=120, ping_every_s=8, past_contacts_s=lambda peer: past.get(peer, ())
    )


def meet(near: Neighborhood, peer: str, at_s: float) -> NeighborUp | None:
    return near.greeted(greeting(peer), at_s)


# -- up and down ------------------------------------------------------------------------------------------------------


def test_a_peer_comes_up_once_and_goes_down_after_its_silence() -> None:
    near = neighborhood()
    up = meet(near, A, 5)
    assert up is not None
    assert up.neighbor.since_s == 5
    near.observe(sighting(A, 10))
    assert meet(near, A, 10) is None
    assert near.forget_silent(29.9) == ()
    (down,) = near.forget_silent(30)
    assert (down.neighbor.peer, down.neighbor.since_s, down.neighbor.last_seen_s) == (A, 5, 10)
    assert A not in near
    assert meet(near, A, 40) is not None


def test_whoever_shows_again_what_a_peer_has_shown_keeps_it_for_a_while_alone() -> None:
    near = neighborhood()
    meet(near, A, 0)
    asked_s, gone_s = [], []
    for now_s in range(1, 100):
        near.observe(Sighting(radio_id=RadioId(A), seen_at_s=now_s, medium=Medium.BLE))
        for endpoint in near.due(now_s):
            assert endpoint == place(A)
            near.unanswered(endpoint, now_s)
            asked_s.append(now_s)
        gone_s += [now_s for _ in near.forget_silent(now_s)]
    assert asked_s == [6 * 8 + 8, 6 * 8 + 16]
    assert gone_s == [6 * 8 + 20]
    assert not near.knows(RadioId(A))


def test_who_answers_now_and_then_is_spared_most_pings_by_bluetooth() -> None:
    near = neighborhood()
    meet(near, A, 0)
    asked_s = []
    for now_s in range(1, 200):
        near.observe(Sighting(radio_id=RadioId(A), seen_at_s=now_s, medium=Medium.BLE))
        for endpoint in near.due(now_s):
            near.greeted(greeting(A), now_s, asked=endpoint)
            asked_s.append(now_s)
        assert near.forget_silent(now_s) == ()
    assert asked_s == [56, 112, 168]


def test_an_old_sighting_does_not_turn_time_back() -> None:
    near = neighborhood()
    meet(near, A, 10)
    near.observe(sighting(A, 3))
    assert near.neighbors[0].last_seen_s == 10


def test_signs_of_several_radios_are_of_one_neighbor() -> None:
    near = neighborhood()
    near.greeted(greeting(A, shows="id of a"), 0)
    near.observe(Sighting(radio_id=RadioId("id of a"), seen_at_s=15, medium=Medium.BLE, rssi_dbm=-60))
    near.observe(sighting("id of a", 18, Medium.LOOPBACK))
    (only,) = near.neighbors
    assert (only.peer, only.last_seen_s) == (A, 18)
    assert only.proximity is not None
    assert (only.proximity.strength_dbm, only.proximity.distance) == (-60, Distance.NEAR)


def test_a_record_of_mdns_is_no_sign_of_life() -> None:
    near = neighborhood()
    meet(near, A, 0)
    near.observe(sighting(A, 19, Medium.MDNS))
    assert [one.neighbor.peer for one in near.forget_silent(20)] == [A]


def test_who_usually_speaks_rarely_is_waited_for_longer_but_not_for_ever() -> None:
    near = neighborhood()
    for at_s in (0, 11, 22, 33):
        meet(near, A, at_s)
        near.observe(Sighting(radio_id=RadioId("a"), seen_at_s=at_s, medium=Medium.BLE))
    assert near.forget_silent(33 + 32) == ()  # three times eleven
    assert near.forget_silent(33 + 33) != ()
    for at_s in range(100, 1000, 19):
        meet(near, A, at_s)
    last_s = near.neighbors[0].last_seen_s
    assert near.forget_silent(last_s + 39) == ()
    assert near.forget_silent(last_s + 40) != ()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 50)), max_size=40))
def test_ups_and_downs_take_turns(steps: list[tuple[str, bool, float]]) -> None:
    near = neighborhood()
    up: set[str] = set()
    now_s = 0.0
    for peer, seen, later_s in steps:
        now_s += later_s
        for down in near.forget_silent(now_s):
            up.remove(down.neighbor.peer)
        if seen:
            near.observe(sighting(peer, now_s))
        elif meet(near, peer, now_s) is not None:
            assert peer not in up
            up.add(peer)
        assert {one.peer for one in near.neighbors} == up
        assert all(now_s - one.last_seen_s < 40 for one in near.neighbors)
        assert all(near.expected_remaining_s(one.peer, now_s) >= 0 for one in near.neighbors)


def test_a_crowd_of_strangers_is_remembered_in_part() -> None:
    near = neighborhood()
    for number in range(2000):
        near.observe(sighting(f"shown {number}", number))
        near.greeted(greeting(f"peer {number}", shows=f"id {number}"), 0)
    assert len(near.neighbors) == 256
    assert len(near._places) == 256
    assert len(near._peers) == 512
    near.forget_silent(1000)
    assert near.neighbors == ()


# -- whom to ask ------------------------------------------------------------------------------------------------------


def test_what_a_radio_shows_is_asked_about_once() -> None:
    near = neighborhood()
    near.observe(sighting(A, 5, Medium.MDNS))
    near.observe(sighting(A, 6))
    assert near.due(6) == (place(A),)
    assert near.due(7) == ()
    meet_there = near.greeted(greeting(A), 7, asked=place(A))
    assert meet_there is not None
    near.observe(sighting(A, 8, Medium.MDNS))
    assert near.due(8) == ()


def test_a_sighting_without_a_place_is_nowhere_to_ask() -> None:
    near = neighborhood()
    near.observe(Sighting(radio_id=RadioId("x"), seen_at_s=0, medium=Medium.BLE, rssi_dbm=-50))
    assert near.due(0) == ()


def test_at_most_four_are_asked_at_the_same_time() -> None:
    near = neighborhood()
    for name in "abcdef":
        near.observe(sighting(name, 0))
    asked = near.due(0)
    assert len(asked) == 4
    near.greeted(greeting("a"), 1, asked=asked[0])
    near.unanswered(asked[1], 1)
    assert near.due(1) == (place("e"), place("f"))


def test_who_does_not_answer_is_asked_ever_more_rarely_and_then_forgotten() -> None:
    near = neighborhood()
    near.observe(sighting(A, 0))
    asked_at_s = []
    for now_s in range(2000):
        if near.due(now_s):
            asked_at_s.append(now_s)
            near.unanswered(place(A), now_s)
    assert asked_at_s == [0, 2, 6, 14, 30, 62, 126, 246]
    near.observe(sighting(A, 2000))
    assert near.due(2000) == (place(A),)


def test_a_neighbor_that_no_radio_shows_alive_is_greeted_again() -> None:
    near = neighborhood()
    meet(near, A, 0)
    assert near.due(7.9) == ()
    assert near.due(8) == (place(A),)
    near.unanswered(place(A), 9)
    assert near.due(16) == ()
    assert near.due(17) == (place(A),)
    near.greeted(greeting(A), 17, asked=place(A))
    near.observe(sighting(A, 24))
    assert near.due(31) == ()
    assert near.due(32) == (place(A),)


def test_a_neighbor_seen_somewhere_else_is_asked_for_there() -> None:
    near = neighborhood()
    near.greeted(greeting(A, shows="id"), 0)
    moved = Sighting(radio_id=RadioId("id"), seen_at_s=1, medium=Medium.MDNS, endpoint=place("elsewhere"))
    near.observe(moved)
    assert near.due(1) == (place("elsewhere"),)
    assert near.greeted(greeting(A, shows="id", at="elsewhere"), 2, asked=place("elsewhere")) is None
    assert near.neighbors[0].endpoint == place("elsewhere")


def test_a_neighbor_with_a_new_radio_id_is_the_same_neighbor() -> None:
    near = neighborhood()
    near.greeted(greeting(A, shows="morning"), 0)
    assert near.greeted(greeting(A, shows="noon"), 5) is None
    near.observe(Sighting(radio_id=RadioId("noon"), seen_at_s=12, medium=Medium.BLE))
    assert near.neighbors[0].last_seen_s == 12


# -- how long it lasts ------------------------------------------------------------------------------------------------


def test_who_goes_down_leaves_how_long_the_contact_was() -> None:
    near = neighborhood()
    meet(near, A, 5)
    meet(near, A, 35)
    (down,) = near.forget_silent(1000)
    assert down.contact_s == 30


def test_a_contact_is_expected_to_last_as_the_median_of_past_ones() -> None:
    near = neighborhood(past_contacts_s=(30, 200, 50))
    at_s = 1000.0
    meet(near, A, at_s)
    assert near.expected_remaining_s(A, at_s) == 50
    assert near.expected_remaining_s(A, at_s + 10) == 40
    assert near.expected_remaining_s(A, at_s + 100) == 25  # longer than ever: a quarter of its age more
    meet(near, B, at_s)
    assert near.expected_remaining_s(B, at_s) == 120
    assert near.expected_remaining_s(PeerId("nobody"), at_s) == 0


@pytest.mark.parametrize("endpoint", ["10.0.0.1", "fe80::1%eth0"])
def test_a_place_is_shown_as_people_write_it(endpoint: str) -> None:
    shown = str(Endpoint(host=endpoint, port=8443))
    assert shown in ("10.0.0.1:8443", "[fe80::1%eth0]:8443")
