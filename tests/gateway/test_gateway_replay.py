"""No number of a request counts twice, in whatever order the requests arrive."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.replay import WIDTH, Window, after_request


@given(st.lists(st.integers(-2, 3 * WIDTH)))
def test_a_number_is_taken_once_and_only_within_the_window(counters: list[int]) -> None:
    window, taken = Window(), set[int]()
    for counter in counters:
        found = after_request(window, counter)
        expected = counter >= 1 and counter not in taken and counter > max(taken, default=0) - WIDTH
        assert (found is not None) == expected
        if found is not None:
            taken.add(counter)
            window = found
            assert (window.highest, window.seen < 1 << WIDTH) == (max(taken), True)


def test_requests_under_way_may_overtake_each_other() -> None:
    window = Window()
    for counter in reversed(range(1, WIDTH + 1)):
        found = after_request(window, counter)
        assert found is not None
        window = found
    assert window == Window(highest=WIDTH, seen=(1 << WIDTH) - 1)


def test_a_jump_far_ahead_leaves_nothing_open_behind() -> None:
    window = after_request(Window(highest=5, seen=1), 2**60)
    assert window == Window(highest=2**60, seen=1)
    assert after_request(window, 6) is None
