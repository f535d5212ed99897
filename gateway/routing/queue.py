"""Who is next: waiting jobs take turns by owner.

Each owner's jobs get turns one after another, the first of them right behind the turn that is being served:
somebody with one job starts next, however many another has waiting (start-time fair queueing: a job's turn is
its start tag, and every job weighs the same). Within an owner the higher priority takes the earlier turn.

A job waits for a *room*: the accounts that could run it. Jobs whose accounts are all full or shut are passed
over without being looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

Account = tuple[str, str]
"""(provider, account)."""

ROOM_SEPARATOR = " "


class Waiting(Struct, frozen=True, kw_only=True):
    """A waiting job, as far as its turn is concerned."""

    job_id: str
    owner: str
    room: str
    turn: int


def room_of(accounts: Sequence[Account]) -> str:
    """Name the room of these accounts, whatever their order."""
    return ROOM_SEPARATOR.join(sorted(f"{provider}/{account}" for provider, account in set(accounts)))


def accounts_of(room: str) -> tuple[Account, ...]:
    """Return the accounts of a room."""
    pairs = (name.partition("/") for name in room.split(ROOM_SEPARATOR) if name)
    return tuple((provider, account) for provider, _, account in pairs)


def turns(waiting: int, *, served: int, last: int) -> range:
    """Return the turns of an owner's next jobs.

    Args:
        waiting: how many jobs.
        served: the turn that was served last, of anybody.
        last: the owner's last turn; 0 when there was none.
    """
    first = max(served, last) + 1
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
    heads: Sequence[Waiting], openings: Mapping[Account, int | None], *, most: int
) -> tuple[Waiting, ...]:
    """Choose who starts now: by turn, each at an account that has an opening left.

    A job takes the opening of the account that fewest others could use, so that no opening stays empty only
    because of the order. Which account it is sent to is decided by its plan, at its start.

    Args:
        heads: waiting jobs, the first of each room at least.
        openings: by account, how many it takes; None for no limit.
        most: how many may be chosen.
    """
    left = dict(openings)
    wanted: dict[Account, int] = {}
    for head in heads:
        for account in accounts_of(head.room):
            wanted[account] = wanted.get(account, 0) + 1
    chosen: list[Waiting] = []
    for head in sorted(heads, key=lambda one: (one.turn, one.job_id)):
        if len(chosen) == most:
            break
        accounts = accounts_of(head.room)
        usable = [account for account in accounts if left.get(account, 0) != 0]
        if accounts and not usable:
            continue
        chosen.append(head)
        limited = [(wanted[account], account) for account in usable if left[account] is not None]
        if limited and len(limited) == len(usable):
            _, account = min(limited)
            left[account] = (left[account] or 0) - 1
    return tuple(chosen)
