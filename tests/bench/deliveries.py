"""How soon receivers know that a job has ended, how fast a backlog goes out, and what bad receivers cost."""

from __future__ import annotations

import asyncio
import itertools
import re
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

from fleet import Cost
from rich.console import Console
from rich.table import Table

sys.path += [
    str(Path(__file__).parents[1] / folder) for folder in ("faults", "flows", "store")
]  # as conftest.py

from bad_receivers import BAD, open_bad_receivers
from delivering import DeliveringProcess
from delivery_log import count_pending, quantile, read_tries
from postgres_server import fresh_database

from gateway.app.heap import keep_what_is_loaded

ENGINES = ("SQLite", "PostgreSQL")
RECEIVERS = 14
STEADY, STEADY_PER_S = 1500, 100.0
BACKLOG = 3000
SLOWLY, SLOWLY_PER_S = 1000, 50.0
"""Jobs that end while each goes to an endpoint as well, and as many before."""
AT_ONCE_PER_S = 1e9
OWNER = "bench"
PATIENCE_S = 120.0
QUIET = {"LOGS__LEVEL": "info"}
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counter:
    """Counts what receivers take."""

    def __init__(self) -> None:
        self.count = 0


class Taking(asyncio.Protocol):
    """Takes one request, and answers it at once."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by type

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if found else None
        if self._transport is not None and length is not None and len(body) >= int(length[1]):
            self._counter.count += 1
            self._came = b""
            self._transport.write(_OK)


@asynccontextmanager
async def good_receivers(count: int) -> AsyncIterator[tuple[Counter, list[str]]]:
    """Receivers that take everything; their URLs."""
    counter, loop = Counter(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(await loop.create_server(lambda: Taking(counter), "127.0.0.1", 0))
            for _ in range(count)
        ]
        yield counter, [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/hook" for one in listeners]


@contextmanager
def a_database(engine: str) -> Iterator[tuple[str, Path]]:
    """A fresh database, and a folder."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        url = f"sqlite:///{folder}/b.db" if engine == "SQLite" else stack.enter_context(fresh_database())
        yield url, folder


async def steady(engine: str) -> list[float]:
    """Lags while jobs end one by one, seconds."""
    with a_database(engine) as (url, folder):
        async with good_receivers(RECEIVERS) as (counter, urls):
            async with DeliveringProcess(url, folder / "log", **QUIET) as process:
                await process.store([(OWNER, urls[number % RECEIVERS]) for number in range(STEADY)])
                await process.work()
                await process.end(STEADY, STEADY_PER_S)
                await _counted(counter, STEADY)
                await process.rest()
            return [one.lag_s for one in read_tries(url)]


async def backlog(engine: str, receivers: int) -> tuple[float, float]:
    """Deliveries a second when many are due at once, sent and each try stored; CPU seconds of each."""
    with a_database(engine) as (url, folder):
        async with good_receivers(receivers) as (counter, urls):
            async with DeliveringProcess(url, folder / "log", **QUIET) as process:
                await process.store([(OWNER, urls[number % receivers]) for number in range(BACKLOG)])
                await process.end(BACKLOG, AT_ONCE_PER_S)
                before = Cost(process.pid)
                await process.work()
                await _counted(counter, BACKLOG)
                await process.rest()
                after = Cost(process.pid)
            if count_pending(url):
                raise SystemExit("some of the backlog was not settled")
            return BACKLOG / (after.at_s - before.at_s), (after.cpu_s - before.cpu_s) / BACKLOG


async def beside(engine: str, *, bad: bool) -> tuple[float, float]:
    """The p99 of good receivers' lags, seconds: alone, and while each job goes to an endpoint as well.

    Args:
        engine: one of `ENGINES`.
        bad: whether those endpoints are the bad ones, or as many good ones: twice as many deliveries cost
            something, whatever becomes of them.
    """
    with a_database(engine) as (url, folder):
        async with good_receivers(RECEIVERS) as (counter, urls), _endpoints(bad=bad) as endpoints:
            async with DeliveringProcess(url, folder / "log", **QUIET, WORKER__STOP_S="0") as process:
                pairs = itertools.cycle(itertools.product(endpoints, urls))
                await process.store(list(itertools.islice(pairs, 2 * SLOWLY)))
                await process.work()
                await process.end(SLOWLY, SLOWLY_PER_S)
                await _counted(counter, SLOWLY)
                for owner, receiver in endpoints.items():
                    await process.add_endpoint(owner, receiver)
                await process.end(SLOWLY, SLOWLY_PER_S)
                await _counted(counter, 2 * SLOWLY)
                await process.rest()
            lags = [one.lag_s for one in read_tries(url) if one.url in set(urls)]
            return quantile(lags[:SLOWLY], 0.99), quantile(lags[SLOWLY:], 0.99)


@asynccontextmanager
async def _endpoints(*, bad: bool) -> AsyncIterator[dict[str, str]]:
    """Open receivers; the URL of each, by the owner that has it as its endpoint."""
    async with open_bad_receivers() as (receivers, _), good_receivers(len(BAD)) as (_, urls):
        if bad:
            yield {owner: receiver.url for owner, receiver in receivers.items()}
        else:
            yield dict(zip(receivers, urls, strict=True))


async def _counted(counter: Counter, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while counter.count < count:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


async def measure_deliveries(console: Console) -> None:
    """Print all three, on both engines."""
    keep_what_is_loaded()  # receivers that stop for a tenth of a second would be measured, too
    table = Table(title="deliveries: signed, sent and each try stored by one process, logging on")
    for column in ("", *ENGINES):
        table.add_column(column, justify="left" if not column else "right")
    columns = [await _measure(engine) for engine in ENGINES]
    for what in columns[0]:
        table.add_row(what, *(column[what] for column in columns))
    console.print(table)


async def _measure(engine: str) -> dict[str, str]:
    lags = await steady(engine)
    many, one = await backlog(engine, RECEIVERS), await backlog(engine, 1)
    _, good_s = await beside(engine, bad=False)
    alone_s, bad_s = await beside(engine, bad=True)
    return {
        f"{STEADY_PER_S:.0f} jobs a second, ended to acknowledged: p50": _ms(statistics.median(lags)),
        "  p99": _ms(quantile(lags, 0.99)),
        f"a backlog of {BACKLOG:,} for {RECEIVERS} receivers, a second": f"{many[0]:,.0f}",
        "  CPU of each": f"{many[1] * 1000:.2f} ms",
        "  for one receiver, a second": f"{one[0]:,.0f}",
        f"{SLOWLY_PER_S:.0f} jobs a second to {RECEIVERS} receivers: p99": _ms(alone_s),
        f"  and as many to {len(BAD)} good endpoints": _ms(good_s),
        f"  and as many to {len(BAD)} bad endpoints": _ms(bad_s),
        "  bad to good": f"{bad_s / good_s:.2f}",
    }


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
