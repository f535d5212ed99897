"""How long running jobs wait for another worker when theirs is gone: killed, or stopped.

The worst case is made: every job's task is in the hands of the worker that goes, its poll unanswered.

    async with open_pair(folder, database, jobs=100) as pair:
        killed = await pair.lose(signal.SIGKILL)
        stopped = await pair.lose(signal.SIGTERM)  # of the other, which had taken over
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from careful_client import CarefulClient
from running_gateway import client_of, environment
from serve_process import ServeProcess, WorkProcess, made_key
from watched_providers import PROVIDER, WatchedSimulator, known_as, open_watched

from gateway.service.keys import Scope

RUN_S = 3600.0
POLL_SCALE = 0.1
"""Of Runway's 6 s between two polls."""
ANSWER_S = 0.2
"""How long after a SIGTERM the provider answers the polls that are under way."""
LOOK_S = 0.01


@dataclass(frozen=True)
class TakeOver:
    """What came of it.

    Attributes:
        jobs: how many the worker had.
        first_s: seconds from the signal to the first poll by the other.
        last_s: the same, to the moment at which the other had polled every job.
        gone_s: seconds from the signal to the worker's end.
        exit_code: how it ended.
        leases: tasks that were still in its name right after its end.
    """

    jobs: int
    first_s: float
    last_s: float
    gone_s: float
    exit_code: int
    leases: int


class Pair:
    """Two workers, of which one has every job.

    Args:
        url: the database's.
        simulator: the providers.
        workers: the one that has the jobs, and the one to come.
        jobs: how many run.
    """

    def __init__(
        self, url: str, simulator: WatchedSimulator, workers: Mapping[str, WorkProcess], jobs: int
    ) -> None:
        self._url, self._simulator, self._workers, self._jobs = url, simulator, workers, jobs
        self._owner, self._heir = workers

    async def lose(self, how: signal.Signals) -> TakeOver:
        """Take the worker away that has every job; the other, started just before, gets them.

        Args:
            how: SIGKILL or SIGTERM. At a SIGTERM its polls are answered soon after, as providers do.
        """
        simulator, owner, heir = self._simulator, self._owner, self._heir
        simulator.park(owner)
        await _until(lambda: simulator.waiting.get(owner, 0) >= self._jobs)
        await self._workers[heir].start()
        name = self._workers[owner].worker_name()
        began_s = time.monotonic()
        if how is signal.SIGTERM:
            asyncio.get_running_loop().call_later(ANSWER_S, simulator.release, owner)
        exit_code = await self._workers[owner].end(how)
        gone_s = time.monotonic() - began_s
        leases = await asyncio.to_thread(_leases, self._url, name)
        simulator.release(owner)
        await _until(lambda: len(simulator.refs_polled(heir, began_s)) == self._jobs)
        at_s = [at_s - began_s for at_s in simulator.refs_polled(heir, began_s).values()]
        self._owner, self._heir = heir, owner
        return TakeOver(self._jobs, min(at_s), max(at_s), gone_s, exit_code, leases)


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - other processes' doing
        await asyncio.sleep(LOOK_S)


def _leases(url: str, worker: str | None) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM tasks WHERE leased_by = %s", [worker]).fetchone()
    assert found is not None
    count: int = found[0]
    return count


@asynccontextmanager
async def open_pair(
    folder: Path, database: Mapping[str, str], *, jobs: int, idle_s: float = 0.1
) -> AsyncIterator[Pair]:
    """Start a worker and give it jobs that run for an hour; the other is started when it is needed.

    Args:
        folder: for logs.
        database: settings of an empty PostgreSQL database, with the leases to be measured.
        jobs: how many run.
        idle_s: the workers' longest sleep between two looks.
    """
    async with open_watched(run_s=RUN_S) as (served, simulator):
        settings = {
            f"PROVIDERS__{PROVIDER.upper()}__POLL_SCALE": str(POLL_SCALE),
            "WORKER__CONCURRENCY": str(2 * jobs),
            "WORKER__IDLE_S": str(idle_s),
        }
        environ = environment(folder, {PROVIDER: f"{served.url}/{PROVIDER}"}, **settings, **database)
        key = await made_key(environ, folder, Scope.JOBS)
        names = ("first-worker", "second-worker")
        workers = {name: WorkProcess(known_as(environ, name), folder / f"{name}.log") for name in names}
        api = ServeProcess(environ, folder / "serve.log", "--no-worker")
        try:
            await asyncio.gather(api.start(), workers[names[0]].start())
            async with client_of(api.url, key.key) as http:
                client = CarefulClient(http)
                await asyncio.gather(*(client.post(number, provider=PROVIDER) for number in range(jobs)))
            yield Pair(database["DATABASE"], simulator, workers, jobs)
        finally:
            for process in (api, *workers.values()):
                if process.running:
                    await process.end(signal.SIGKILL)
