"""Who is next: waiting jobs take turns by owner.

Each owner's jobs get turns one after another, the first of them with those that are next: somebody with one
job starts among them, however many another has waiting (start-time fair queueing: a job's turn is its start
tag, and every job weighs the same). Within an owner the higher priority takes the earlier turn.

A job waits for a *room*: the accounts that could run it. Jobs whose accounts are all full or shut are passed
over without being looked at. Who is next is a matter of the accounts: a fast one may have served thousands of
turns while a slow one serves its tenth, so that a newcomer begins with those who wait for the same as it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from gateway.routing.account import Account

ROOM_SEPARATOR = " "


class Waiting(Struct, frozen=True, kw_only=True):
    """A waiting job, as far as its turn is concerned."""

    job_id: str
    owner: str
    room: str
    turn: int
    rank: int = 0
    """Of its priority; the higher is the more urgent, among its owner's jobs."""


class Chosen(Struct, frozen=True):
    """A job that may start now."""

    waiting: Waiting
    at: tuple[Account, ...]
    """Whose openings let it: the one that it takes, or all of those without a limit."""


def room_of(accounts: Sequence[Account]) -> str:
    """Name the room of these accounts, whatever their order."""
    return ROOM_SEPARATOR.join(sorted(f"{provider}/{account}" for provider, account in set(accounts)))


def accounts_of(room: str) -> tuple[Account, ...]:
    """Return the accounts of a room."""
    pairs = (name.partition("/") for name in room.split(ROOM_SEPARATOR) if name)
    return tuple((provider, account) for provider, _, account in pairs)


def sharing(room: str, rooms: Iterable[str]) -> list[str]:
    """Return those rooms whose jobs compete with this one's: they have an account in common."""
    accounts = set(accounts_of(room))
    return [other for other in rooms if accounts.intersection(accounts_of(other))]


def next_turn(room: str, lowest: Mapping[str, int], *, served: int) -> int:
    """Return the turn of a newcomer to a room: that of whoever is next there.

    A job that several accounts could run begins at the one that has come furthest: it needs one of them, and
    overtakes nobody there.

    Args:
        room: where it will wait.
        lowest: the lowest turn that waits in each room.
        served: the highest turn served, of anybody.
    """
    near = sharing(room, lowest)
    next_at = [
        min(lowest[other] for other in near if account in accounts_of(other))
        for account in accounts_of(room)
        if any(account in accounts_of(other) for other in near)
    ]
    return max(next_at, default=served + 1)


def turn_before(room: str, lowest: Mapping[str, int], *, served: int) -> int:
    """Return a turn before those of all whom a room's jobs compete with; arguments as for `next_turn`."""
    return min((lowest[other] - 1 for other in sharing(room, lowest)), default=served)


def turns(waiting: int, *, following: int, last: int | None) -> range:
    """Return the turns of an owner's next jobs.

    Args:
        waiting: how many jobs.
        following: see `next_turn`.
        last: the last turn of the owner's jobs that wait already and compete with these; None: none does.
    """
    first = following if last is None else max(following, last + 1)
    return range(first, first + waiting)


def free_in(room: str, openings: Mapping[Account, int | None], *, most: int) -> int:
    """How many jobs of a room may start now, by its accounts' openings alone.

    Args:
        room: see `room_of`.
        openings: by account, how many it takes; None for no limit. One that is missing takes none.
        most: the answer's upper bound.
    """
    accounts = accounts_of(room)
    if not accounts:
        return most  # nobody can run it: whoever claims it ends it, and says so
    free = 0
    for account in accounts:
        opening = openings.get(account, 0)
        if opening is None:
            return most
        free += opening
    return min(free, most)


def choose(
    heads: Sequence[Waiting],
    openings: Mapping[Account, int | None],
    *,
    most: int,
    beginning: Sequence[Waiting] = (),
) -> tuple[Chosen, ...]:
    """Choose who starts now: by turn, each at an account that has an opening left.

    A job takes the opening of the account that fewest others could use, so that no opening stays empty only
    because of the order. Which account it is sent to is decided by its plan, at its start.

    Args:
        heads: waiting jobs, the first of each room at least.
        openings: by account, how many it takes; None for no limit.
        most: how many may be chosen.
        beginning: those that were chosen before and have not taken their opening yet.
    """
    left = dict(openings)
    wanted: dict[Account, int] = {}
    for head in (*beginning, *heads):
        for account in accounts_of(head.room):
            wanted[account] = wanted.get(account, 0) + 1

    def take(one: Waiting) -> tuple[Account, ...] | None:
        accounts = accounts_of(one.room)
        usable = [account for account in accounts if left.get(account, 0) != 0]
        if not usable:
            return None if accounts else ()
        unlimited = tuple(account for account in usable if left[account] is None)
        if unlimited:
            return unlimited
        _, account = min((wanted[account], account) for account in usable)
        left[account] = (left[account] or 0) - 1
        return (account,)

    for one in beginning:
        take(one)
    chosen: list[Chosen] = []
    for head in sorted(heads, key=lambda one: (one.turn, one.job_id)):
        if len(chosen) == most:
            break
        at = take(head)
        if at is not None:
            chosen.append(Chosen(head, at))
    return tuple(chosen)
