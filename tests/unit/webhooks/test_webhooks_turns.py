"""How many deliveries run at once."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
from webhook_receivers import OK, Network, answering, receiver, sender, tar_pit

from gateway.webhooks.lanes import lane_of
from gateway.webhooks.outcome import Outcome
from gateway.webhooks.shares import Pace
from gateway.webhooks.turns import Turns


async def test_a_tar_pit_holds_its_own_places_and_nobody_elses() -> None:
    async with (
        receiver(tar_pit) as pit,
        receiver(answering(OK)) as good,
        sender(concurrency=8, per_host_concurrency=4, timeout_s=60.0) as webhooks,
    ):
        # It was quick until now.
        webhooks._turns.learn(lane_of(pit.url("pit.test"), ""), Pace.QUICK)
        stuck = [
            asyncio.create_task(webhooks.send(url=pit.url("pit.test"), headers={}, body=b"{}"))
            for _ in range(20)
        ]
        await pit.received(4)
        sent = [await webhooks.send(url=good.url("good.test"), headers={}, body=b"{}") for _ in range(20)]
        assert {one.outcome for one in sent} == {Outcome.DELIVERED}
        assert pit.connections == 4
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_whoever_finds_no_place_free_has_not_tried() -> None:
    network = Network()
    async with (
        receiver(tar_pit) as pit,
        sender(network, per_host_concurrency=1, timeout_s=60.0, queue_s=0.02) as webhooks,
    ):
        first = asyncio.create_task(webhooks.send(url=pit.url(), headers={}, body=b"{}"))
        await pit.received(1)
        second = await webhooks.send(url=pit.url(), headers={}, body=b"{}")
        assert (second.outcome, second.status, second.duration_s) == (Outcome.BUSY, None, 0.0)
        assert pit.connections == len(network.dialled) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_waiting_for_a_place_takes_nothing_from_the_deadline() -> None:
    async with (
        receiver(tar_pit) as pit,
        sender(per_host_concurrency=1, timeout_s=0.2) as webhooks,
    ):
        sent = await asyncio.gather(*(webhooks.send(url=pit.url(), headers={}, body=b"{}") for _ in range(3)))
        assert [one.outcome for one in sent] == [Outcome.TIMEOUT] * 3
        assert len(pit.requests) == 3


async def test_places_come_back_after_errors_and_after_waits_that_ended() -> None:
    turns = Turns(total=1, per_host=1)

    async def wait_for_a_place(lane: str) -> None:
        async with turns.place(lane, within_s=60.0):
            raise AssertionError("the only place was taken")

    async with turns.place("a", within_s=0.01):
        for lane in ("a", "b"):
            with pytest.raises(TimeoutError):
                await asyncio.create_task(_enter(turns, lane))
            waiting = asyncio.create_task(wait_for_a_place(lane))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(ZeroDivisionError):
        async with turns.place("a", within_s=0.01):
            raise ZeroDivisionError
    for lane in ("a", "b"):
        await _enter(turns, lane)


async def test_whoever_is_called_just_as_it_leaves_gives_its_place_on() -> None:
    turns = Turns(total=1, per_host=1)
    async with turns.place("a", within_s=1.0):
        called, next_one = (asyncio.create_task(_enter(turns, lane, 60.0)) for lane in ("b", "c"))
        await asyncio.sleep(0)
    called.cancel()
    await asyncio.gather(called, return_exceptions=True)
    await next_one
    assert not turns._queues


async def test_lanes_are_called_in_turns_and_a_queue_delays_nobody() -> None:
    turns = Turns(total=1, per_host=1)
    order: list[str] = []

    async def send(lane: str) -> None:
        async with turns.place(lane, owner=lane, within_s=60.0):
            order.append(lane)

    async with turns.place("z", within_s=1.0):
        waiting = [asyncio.create_task(send(lane)) for lane in "aaabbc"]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert "".join(order) == "abcaba"


async def test_to_one_host_go_no_more_than_it_may_have_whosever_they_are() -> None:
    turns = Turns(total=64, per_host=2)
    url = "https://shared.test:8443/"
    async with AsyncExitStack() as stack:
        for owner in ("a", "b"):
            lane = lane_of(url + owner, owner)
            await stack.enter_async_context(turns.place(lane, owner=owner, within_s=0.01))
        with pytest.raises(TimeoutError):
            await _enter(turns, lane_of(url, "c"))
    await _enter(turns, lane_of(url, "c"))
    assert not turns._targets


async def test_one_owners_dead_path_keeps_nobody_elses_at_that_host_waiting() -> None:
    turns = Turns(total=64, per_host=4)
    dead = lane_of("https://shared.test/dead", "a")
    async with turns.place(dead, owner="a", within_s=0.01):
        with pytest.raises(TimeoutError):
            await _enter(turns, dead, owner="a")
        await _enter(turns, lane_of("https://shared.test/fine", "b"), owner="b")


async def test_a_quick_answer_calls_those_who_waited_for_it() -> None:
    turns = Turns(total=64, per_host=4)
    async with turns.place("a", within_s=0.01):
        waiting = asyncio.create_task(_enter(turns, "a", 60.0))
        await asyncio.sleep(0)
        turns.learn("a", Pace.QUICK)
        await waiting


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_nobody_waits_who_may_have_a_place(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's
    turns, waiting = Turns(total=12, per_host=3), list[asyncio.Task[None]]()
    held: list[tuple[str, str]] = []
    lanes = [("one", "x"), ("two", "x"), ("three", "y"), ("four", "z"), ("host x", "x"), ("host y", "y")]

    async def enter(lane: str, owner: str) -> None:
        await turns.enter(lane, owner, within_s=60.0)
        held.append((lane, owner))

    for _ in range(1500):
        what = chance.random()
        if what < 0.45:
            waiting.append(asyncio.create_task(enter(*chance.choice(lanes))))
        elif what < 0.55 and waiting:
            waiting.pop(chance.randrange(len(waiting))).cancel()
        elif what < 0.7:
            turns.learn(chance.choice(lanes)[0], chance.choice([*Pace]))
        elif held:
            turns.leave(*held.pop(chance.randrange(len(held))))
        for _ in range(4):  # those who were called, or cancelled, get to run
            await asyncio.sleep(0)
        assert not [lane for lane in turns._queues if turns._may_take(*lane)]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _enter(turns: Turns, lane: str, within_s: float = 0.01, *, owner: str = "") -> None:
    async with turns.place(lane, owner=owner, within_s=within_s):
        pass
