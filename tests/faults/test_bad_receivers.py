"""Receivers that do a sender harm, 8 or 24 of one owner, cost those nothing who do none; real sockets."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bad_receivers import BAD, BadReceiver, open_bad_receivers
from delivering import DeliveringProcess
from delivery_log import Try, quantile, read_tries
from patience import WAIT_S
from running_gateway import BOTH_ENGINES
from standardwebhooks import Webhook
from webhook_receiver import Receiver, open_receiver

from gateway.webhooks.outcome import Outcome

pytestmark = BOTH_ENGINES

GOOD = 14
PER_S = 50
BEFORE, DURING = 100, 250
"""Jobs that end before there are bad receivers, and beside them."""
PER_HOST = 2
TIMEOUT_S = 8.0
FLOOR_S = TIMEOUT_S / 4
"""A p99 below this counts as this: a busy machine alone may double what is less, whereas whoever stands
behind one try to a bad receiver waits four times as long, which is twice what is allowed."""
CROWD_JOBS = 60
CROWD_PLACES = 16
"""Fewer than there are bad receivers, which could take all of them at once."""
CROWD_PER_HOST = 4
GROWTH_MB = 20
STORED_BYTES = 1024
FLOOD_BYTES = 2**21
"""What the kernel takes off a receiver's hands before the sender has looked at the first of it."""


async def test_bad_receivers_cost_good_ones_nothing(database_url: str, tmp_path: Path) -> None:
    settings = {
        "WEBHOOKS__TIMEOUT_S": str(TIMEOUT_S),
        "WEBHOOKS__PER_HOST_CONCURRENCY": str(PER_HOST),
        "WEBHOOKS__SCHEDULE_S": "0, 3600",
    }
    async with asyncio.timeout(WAIT_S), AsyncExitStack() as stack:
        good = [await stack.enter_async_context(open_receiver()) for _ in range(GOOD)]
        bad, trap = await stack.enter_async_context(open_bad_receivers())
        process = DeliveringProcess(database_url, tmp_path / "log", **settings)
        async with process:
            owners = {name: f"{name}'s" for name in BAD}
            names = list(BAD)
            secrets = await process.store(
                [
                    (owners[names[number // GOOD % len(BAD)]], good[number % GOOD].url())
                    for number in range(BEFORE + DURING)
                ]
            )
            await process.work()
            await process.end(BEFORE, PER_S)
            await _received(good, BEFORE)
            before_mb = resident_mb(process.pid)
            for name, receiver in bad.items():
                await process.add_endpoint(owners[name], receiver.url)
            await process.end(DURING, PER_S)
            await _received(good, BEFORE + DURING)
            await _asked(bad.values(), PER_HOST)
            after_mb = resident_mb(process.pid)
            await process.rest()
    tries = read_tries(database_url)
    check_good(good, tries, secrets)
    check_bad(bad, tries)
    assert trap.connections == 0
    assert abs(after_mb - before_mb) < GROWTH_MB
    to_good = {receiver.url() for receiver in good}
    lags = [one.lag_s for one in tries if one.url in to_good]
    alone_s, beside_s = quantile(lags[:BEFORE], 0.99), quantile(lags[BEFORE:], 0.99)
    assert beside_s <= 2 * max(alone_s, FLOOR_S)


async def test_a_crowd_of_one_owners_bad_receivers_costs_another_owner_nothing(
    database_url: str, tmp_path: Path
) -> None:
    """24 bad ones, three of each kind, are told of each job of their owner's; the other has two good ones."""
    settings = {
        "WEBHOOKS__TIMEOUT_S": str(TIMEOUT_S),
        "WEBHOOKS__CONCURRENCY": str(CROWD_PLACES),
        "WEBHOOKS__SCHEDULE_S": "0, 3600",
    }
    async with asyncio.timeout(WAIT_S), AsyncExitStack() as stack:
        own, first, second = [await stack.enter_async_context(open_receiver()) for _ in range(3)]
        crowds = [await stack.enter_async_context(open_bad_receivers()) for _ in range(3)]
        process = DeliveringProcess(database_url, tmp_path / "log", **settings)
        async with process:
            jobs = [("crowd", own.url()), ("victim", first.url())] * CROWD_JOBS
            await process.store(jobs)
            for crowd, _ in crowds:
                for receiver in crowd.values():
                    await process.add_endpoint("crowd", receiver.url)
            await process.add_endpoint("victim", second.url())
            await process.work()
            await process.end(len(jobs), PER_S)
            await _received([first, second], 2 * CROWD_JOBS)
            bad = [receiver for crowd, _ in crowds for receiver in crowd.values()]
            await _asked(bad, 1)  # those that never answer may have all their owner's places, for a while
            await process.rest()
    tries = read_tries(database_url)
    lags = [one.lag_s for one in tries if one.owner == "victim"]
    assert {one.outcome for one in tries if one.owner == "victim"} == {Outcome.DELIVERED}
    assert len(lags) == 2 * CROWD_JOBS
    assert quantile(lags, 0.99) <= 2 * FLOOR_S
    assert len(bad) > CROWD_PLACES
    assert max(receiver.most_open for receiver in bad) <= CROWD_PER_HOST
    assert max(crowd["flood"].most_written for crowd, _ in crowds) < FLOOD_BYTES
    assert {trap.connections for _, trap in crowds} == {0}


def check_good(good: Sequence[Receiver], tries: Sequence[Try], secrets: dict[str, str]) -> None:
    """Each good receiver has had each of its events, once, byte for byte, and could verify it."""
    urls = {receiver.url() for receiver in good}
    frozen = {(one.url, one.message_id): one for one in tries if one.url in urls}
    assert len(frozen) == BEFORE + DURING
    assert {one.outcome for one in tries if one.url in urls} == {Outcome.DELIVERED}
    came = [(receiver.url(), message) for receiver in good for message in receiver.messages]
    assert len(came) == len(frozen)
    for url, message in came:
        told = frozen[url, message.id]
        assert message.body == told.body
        Webhook(secrets[told.owner]).verify(message.body, message.headers)


def check_bad(bad: dict[str, BadReceiver], tries: Sequence[Try]) -> None:
    """Each bad receiver had no more sockets than it may, and what came of each try is logged."""
    to: defaultdict[str, list[Try]] = defaultdict(list)
    for one in tries:
        to[one.url].append(one)
    for name, receiver in bad.items():
        logged = to[receiver.url]
        assert receiver.requests == len(logged)
        assert Counter(one.outcome for one in logged) == {BAD[name]: receiver.requests}, name
        assert 0 < receiver.most_open <= PER_HOST, name
        assert max(len(one.detail.encode()) for one in logged) <= STORED_BYTES, name
    assert 0 < bad["flood"].most_written < FLOOD_BYTES


async def _received(good: Sequence[Receiver], count: int) -> None:
    """Wait until so many messages have come, whosever they are."""
    while sum(len(receiver.messages) for receiver in good) < count:  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.01)


async def _asked(bad: Collection[BadReceiver], times: int) -> None:
    """Wait until each of them had so many requests."""
    while min(receiver.requests for receiver in bad) < times:  # noqa: ASYNC110 - what is waited for sets no event
        await asyncio.sleep(0.01)


def resident_mb(pid: int) -> float:
    """Memory of a process (RSS)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
