"""Names whose servers never answer hold up nobody else's lookups."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.net import LookupsBusy, lookups
from gateway.net.lookups import SystemLookup
from gateway.settings.model import Webhooks
from gateway.webhooks.outcome import Outcome
from gateway.webhooks.sending import open_sender

HANGS_S = 60


class Directory:
    """getaddrinfo that hangs, in its thread, for names under `hangs.test`, until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = threading.Event()

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if host.endswith("hangs.test"):
            self.open.wait(HANGS_S)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    made = Directory()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    try:
        yield made
    finally:
        made.open.set()


async def test_hanging_names_of_one_owner_leave_threads_to_others(directory: Directory) -> None:
    with closing(SystemLookup(threads=8)) as lookup:
        asking = [asyncio.create_task(lookup(f"{n}.hangs.test", 443, "many")) for n in range(20)]
        await asyncio.sleep(0)
        for task in asking:
            task.cancel()
        given_up = await asyncio.gather(*asking, return_exceptions=True)
        refused = [error for error in given_up if isinstance(error, LookupsBusy)]
        assert len(refused) == 14, "the others have a thread, though nobody waits for them any more"
        assert await asyncio.create_task(lookup("fine.test", 443, "few")) == ["192.0.2.1"]
        with pytest.raises(LookupsBusy, match=r"^fine\.test was not looked up"):
            await asyncio.create_task(lookup("fine.test", 443, "many"))
        directory.open.set()
        while lookup._names:  # noqa: ASYNC110 - threads set no event
            await asyncio.sleep(0.001)
        assert not lookup._owners
        assert await asyncio.create_task(lookup("fine.test", 443, "many")) == ["192.0.2.1"]


async def test_whoever_asks_for_the_same_name_meanwhile_shares_its_thread(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SystemLookup(threads=8)) as lookup:
        asking = [asyncio.create_task(lookup("Hangs.test", 443, str(n))) for n in range(10)]
        await asyncio.sleep(0)
        monkeypatch.setattr(lookups, "_JOINED_S", 0.0)  # as if that had been long ago
        asking += [asyncio.create_task(lookup("hangs.test", 443, str(n))) for n in range(10)]
        await asyncio.sleep(0)
        asking[0].cancel()
        directory.open.set()
        first, *others = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert {type(error) for error in others} == {socket.gaierror}
        assert directory.asked == ["hangs.test"] * 2


async def test_a_lookup_that_is_under_way_at_the_end_fails(directory: Directory) -> None:
    lookup = SystemLookup(threads=1)
    asking = asyncio.create_task(lookup("hangs.test", 443, "a"))
    await asyncio.sleep(0)
    lookup.close()
    with pytest.raises(OSError, match="the gateway stops"):
        await asking
    assert directory.asked == ["hangs.test"]


async def test_a_receiver_that_could_not_be_looked_up_was_not_tried(directory: Directory) -> None:
    webhooks = open_sender(Webhooks(concurrency=2, connect_timeout_s=0.01))
    try:
        outcomes = [
            (await webhooks.send(url=f"https://{n}.hangs.test/", headers={}, body=b"", owner="a")).outcome
            for n in range(5)
        ]
        assert outcomes == [Outcome.TIMEOUT] * 3 + [Outcome.BUSY] * 2
        other = await webhooks.send(url="https://fine.test/", headers={}, body=b"", owner="b")
        assert other.outcome in {Outcome.BLOCKED, Outcome.TIMEOUT}, "of a look-up, in time or not"
        async with asyncio.timeout(HANGS_S / 2):
            while "fine.test" not in directory.asked:  # noqa: ASYNC110 - a thread asks
                await asyncio.sleep(0.001)
    finally:
        directory.open.set()
        await webhooks.aclose()
