"""Processes killed again and again, at any moment, while they work: nothing is paid twice, nothing is lost.

    python tests/faults/storm.py --engine both --jobs 2000 --kills 100

The providers take a job at once and say so late, so that many kills strike while a paid call is under way.
On SQLite the one process is killed; on PostgreSQL any of three workers and, now and then, the API.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("flows", "store")]  # as conftest.py does

from audit import check_database, check_messages, check_payments, paid, to_be_told, told
from careful_client import CarefulClient
from engines import ENGINES, POSTGRES, fresh
from invariants import open_database
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from running_gateway import ENDED, PROVIDERS, Document, client_of, environment, stats_of
from serve_process import GatewayProcess, ServeProcess, WorkProcess, made_key
from slow_providers import most_in_flight, open_providers
from sqlalchemy import select
from webhook_receiver import Receiver, open_receiver

from gateway.jobs.job import AttemptState
from gateway.service.keys import Scope
from gateway.simulator import SimulatorServer
from gateway.storage import tables
from gateway.worker.submit import DIED

WORKERS = 3
POSTERS = 32
API_SHARE = 0.1
"""Of the kills, where the API is a process of its own."""
ALIVE_S = (0.05, 2.5)
"""Seconds between a start and the next kill, at least and at most."""
SETTLE_EVERY_S = 0.5
CALL_S = 20.0
"""No paid call lasts longer here, however busy the machine is."""

Watch = Callable[[int, int], None]
"""Told of kills, and of jobs that have been told of."""


@dataclass
class Figures:
    """What a storm did, and what came of it.

    Attributes:
        engine: which database.
        jobs: posted, each until it was answered.
        kills: by what was killed.
        in_flight: attempts whose paid call was under way at a kill.
        doubted: attempts whose worker may have been killed after its lease had lapsed: a busy machine.
        statuses: jobs by status; `held` for those in doubt.
        lapsed: jobs held for one of these.
        found: attempts in doubt whose run was found at the provider.
        webhooks: events that were told, and messages that told them.
        life_s: seconds from accepted to ended, of every job that ended.
        took_s: seconds the whole took.
        most_in_flight: runs at one provider at once, at most.
    """

    engine: str
    jobs: int
    kills: Counter[str] = field(default_factory=Counter)
    in_flight: set[str] = field(default_factory=set)
    doubted: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    lapsed: int = 0
    found: int = 0
    webhooks: tuple[int, int] = (0, 0)
    life_s: list[float] = field(default_factory=list)
    took_s: float = 0.0
    most_in_flight: int = 0

    def lines(self) -> list[tuple[str, str]]:
        """The figures as they are printed: name, value."""
        of_kills = ", ".join(f"{number} of {what}" for what, number in sorted(self.kills.items()))
        median, slow = (statistics.quantiles(self.life_s, n=100)[at] for at in (49, 98))
        return [
            ("jobs posted and answered", f"{self.jobs:,}"),
            ("kills (SIGKILL)", f"{self.kills.total()}: {of_kills}"),
            ("paid calls under way at a kill", f"{len(self.in_flight)}"),
            ("of them, held though their lease had lapsed", f"{self.lapsed}"),
            ("accepted twice by a provider", "0"),
            ("lost", "0"),
            (
                "ended",
                ", ".join(f"{self.statuses[one]:,} {one}" for one in sorted(ENDED & set(self.statuses))),
            ),
            ("in doubt, found at the provider", f"{self.found}"),
            ("held for an operator", f"{self.statuses['held']}"),
            ("events told / messages sent", f"{self.webhooks[0]:,} / {self.webhooks[1]:,}"),
            ("accepted to ended", f"{median:.1f} s median, {slow:.1f} s at p99"),
            ("most runs at once at a provider", f"{self.most_in_flight}"),
            ("duration", f"{self.took_s:.0f} s"),
        ]


class Fleet:
    """The processes of one gateway.

    Args:
        engine: one of `ENGINES`.
        url: its database's.
        environ: of each process.
        folder: for their logs.
    """

    def __init__(self, engine: str, url: str, environ: Mapping[str, str], folder: Path) -> None:
        self.url = url
        self._returning: set[GatewayProcess] = set()
        self.workers: list[GatewayProcess] = []
        if engine == POSTGRES:
            self.api = ServeProcess(environ, folder / "serve.log", "--no-worker")
            self.workers += [WorkProcess(environ, folder / f"work-{one}.log") for one in range(WORKERS)]
        else:
            self.api = ServeProcess(environ, folder / "serve.log")

    @property
    def all(self) -> list[GatewayProcess]:
        """Every process."""
        return [self.api, *self.workers]

    def victim(self, chance: Random) -> GatewayProcess | None:
        """Choose what dies next, of what has not died already."""
        ready = [process for process in self.workers if process not in self._returning]
        if self.api not in self._returning and (not ready or chance.random() < API_SHARE):
            return self.api
        return chance.choice(ready) if ready else None

    def restart(self, victim: GatewayProcess, returning: asyncio.TaskGroup) -> None:
        """Start it again, while others go on, and perhaps die."""
        self._returning.add(victim)
        task = returning.create_task(victim.start())
        task.add_done_callback(lambda _task: self._returning.discard(victim))


def under_way(url: str, worker: str) -> tuple[set[str], set[str]]:
    """The attempts whose paid call a worker that died just now may have been making.

    On a busy machine a lease lapses while its holder lives, and another worker calls the attempt unknown; the
    holder settles that with its answer, unless it is killed before.

    Args:
        url: the database's.
        worker: its name.

    Returns:
        Those under its leases, and those that another had taken over; these only where there are others.
    """
    mine = select(tables.tasks.c.subject).where(tables.tasks.c.leased_by == worker)
    begun = select(tables.attempts.c.id).where(
        tables.attempts.c.state == AttemptState.SUBMITTING, tables.attempts.c.job_id.in_(mine)
    )
    since_ms = round((time.time() - CALL_S) * 1000)
    doubted = select(tables.attempts.c.id).where(
        tables.attempts.c.state.in_([AttemptState.SUBMITTING, AttemptState.UNKNOWN]),
        tables.attempts.c.started_at_ms > since_ms,
    )
    with closing(open_database(url).connect()) as connection:
        leased = set(connection.execute(begun).scalars())
        others = url.startswith("postgresql")
        return leased, set(connection.execute(doubted).scalars()) - leased if others else set()


async def post_all(client: CarefulClient, jobs: int, pace_s: float, chance: Random) -> list[str]:
    """Post every job until it is accepted, some at once; their ids."""
    numbers = iter(range(jobs))

    async def post_some() -> list[str]:
        found = []
        for number in numbers:
            await asyncio.sleep(chance.uniform(0, 2 * pace_s * POSTERS))
            found.append(await client.post(number))
        return found

    return list(itertools.chain(*await asyncio.gather(*(post_some() for _ in range(POSTERS)))))


async def kill_one(fleet: Fleet, figures: Figures, victim: GatewayProcess) -> None:
    """Kill a process, and write down what it was paying for."""
    await victim.end(signal.SIGKILL)
    figures.kills["work" if victim in fleet.workers else "serve"] += 1
    worker = victim.worker_name()
    if worker is not None:
        mine, doubted = await asyncio.to_thread(under_way, fleet.url, worker)
        figures.in_flight |= mine
        figures.doubted |= doubted


async def kill_all(
    fleet: Fleet, figures: Figures, posting: asyncio.Task[list[str]], kills: int, chance: Random
) -> None:
    """Kill one after another, each to return by itself, until enough died and every job was posted."""
    async with asyncio.TaskGroup() as returning:
        while figures.kills.total() < kills or not posting.done():
            await asyncio.sleep(chance.uniform(*ALIVE_S))
            victim = fleet.victim(chance)
            if victim is not None:
                await kill_one(fleet, figures, victim)
                fleet.restart(victim, returning)
            if posting.done() and posting.exception():
                break


async def everyone_told(receiver: Receiver, client: CarefulClient) -> list[Document]:
    """Wait until every job has ended or is held, and its receiver knows."""
    while True:
        jobs = await client.settled(SETTLE_EVERY_S)
        if told(receiver.messages) >= to_be_told(jobs):
            return jobs
        await asyncio.sleep(SETTLE_EVERY_S)


async def check_doubts(client: CarefulClient, jobs: Sequence[Document], figures: Figures) -> None:
    """Each doubt is one that a kill made, and the job's timeline says so."""
    for job in jobs:
        tried = {attempt["id"] for attempt in job["attempts"]}
        if job["held"] is None and not tried & (figures.in_flight | figures.doubted):
            assert "unknown" not in {attempt["state"] for attempt in job["attempts"]}
            continue
        events = await client.events(job["id"])
        reasons = [event["data"]["note"]["reason"] for event in events if event["type"] == "attempt.unknown"]
        figures.found += sum(event["type"] == "attempt.adopted" for event in events)
        if job["held"] is not None:
            assert reasons == [DIED], f"{job['id']} is held, and its timeline says {reasons}"
            struck = tried & (figures.in_flight | figures.doubted)
            assert struck, f"{job['id']} is held, and no kill struck its submission"
            figures.lapsed += not struck & figures.in_flight


