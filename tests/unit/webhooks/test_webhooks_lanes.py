"""How many deliveries run at once."""

from __future__ import annotations

import asyncio

import pytest
from webhook_receivers import OK, Network, answering, receiver, sender, tar_pit

from gateway.webhooks.lanes import Lanes
from gateway.webhooks.outcome import Outcome


async def test_a_tar_pit_holds_its_own_lanes_and_nobody_elses() -> None:
    async with (
        receiver(tar_pit) as pit,
        receiver(answering(OK)) as good,
        sender(concurrency=5, per_host_concurrency=4, timeout_s=60.0) as webhooks,
    ):
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


async def test_whoever_finds_no_lane_free_has_not_tried() -> None:
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


async def test_waiting_for_a_lane_takes_nothing_from_the_deadline() -> None:
    async with (
        receiver(tar_pit) as pit,
        sender(per_host_concurrency=1, timeout_s=0.2) as webhooks,
    ):
        sent = await asyncio.gather(*(webhooks.send(url=pit.url(), headers={}, body=b"{}") for _ in range(3)))
        assert [one.outcome for one in sent] == [Outcome.TIMEOUT] * 3
        assert len(pit.requests) == 3


async def test_lanes_come_back_after_errors_and_after_waits_that_ended() -> None:
    lanes = Lanes(total=1, per_host=1)

    async def wait_for_a_lane(host: str) -> None:
        async with lanes.lane(host, within_s=60.0):
            raise AssertionError("the only lane was taken")

    async with lanes.lane("a.test", within_s=0.01):
        for host in ("a.test", "b.test"):
            with pytest.raises(TimeoutError):
                await asyncio.create_task(_enter(lanes, host))
            waiting = asyncio.create_task(wait_for_a_lane(host))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    with pytest.raises(ZeroDivisionError):
        async with lanes.lane("a.test", within_s=0.01):
            raise ZeroDivisionError
    for host in ("a.test", "b.test"):
        await _enter(lanes, host)


async def test_idle_hosts_are_forgotten() -> None:
    lanes = Lanes(total=2, per_host=1)
    for number in range(100):
        await _enter(lanes, f"{number}.test")
    assert len(lanes._hosts) == 0


async def _enter(lanes: Lanes, host: str) -> None:
    async with lanes.lane(host, within_s=0.01):
        pass
