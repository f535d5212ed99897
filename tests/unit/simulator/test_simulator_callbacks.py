"""Callbacks: sent to loopback when a job ends, with the secret as it was given, three times at most."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
from simulator_fleet import Caller, asking, fleet, script

from gateway.simulator import Simulator
from providers.contract.exchange import HttpRequest

SECRET = "s3cr3t-of-the-attempt"
NAME = "eachlabs"


class Receiver:
    """A port that answers as it is told, the last answer from then on, and keeps what reached it."""

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses = list(statuses)
        self.port = 0
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/callbacks/eachlabs/att_test.token"

    async def received(self, count: int) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.bodies) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: *([0-9]+)", head, re.IGNORECASE)
                assert length is not None
                body = await reader.readexactly(int(length[1]))
                status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\nok" % status)
                await writer.drain()
                async with self._news:
                    self.heads.append(head)
                    self.bodies.append(body)
                    self._news.notify_all()
        except asyncio.IncompleteReadError:
            pass  # the sender is done
        finally:
            writer.close()


@asynccontextmanager
async def receiver(*statuses: int) -> AsyncGenerator[Receiver]:
    here = Receiver(statuses or (200,))
    server = await asyncio.start_server(here.serve, "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    async with server:
        yield here


def calling_back(caller: Caller, url: str, secret: str = SECRET) -> HttpRequest:
    context = msgspec.structs.replace(caller.context(), callback_url=url, callback_secret=secret)
    return caller.adapter.build_submit(asking(), context)


async def submitted(caller: Caller, url: str, secret: str = SECRET) -> str:
    response = await caller.http.send(caller.prepared(calling_back(caller, url, secret)))
    ref: str = response.json()["predictionID"]
    return ref


async def counted(caller: Caller) -> int:
    response: httpx.Response = await caller.http.get("/_stats")
    sent: int = response.json()["callbacks"][NAME]
    return sent


async def test_a_success_is_reported_once_with_the_secret_verbatim() -> None:
    async with receiver() as here, fleet() as providers:
        caller = providers[NAME]
        ref = await submitted(caller, here.url)
        await providers.finish()
        await here.received(1)
        assert caller.adapter.parse_callback is not None
        assert caller.adapter.parse_callback({}, here.bodies[0]) == ref
        assert f"x-webhook-secret: {SECRET}\r\n" in here.heads[0]
        assert here.heads[0].startswith("POST /v1/callbacks/eachlabs/att_test.token HTTP/1.1\r\n")
        assert await counted(caller) == 1


async def test_nothing_is_reported_before_the_end() -> None:
    async with receiver() as here, fleet() as providers:
        await submitted(providers[NAME], here.url)
        providers.clock.now_s += 9.9
        await asyncio.sleep(0.1)  # five looks
        assert await counted(providers[NAME]) == 0
        await providers.finish()
        await here.received(1)


async def test_a_failure_is_reported_with_its_own_word() -> None:
    async with receiver() as here, fleet(faults=script("fail:timeout", provider=NAME)) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await here.received(1)
    assert msgspec.json.decode(here.bodies[0])["status"] == "failed"


async def test_a_lost_submission_is_reported_too() -> None:
    """The one way in which Eachlabs itself names it."""
    async with receiver() as here, fleet(faults=script("accept_502", times=1)) as providers:
        caller = providers[NAME]
        response = await caller.http.send(caller.prepared(calling_back(caller, here.url)))
        assert response.status_code == 502
        await providers.finish()
        await here.received(1)
        assert caller.adapter.parse_callback is not None
        ref = caller.adapter.parse_callback({}, here.bodies[0])
        assert (await caller.seen(ref)).status == "success"


async def test_a_cancelled_job_is_never_reported() -> None:
    async with receiver() as here, fleet() as providers:
        ref = await submitted(providers[NAME], here.url)
        await providers[NAME].cancel(ref)
        await providers.finish()
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await here.received(1)
        assert await counted(providers[NAME]) == 1


async def test_it_is_tried_three_times_and_no_more() -> None:
    async with receiver(503) as here, fleet(callback_pause_s=0.01) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await here.received(3)
        await ended(providers.simulator)
        assert await counted(providers[NAME]) == len(here.bodies) == 3
        assert len(set(here.bodies)) == 1


async def test_any_2xx_ends_the_tries() -> None:
    async with receiver(500, 202) as here, fleet(callback_pause_s=0.01) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await ended(providers.simulator)
        assert len(here.bodies) == 2


async def test_nobody_listening_is_three_tries_and_no_harm() -> None:
    async with receiver() as here:
        url = here.url
    async with fleet(callback_pause_s=0.01) as providers:
        ref = await submitted(providers[NAME], url)
        await providers.finish()
        await ended(providers.simulator)
        assert await counted(providers[NAME]) == 3
        assert (await providers[NAME].seen(ref)).status == "success"


@pytest.mark.parametrize(("fault", "secret", "times"), [("twice", SECRET, 2), ("forged", f"not-{SECRET}", 1)])
async def test_a_callback_can_be_spoilt(fault: str, secret: str, times: int) -> None:
    async with receiver() as here, fleet(faults=script(fault, "callback")) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await ended(providers.simulator)
        assert len(here.bodies) == times
        assert all(f"x-webhook-secret: {secret}\r\n" in head for head in here.heads)
        assert len(set(here.bodies)) == 1


async def test_a_callback_can_be_lost() -> None:
    async with receiver() as here, fleet(faults=script("lost", "callback")) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await ended(providers.simulator)
        assert here.bodies == []


@pytest.mark.parametrize(
    "url",
    [
        "https://gateway.example/cb",
        "http://192.0.2.1/cb",
        "http://127.0.0.1.example/cb",
        "http://127.0.0.1@192.0.2.1/cb",
        "ftp://127.0.0.1/cb",
        "http://[",
        "cb",
    ],
)
async def test_nothing_but_loopback_is_dialled(url: str) -> None:
    async with fleet() as providers:
        await submitted(providers[NAME], url)
        await providers.finish()
        await ended(providers.simulator)
        assert await counted(providers[NAME]) == 0


async def test_no_secret_is_no_header() -> None:
    async with receiver() as here, fleet() as providers:
        await submitted(providers[NAME], here.url, secret="")
        await providers.finish()
        await here.received(1)
    assert "x-webhook-secret" not in here.heads[0].lower()


async def test_callbacks_can_be_switched_off() -> None:
    async with receiver() as here, fleet(callbacks=False) as providers:
        await submitted(providers[NAME], here.url)
        await providers.finish()
        assert providers.simulator._mounts[NAME]._callbacks is None
        assert here.bodies == []


async def test_a_simulator_that_stops_gives_up_its_callbacks() -> None:
    async with receiver(503) as here, fleet(callback_pause_s=3600.0) as providers:
        await submitted(providers[NAME], here.url)
        await submitted(providers[NAME], here.url)
        await providers.finish()
        await here.received(2)


async def ended(simulator: Simulator) -> None:
    """Wait until every callback under way was sent, or will never be."""
    reporting = simulator._mounts[NAME]._callbacks
    assert reporting is not None
    async with asyncio.timeout(10):
        await asyncio.gather(*reporting._tasks, return_exceptions=True)