def count(figures: Figures, jobs: Sequence[Document], receiver: Receiver) -> None:
    """Put what came of the jobs into the figures."""
    figures.statuses = Counter("held" if job["held"] is not None else job["status"] for job in jobs)
    figures.webhooks = (len({message.id for message in receiver.messages}), len(receiver.messages))
    figures.life_s = [_life_s(job) for job in jobs if job["finished_at"] is not None]


def _life_s(job: Document) -> float:
    began, ended = (datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at"))
    return (ended - began).total_seconds()


@asynccontextmanager
async def _watched(watch: Watch, figures: Figures, receiver: Receiver) -> AsyncIterator[None]:
    async def look() -> None:
        while True:
            watch(figures.kills.total(), len({message.id for message in receiver.messages}))
            await asyncio.sleep(0.5)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        watch(figures.kills.total(), figures.jobs)


async def storm(
    engine: str,
    database: Mapping[str, str],
    folder: Path,
    *,
    jobs: int,
    kills: int,
    pace_s: float,
    seed: int,
    watch: Watch = lambda _kills, _told: None,
    settings: Mapping[str, str] = {},
) -> Figures:
    """Kill at random while jobs run, let it calm down, and check everything.

    Args:
        engine: one of `ENGINES`.
        database: its settings, of an empty database.
        folder: for logs.
        jobs: how many are posted.
        kills: how often something dies, at least.
        pace_s: seconds between two posts.
        seed: of every chance taken here; what strikes when also depends on the machine.
        watch: told how far it is.
        settings: further ones of the gateway.

    Raises:
        AssertionError: something was paid twice, lost, or told wrongly; the message says what.
    """
    chance, figures, began_s = Random(seed), Figures(engine, jobs), time.monotonic()  # noqa: S311 - not for secrets
    url = database["DATABASE"]
    async with AsyncExitStack() as stack:
        providers = await stack.enter_async_context(open_providers(run_s=0.5))
        receiver = await stack.enter_async_context(open_receiver(pause_s=0.05))
        environ = _environment(folder, providers, {**database, **settings})
        key = await made_key(environ, folder, Scope.JOBS)
        fleet = Fleet(engine, url, environ, folder)
        await asyncio.gather(*(stack.enter_async_context(process) for process in fleet.all))
        http = await stack.enter_async_context(client_of(fleet.api.url, key.key))
        client = CarefulClient(http, receiver=receiver.url())
        async with _watched(watch, figures, receiver):
            posting = asyncio.create_task(post_all(client, jobs, pace_s, chance))
            await kill_all(fleet, figures, posting, kills, chance)
            ids = await posting
            shown = await everyone_told(receiver, client)
        assert sorted(ids) == sorted(job["id"] for job in shown), "what was answered is not what is there"
        assert len(set(ids)) == jobs
        await check_doubts(client, shown, figures)
        stopped = await asyncio.gather(*(process.end(signal.SIGTERM) for process in fleet.all))
        assert set(stopped) == {0}, f"stopped with {stopped}"
        stats = await stats_of(providers)
    check_payments(stats, shown)
    assert sum(paid(stats).values()) <= jobs
    check_messages(receiver.messages)
    assert check_database(url) == jobs
    count(figures, shown, receiver)
    figures.most_in_flight = most_in_flight(providers)
    figures.took_s = time.monotonic() - began_s
    return figures


def _environment(folder: Path, providers: SimulatorServer, database: Mapping[str, str]) -> dict[str, str]:
    return environment(
        folder,
        {name: f"{providers.url}/{name}" for name in PROVIDERS},
        WEBHOOKS__ALLOW_HTTP="true",
        WEBHOOKS__ALLOWED_NETWORKS="127.0.0.1/32",
        # Else hundreds of doubts at once, each looked at several times a second, would be all that it does.
        **{f"PROVIDERS__{name.upper()}__POLL_SCALE": "0.05" for name in PROVIDERS},
        **database,
    )


def main() -> int:
    """Run it as the command line says; 1 when something was not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=100, help="at least that many on each engine")
    parser.add_argument("--pace-s", type=float, default=0.15, help="seconds between two posts")
    parser.add_argument("--seed", type=int, default=20261121)
    options = parser.parse_args()
    console = Console()
    for engine in ENGINES if options.engine == "both" else [options.engine]:
        with tempfile.TemporaryDirectory() as name, fresh(engine, Path(name)) as database:
            try:
                figures = asyncio.run(_shown(console, engine, database, Path(name), options))
            except AssertionError as broken:
                console.print(f"{engine}: {broken}", style="bold red", markup=False)
                return 1
            console.print(_table(figures))
    return 0


async def _shown(
    console: Console, engine: str, database: Mapping[str, str], folder: Path, options: argparse.Namespace
) -> Figures:
    columns = (
        TextColumn(f"{engine:8} {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        killed = progress.add_task("kills", total=options.kills)
        settled = progress.add_task("events told", total=options.jobs)

        def watch(kills: int, told_of: int) -> None:
            progress.update(killed, completed=kills)
            progress.update(settled, completed=told_of)

        return await storm(
            engine,
            database,
            folder,
            jobs=options.jobs,
            kills=options.kills,
            pace_s=options.pace_s,
            seed=options.seed,
            watch=watch,
        )


def _table(figures: Figures) -> Table:
    title = f"{figures.engine}: {figures.kills.total()} kills, {figures.jobs:,} jobs"
    table = Table("", "", title=title, show_header=False)
    for line in figures.lines():
        table.add_row(*line)
    return table


if __name__ == "__main__":
    sys.exit(main())
