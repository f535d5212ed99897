"""Who is next."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.queue import Account, Waiting, accounts_of, choose, free_in, room_of, turns

A, B, C = ("a", "one"), ("b", "two"), ("c", "three")


def head(turn: int, *accounts: Account, job: str | None = None) -> Waiting:
    return Waiting(job_id=job or f"job-{turn}", owner="o", room=room_of(accounts), turn=turn)


def chosen(heads: Sequence[Waiting], openings: dict[Account, int | None], most: int = 99) -> list[int]:
    return [one.turn for one in choose(heads, openings, most=most)]


def test_a_rooms_name_tells_its_accounts_in_any_order() -> None:
    assert room_of([B, A, B]) == room_of([A, B]) == "a/one b/two"
    assert accounts_of("a/one b/two") == (A, B)
    assert (room_of([]), accounts_of("")) == ("", ())


def test_the_first_job_of_an_owner_comes_right_behind_what_is_served() -> None:
    busy = turns(1000, served=0, last=0)
    assert (busy[0], busy[-1]) == (1, 1000)
    assert list(turns(1, served=3, last=0)) == [4]
    assert list(turns(2, served=3, last=1000)) == [1001, 1002]


def test_who_waited_behind_many_is_not_behind_them() -> None:
    """Owner x has 1,000 jobs waiting, then y one: it is among the next two."""
    served = 3
    waiting = [head(turn, A, job=f"x-{turn}") for turn in range(served + 1, 1001)]
    (turn,) = turns(1, served=served, last=0)
    waiting.append(head(turn, A, job="y"))
    assert "y" in {one.job_id for one in choose(waiting, {A: 2}, most=2)}


def test_openings_are_given_by_turn() -> None:
    assert chosen([head(3, A), head(1, A), head(2, A)], {A: 2}) == [1, 2]
    assert chosen([head(3, A), head(1, A), head(2, A)], {A: None}, most=2) == [1, 2]


def test_who_waits_for_a_full_account_keeps_nobody_else_waiting() -> None:
    assert chosen([head(1, A), head(2, B)], {A: 0, B: 1}) == [2]


def test_nobody_takes_the_last_opening_of_who_has_no_other() -> None:
    assert chosen([head(1, A, B), head(2, A)], {A: 1, B: 1}) == [1, 2]


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
    picked = choose(heads, openings, most=most)
    assert len(picked) <= most
    assert len({one.job_id for one in picked}) == len(picked)
    for account in (A, B, C):
        only = [one for one in picked if accounts_of(one.room) == (account,)]
        limit = openings.get(account, 0)
        assert limit is None or len(only) <= limit
    assert [one.turn for one in picked] == sorted(one.turn for one in picked)
