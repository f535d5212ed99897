"""Who is next."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.account import Account
from gateway.routing.queue import (
    Waiting,
    accounts_of,
    choose,
    free_in,
    next_turn,
    room_of,
    sharing,
    turn_before,
    turns,
)

A, B, C = ("a", "one"), ("b", "two"), ("c", "three")


def head(turn: int, *accounts: Account, job: str | None = None) -> Waiting:
    return Waiting(job_id=job or f"job-{turn}", owner="o", room=room_of(accounts), turn=turn)


def chosen(heads: Sequence[Waiting], openings: dict[Account, int | None], most: int = 99) -> list[int]:
    return [one.waiting.turn for one in choose(heads, openings, most=most)]


def test_a_rooms_name_tells_its_accounts_in_any_order() -> None:
    assert room_of([B, A, B]) == room_of([A, B]) == "a/one b/two"
    assert accounts_of("a/one b/two") == (A, B)
    assert (room_of([]), accounts_of("")) == ("", ())


def newcomer(room: str, lowest: dict[str, int], served: int = 0, last: int | None = None) -> int:
    return turns(1, following=next_turn(room, lowest, served=served), last=last)[0]


def test_the_first_job_of_an_owner_is_among_those_that_are_next() -> None:
    assert list(turns(3, following=7, last=None)) == [7, 8, 9]
    assert newcomer("a/one", {"a/one": 7}, served=99) == 7
    assert newcomer("a/one", {}, served=99) == 100


def test_an_owners_next_job_comes_behind_those_that_wait_already() -> None:
    assert list(turns(2, following=7, last=1000)) == [1001, 1002]
    assert list(turns(2, following=7, last=3)) == [7, 8]


def test_who_waited_behind_many_is_not_behind_them() -> None:
    """Owner x has 1,000 jobs waiting, then y one: it is among the next two."""
    waiting = [head(turn, A, job=f"x-{turn}") for turn in range(4, 1001)]
    waiting.append(head(newcomer("a/one", {"a/one": 4}, served=3), A, job="y"))
    assert "y" in {one.waiting.job_id for one in choose(waiting, {A: 2}, most=2)}


def test_what_fast_accounts_serve_puts_nobody_behind_at_a_slow_one() -> None:
    assert newcomer("a/one", {"a/one": 3, "b/two": 900}, served=950) == 3


def test_who_can_run_at_several_begins_where_most_was_served() -> None:
    assert newcomer("a/one b/two", {"a/one": 3, "b/two": 900}, served=950) == 900
    assert newcomer("a/one", {"a/one b/two": 900}, served=0) == 900


def test_who_had_its_turn_is_before_all_whom_it_competes_with() -> None:
    lowest = {"a/one b/two": 40, "a/one": 50, "c/three": 1}
    assert turn_before("a/one", lowest, served=90) == 39
    assert turn_before("b/two", {"c/three": 1}, served=90) == 90


def test_the_rooms_that_share_an_account_compete() -> None:
    assert sharing("a/one b/two", ["a/one", "c/three", "b/two c/three"]) == ["a/one", "b/two c/three"]


def test_openings_are_given_by_turn() -> None:
    assert chosen([head(3, A), head(1, A), head(2, A)], {A: 2}) == [1, 2]
    assert chosen([head(3, A), head(1, A), head(2, A)], {A: None}, most=2) == [1, 2]


def test_who_waits_for_a_full_account_keeps_nobody_else_waiting() -> None:
    assert chosen([head(1, A), head(2, B)], {A: 0, B: 1}) == [2]


def test_nobody_takes_the_last_opening_of_who_has_no_other() -> None:
    assert chosen([head(1, A, B), head(2, A)], {A: 1, B: 1}) == [1, 2]


def test_who_was_chosen_a_moment_ago_has_an_opening_that_does_not_show_yet() -> None:
    heads = [head(2, A), head(3, A, B)]
    found = choose(heads, {A: 2, B: 1}, most=9, beginning=[head(1, A), head(9, A)])
    assert [(one.waiting.turn, one.at) for one in found] == [(3, (B,))]


def test_who_is_chosen_knows_where() -> None:
    (first, second) = choose([head(1, A, B), head(2, A)], {A: None, B: 3}, most=9)
    assert (first.at, second.at) == ((A,), (A,))


def test_who_can_run_nowhere_is_let_through_to_be_told_so() -> None:
    assert chosen([head(1)], {}) == [1]
    assert free_in("", {}, most=5) == 5


def test_an_account_that_is_not_known_here_has_no_opening() -> None:
    assert chosen([head(1, C)], {A: 5}) == []
    assert free_in(room_of([C]), {A: 5}, most=9) == 0


def test_the_openings_of_a_room_are_those_of_its_accounts() -> None:
    assert free_in(room_of([A, B]), {A: 2, B: 3, C: 9}, most=99) == 5
    assert free_in(room_of([A, B]), {A: 2, B: None}, most=7) == 7


HEADS = st.lists(
    st.builds(
        lambda turn, accounts, number: head(turn, *accounts, job=f"j{number}"),
        st.integers(1, 9),
        st.lists(st.sampled_from([A, B, C]), unique=True, max_size=3),
        st.integers(0, 10**9),
    ),
    max_size=12,
    unique_by=lambda one: one.job_id,
)
OPENINGS = st.dictionaries(st.sampled_from([A, B, C]), st.one_of(st.none(), st.integers(0, 4)))


@given(HEADS, OPENINGS, st.integers(1, 12))
def test_no_more_are_chosen_than_there_is_room_for(
    heads: list[Waiting], openings: dict[Account, int | None], most: int
) -> None:
    picked = [one.waiting for one in choose(heads, openings, most=most)]
    assert len(picked) <= most
    assert len({one.job_id for one in picked}) == len(picked)
    for account in (A, B, C):
        only = [one for one in picked if accounts_of(one.room) == (account,)]
        limit = openings.get(account, 0)
        assert limit is None or len(only) <= limit
    assert [one.turn for one in picked] == sorted(one.turn for one in picked)
