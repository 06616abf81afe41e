"""Hypothesis strategies for the vocabulary of the contracts."""

from eth_utils.address import to_checksum_address
from hypothesis import strategies as st

from contracts.terms import Terms

words = st.binary(min_size=32, max_size=32)
addresses = st.integers(1, 2**160 - 1).map(lambda number: to_checksum_address(number.to_bytes(20, "big")))
amounts = st.integers(1, 2**96 - 1)


@st.composite
def agreed_terms(draw: st.DrawFn) -> Terms:
    learner, neighbor = draw(st.lists(addresses, min_size=2, max_size=2, unique=True))
    open_by, report_by = sorted(draw(st.lists(st.integers(0, 2**40 - 1), min_size=2, max_size=2, unique=True)))
    return Terms(
        learner=learner,
        neighbor=neighbor,
        algorithm=draw(words),
        architecture=draw(words),
        previous=draw(words),
        reward=draw(amounts),
        tolerance_bps=draw(st.integers(0, 10_000)),
        parameter_set=draw(st.integers(0, 2**16 - 1)),
        open_by=open_by,
        report_by=report_by,
        salts=draw(words),
        seats=draw(st.integers(0, 2**24 - 1)),
        nonce=draw(st.integers(0, 2**32 - 1)),
    )
