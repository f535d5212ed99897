"""How many requests a rate lets through: exactly its count in a burst, never more than its rate after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import gcra
from gateway.routing.gcra import NS_PER_S, SKEW_NS
from gateway.settings.rates import INTERVALS_S, MOST, Rate, parse_rate

NOW = 1_800_000_000 * NS_PER_S

rates = st.builds(Rate, st.integers(1, MOST), st.sampled_from(sorted(INTERVALS_S.values())))


@pytest.mark.parametrize("text", ["1/s", "60/m", "10/h", "1000000/d"])
def test_a_rate_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_rate(text)) == text


@pytest.mark.parametrize(
    "text", ["", "60", "0/m", "06/m", "-1/m", "60/min", "60 / m", "1.5/s", "1000001/s", "\uff16/s", "60/m\n"]
)
def test_what_is_no_rate_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match="such as 60/m"):
        parse_rate(text)


@given(rates, st.integers(1, 2 * MOST))
def test_a_key_that_rested_may_send_its_count_at_once_and_not_one_more(rate: Rate, wanted: int) -> None:
    admitted = gcra.admit(rate, 0, now_ns=NOW, wanted=wanted)
    assert admitted.count == min(wanted, rate.count)
    if admitted.count == rate.count:
        assert gcra.admit(rate, admitted.after_ns, now_ns=NOW, wanted=1).count == 0
        assert gcra.standing(rate, admitted.after_ns, now_ns=NOW).remaining == 0


class Bucket:
    """The oracle: tokens that drip in, one every step, as many as a burst; in exact integers."""

    def __init__(self, rate: Rate) -> None:
        self.step, self.most = gcra.step_ns(rate), rate.count * gcra.step_ns(rate)
        self.level, self.at_ns = self.most, NOW

    def take(self, now_ns: int, wanted: int) -> int:
        self.level = min(self.most, self.level + now_ns - self.at_ns)
        self.at_ns = now_ns
        taken = min(wanted, self.level // self.step)
        self.level -= taken * self.step
        return taken


@given(
    rates,
    st.lists(st.tuples(st.integers(0, 10**15), st.integers(1, 2000)), min_size=1, max_size=30),
)
def test_it_admits_what_a_bucket_of_tokens_admits(rate: Rate, asked: list[tuple[int, int]]) -> None:
    bucket, arrival_ns, now_ns = Bucket(rate), 0, NOW
    for pause_ns, wanted in asked:
        now_ns += pause_ns
        admitted = gcra.admit(rate, arrival_ns, now_ns=now_ns, wanted=wanted)
        arrival_ns = admitted.after_ns
        assert admitted.count == bucket.take(now_ns, wanted)
        left = gcra.standing(rate, arrival_ns, now_ns=now_ns)
        assert left.remaining == bucket.level // bucket.step
        assert left.reset_s >= 0


@given(rates, st.integers(1, 500))
def test_one_after_another_or_all_together_is_the_same(rate: Rate, wanted: int) -> None:
    together = gcra.admit(rate, 0, now_ns=NOW, wanted=wanted)
    arrival_ns, count = 0, 0
    for _ in range(wanted):
        one = gcra.admit(rate, arrival_ns, now_ns=NOW, wanted=1)
        arrival_ns, count = one.after_ns, count + one.count
    assert (count, arrival_ns) == (together.count, together.after_ns)


@given(rates)
def test_whoever_waits_as_long_as_told_is_let_through_and_not_before(rate: Rate) -> None:
    used = gcra.admit(rate, 0, now_ns=NOW, wanted=rate.count).after_ns
    wait_ns = round(gcra.standing(rate, used, now_ns=NOW).reset_s * NS_PER_S)
    assert abs(wait_ns - gcra.step_ns(rate)) <= 1_000  # a float of seconds
    assert gcra.admit(rate, used, now_ns=NOW + gcra.step_ns(rate), wanted=2).count == 1
    assert gcra.admit(rate, used, now_ns=NOW + gcra.step_ns(rate) - 1, wanted=1).count == 0


def test_clocks_that_differ_a_little_admit_nothing_twice() -> None:
    rate = parse_rate("10/h")
    used = gcra.admit(rate, 0, now_ns=NOW, wanted=10).after_ns
    for behind_ns in (1, NS_PER_S, SKEW_NS):
        late = gcra.admit(rate, used, now_ns=NOW - behind_ns, wanted=5)
        assert (late.count, late.after_ns) == (0, used)


def test_a_clock_that_was_set_back_or_a_rate_that_was_raised_locks_nobody_out() -> None:
    slow, quick = parse_rate("1/d"), parse_rate("100/s")
    used = gcra.admit(slow, 0, now_ns=NOW, wanted=1).after_ns
    after = gcra.admit(quick, used, now_ns=NOW, wanted=1)
    assert after.count == 0
    assert gcra.admit(quick, after.after_ns, now_ns=NOW + NS_PER_S, wanted=200).count == 100
    back = gcra.admit(slow, used, now_ns=NOW - 10 * 86_400 * NS_PER_S, wanted=1)
    assert back.after_ns == NOW - 9 * 86_400 * NS_PER_S
