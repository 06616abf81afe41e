"""The page for people: complete without JavaScript, nothing from elsewhere, and no word of a stranger run as code."""

import logging
import re
from html.parser import HTMLParser

import pytest
from gateway_rig import ALICE, BOB, OPERATOR, Rig
from hypothesis import given
from hypothesis import strategies as st
from signed_calls import act
from werkzeug.test import TestResponse

from contracts import calls
from contracts.states import ActionKind
from gateway.dashboard import History, age, bars, coin, size
from gateway.enrolment import Enrolment
from gateway.errors import StoreUnavailable
from gateway.logs import Recent


@pytest.fixture(autouse=True)
def _always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.watch._FRESH_S", 0.0)
    monkeypatch.setattr("gateway.watch._PATIENCE_S", 10.0)


class Page(HTMLParser):
    """Its text without styles and scripts, and what each tag was given."""

    def __init__(self, response: TestResponse) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = False
        self.feed(response.text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def look(rig: Rig) -> Page:
    response = rig.client.get("/dashboard")
    assert (response.status_code, response.mimetype) == (200, "text/html")
    return Page(response)


def hand_in(rig: Rig, nonce: int) -> None:
    call = act(ALICE, rig.deployment.domain, ActionKind.UNBOND, amount=1, nonce=nonce)
    assert rig.client.post("/v1/operations", json={"call": "0x" + calls.encode(call).hex()}).status_code == 202


def test_an_empty_gateway_has_a_page(rig: Rig) -> None:
    text = look(rig).text
    for words in ("All is well", "Recent batches None yet.", "Recent warnings None.", f"chain {1337}"):
        assert words in text


def test_the_main_numbers_stand_in_the_page_itself(deep: Rig) -> None:
    deep.join(ALICE)
    deep.step()
    for nonce in (100, 101, 102):
        hand_in(deep, nonce)
    deep.step()
    hand_in(deep, 103)
    deep.now_s += 300
    text = look(deep).text
    (batch,) = deep.get("/v1/status")["batches"]
    for words in (
        "Waiting for a batch 1 the oldest operation waits 5 min",
        "On its way 4 accepted 0 ready 0 broadcast 0 included 4 the oldest is 5 min",
        "Over 0 final 0",
        f"Chain {deep.chain.web3.eth.block_number} newest block read",
        "reorganisations seen 0 node answers",
        f"alarm below 0.1000 {OPERATOR.address}",
        f"{batch['id'][:10]}… 3 {batch['gas']:,} {batch['gas'] // 3:,} included {batch['block']}",
    ):
        assert words in text


def test_devices_and_open_tokens_are_counted(rig: Rig) -> None:
    enrolment, now_s = Enrolment(rig.database), rig.now_s
    first, second, *_ = enrolment.issue(4, name=None, valid_s=3600, now_s=now_s)
    enrolment.issue(1, name=None, valid_s=-1, now_s=now_s)
    enrolment.redeem(first, ALICE.address, now_s=now_s)
    enrolment.redeem(second, BOB.address, now_s=now_s)
    enrolment.revoke(BOB.address)
    assert rig.get("/v1/status")["devices"] == {"enrolled": 1, "open_tokens": 2}
    assert "Enrolled devices 1 open tokens 2" in look(rig).text


def test_nothing_comes_from_elsewhere_and_nothing_runs_but_ours(rig: Rig) -> None:
    response = rig.client.get("/dashboard")
    policy = dict(part.split(maxsplit=1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    nonces = {attributes["nonce"] for tag, attributes in Page(response).tags if tag in ("style", "script")}
    (nonce,) = nonces
    assert policy["script-src"] == policy["style-src"] == f"'nonce-{nonce}'"
    assert policy["frame-ancestors"] == "'none'"
    for _, attributes in Page(response).tags:
        assert not {"src", "href", "style", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "http" not in response.text.replace("http-equiv", "")
    assert (
        rig.client.get("/dashboard").headers["Content-Security-Policy"] != response.headers["Content-Security-Policy"]
    )


def test_words_of_strangers_are_text(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, root = Recent(), logging.getLogger()
    root.addHandler(kept)
    logging.getLogger("gateway.test").warning("it says <script>alert('x')</script> & <b>more</b>")
    page = look(rig)
    root.removeHandler(kept)
    assert "it says <script>alert('x')</script> & <b>more</b>" in page.text
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_a_dead_node_is_told_beside_what_is_known(rig: Rig) -> None:
    rig.worker.confirm()
    look(rig)
    rig.provider.down = True
    rig.now_s += 61
    page = look(rig)
    assert "Needs a look The node has given no useful answer for 61 s" in page.text
    assert "node no answer" in page.text
    assert f"final up to {rig.chain.web3.eth.block_number}" in page.text
    assert ("div", {"class": "verdict bad", "role": "status"}) in page.tags
    assert "secret" not in page.text


def test_a_database_that_is_away_is_told_on_the_page(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(rig.store, "counts", away)
    assert "The database gives no answer" in look(rig).text


@given(samples=st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**9)), min_size=2, max_size=400))
def test_a_line_stays_in_its_frame(samples: list[tuple[float, int]]) -> None:
    history = History()
    times = sorted(at_s for at_s, _ in samples)
    for at_s, (_, count) in zip(times, samples, strict=True):
        history.add(at_s, count)
    shown = history.shown()
    points = [tuple(map(float, point.split(","))) for point in shown["points"].split()]
    assert all(0 <= x <= 100 and 0 <= y <= 30 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert shown["now"] == samples[-1][1] <= shown["most"]
    assert 2 <= len(points) <= 360


def test_looking_often_makes_the_line_no_longer() -> None:
    history = History()
    assert history.shown() == {"points": ""}
    for tenth in range(1_000):
        history.add(tenth / 10, tenth)
    assert len(history.shown()["points"].split()) <= 12
    assert history.shown()["now"] == 999


@given(operations=st.lists(st.integers(0, 50), max_size=30))
def test_bars_stay_in_their_frame(operations: list[int]) -> None:
    made = bars([{"operations": count, "state": "final"} for count in operations])
    assert [bar["x"] for bar in made] == sorted((bar["x"] for bar in made), reverse=True)
    for bar, count in zip(made, operations, strict=True):
        assert bar["x"] >= -0.01
        assert bar["x"] + bar["width"] <= 100.01
        assert bar["y"] + bar["height"] == pytest.approx(30, abs=0.02)
        assert (bar["height"] == 0) == (count == 0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_ages(seconds: float, words: str) -> None:
    assert age(seconds) == words


@given(wei=st.integers(0, 10**24))
def test_coin_is_never_shown_as_more_than_it_is(wei: int) -> None:
    shown = coin(wei).replace(",", "")
    assert re.fullmatch(r"\d+\.\d{4}", shown)
    whole, part = shown.split(".")
    assert 0 <= wei - (int(whole) * 10**18 + int(part) * 10**14) < 10**14


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words
