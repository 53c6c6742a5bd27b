"""When a database may be asked again: pure rules."""

from hypothesis import given
from hypothesis import strategies as st

from mcp_server.databases.breakers import LONGEST_DELAY, Standing


def test_a_good_check_holds_for_the_interval_and_no_longer():
    good = Standing().succeeded(100.0)
    assert good.is_good(115.0, within=15)
    assert not good.is_good(115.1, within=15)


def test_a_broken_connection_makes_the_next_user_ask():
    assert not Standing().succeeded(100.0).in_doubt().is_good(100.0, within=60)


def test_the_delay_doubles_up_to_its_bound():
    standing, delays = Standing(), []
    for _ in range(9):
        standing = standing.failed(0.0, "refused", jitter=0.0)
        delays.append(standing.retry_at)
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@given(st.integers(1, 5000), st.floats(0, 0.999))
def test_no_number_of_failures_ends_the_probing(failures: int, jitter: float):
    standing = Standing()
    for _ in range(failures):
        standing = standing.failed(50.0, "refused", jitter)
    assert not standing.may_probe(50.0)
    assert standing.may_probe(50.0 + LONGEST_DELAY)
    assert standing.succeeded(90.0).is_good(90.0, within=1)
