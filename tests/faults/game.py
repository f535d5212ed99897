"""A gateway to play with, move by move: real services and steps over a real file, and three workers."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from parked_provider import Call, ParkedProvider, an_adapter_that_looks
from promises import Book
from store_stage import FILE, Stage, migrated_file

from gateway.errors import LeaseLost, Refusal
from gateway.jobs.job import Attempt, Job
from gateway.jobs.transitions import TaskKind
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.routes import JobRoutes
from gateway.service.adoption import Adoptions
from gateway.service.first_calls import FirstCalls
from gateway.service.health import Healths, Terms
from gateway.service.holds import Holds
from gateway.service.run_times import RunTimes
from gateway.settings import Secret
from gateway.storage import tables
from gateway.storage.sqlite import SQLiteDatabase
from gateway.storage.tasks import Claim
from gateway.telemetry import Metrics
from gateway.upstream.accounts import Accounts, UpstreamAccount
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client
from gateway.worker.cancel import Cancel
from gateway.worker.poll import Poll
from gateway.worker.reconcile import Reconcile
from gateway.worker.submit import Submit
from gateway.worker.sweep import Sweep
from gateway.worker.tools import Tools
from providers.contract.spec import CancelSpec

HOLD_S = 3600
WORKERS = 3
ACCOUNTS = ("default", "second")
"""Each knows its own runs alone, as if they were two providers."""
OPERATOR = WORKERS
"""In a worker's place: what an operator does."""


@cache
def _template() -> Path:
    """A migrated file to copy: to migrate one takes longer than to play."""
    return migrated_file(Path(tempfile.mkdtemp(prefix="motion-gateway-game-")))


class Underway:
    """A step that a worker carries out.

    Attributes:
        worker: its number.
        claim: the task's; None for what an operator does.
        call: what it waits for at the provider.
    """

    def __init__(self, worker: int, claim: Claim | None = None) -> None:
        self.worker, self.claim = worker, claim
        self.parked = asyncio.Event()
        self.running: asyncio.Task[None] | None = None
        self.call: Call | None = None


class AtOnce(FirstCalls):
    """Lets every call begin at once: here one may wait for its answer while any number of others begin."""

    @asynccontextmanager
    async def turn(self, _account: object) -> AsyncGenerator[None]:
        """Wait for nobody."""
        yield


class AlwaysWell(Healths):
    """Accounts that nothing makes unavailable: here every job is to go where its plan sends it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first_calls = AtOnce(arguments[1])

    def noted(self, *_call: Any, **_how: Any) -> None:
        """Note nothing."""
        return


class Worker:
    """One worker's steps, under a name of its own."""

    def __init__(self, game: Game, name: str) -> None:
        stage = game.stage
        hands = stage.worker(name)
        self.leases, self.dispatch = hands.leases, hands.dispatch
        self.tools = Tools(
            record=stage.record,
            leases=hands.leases,
            outbox=hands.outbox,
            census=stage.census,
            healths=stage.healths,
            calls=game.calls,
            accounts=game.accounts,
            clock=stage.clock,
            ids=stage.ids,
            metrics=game.metrics,
            run_times=RunTimes(stage.database, stage.clock),
            spread=lambda: 0.5,
        )
        adoptions = Adoptions(stage.database, stage.record, stage.clock)
        self.steps: dict[TaskKind, Any] = {
            TaskKind.SUBMIT: Submit(self.tools, game.routes, hold_s=HOLD_S),
            TaskKind.POLL: Poll(self.tools, game.routes),
            TaskKind.CANCEL: Cancel(self.tools),
            TaskKind.RECONCILE: Reconcile(self.tools, adoptions),
        }
        self.sweep = Sweep(self.tools)


class Game:
    """The gateway over a fresh file, three workers, and the provider."""

    def __init__(self, folder: Path, cancel: CancelSpec | None) -> None:
        shutil.copy(_template(), folder / FILE)
        self.path = folder / FILE
        self.stage = Stage(SQLiteDatabase(self.path))
        self.provider = ParkedProvider(self.stage.clock)
        self.provider.on_park = self._parked
        adapter = an_adapter_that_looks(cancel)
        self.accounts = Accounts(
            tuple(
                UpstreamAccount(
                    adapter=adapter,
                    name=name,
                    api_key=Secret("a key for tests"),
                    base_url=f"https://{name}.acme.example",
                    options={},
                    poll_scale=1.0,
                )
                for name in ACCOUNTS
            )
        )
        self.routes = JobRoutes(
            catalogue=Catalogue(offers=tuple(Offer(spec=adapter.spec, account=name) for name in ACCOUNTS))
        )
        self.metrics = Metrics(version="0", providers=["acme"], models=["act-two"], routes=[])
        stage, count = self.stage, self.metrics.provider_request
        self.calls = Calls(Client(self.provider), stage.clock, str, count)
        self.holds = Holds(
            stage.database, stage.record, stage.clock, accounts=self.accounts, calls=self.calls
        )
        self.book = Book(self.provider, stage.clock)
        self.underway: list[Underway] = []
        self._born = 0
        terms = {account.id: Terms(longest_run_ms=86_400_000) for account in self.accounts.all()}
        stage.healths = AlwaysWell(stage.database, stage.clock, terms)
        self.workers = [self._worker() for _ in range(WORKERS)]

    def _worker(self) -> Worker:
        self._born += 1
        return Worker(self, f"worker-{self._born}")

    def _parked(self) -> None:
        for one in self.underway:
            if one.running is asyncio.current_task():
                one.call = self.provider.waiting[-1]
                one.parked.set()

    async def jobs(self) -> dict[str, tuple[Job, tuple[Attempt, ...]]]:
        stage = self.stage
        ids = [str(row["id"]) for row in await stage.rows(tables.jobs)]
        return {job_id: (await stage.job(job_id), await stage.attempts(job_id)) for job_id in ids}

    async def claim(self, number: int, limit: int) -> None:
        """Have a worker claim what is due, and begin it."""
        worker = self.workers[number]
        for task in await worker.dispatch.claim(limit, list(worker.steps)):
            self.begin(Underway(number, task.claim), worker.steps[task.claim.kind](task))
        await self.quiet()

    def begin(self, one: Underway, step: Coroutine[Any, Any, Any]) -> None:
        self.underway.append(one)

        async def carry_out() -> None:
            try:
                await step
            except (LeaseLost, Refusal):
                return  # the loop, and the route, make the same of it

        one.running = asyncio.create_task(carry_out())

    async def quiet(self) -> None:
        """Wait until every step has ended or waits for the provider."""
        for one in list(self.underway):
            assert one.running is not None
            waiting = asyncio.create_task(one.parked.wait())
            await asyncio.wait({one.running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if one.running.done():
                self.underway.remove(one)
                one.running.result()

    def waiting(self, kind: str, *, sent: bool = True) -> list[Underway]:
        """Steps whose call of that kind waits."""
        calls = ((one, one.call) for one in self.underway)
        return [one for one, call in calls if call is not None and call.kind == kind and call.sent is sent]

    async def heartbeat(self, number: int) -> None:
        """Have a worker lengthen its leases."""
        claims = [one.claim for one in self.underway if one.worker == number and one.claim is not None]
        await self.workers[number].leases.heartbeat(claims)

    async def let_go(self, one: Underway, word: Any) -> None:
        assert one.call is not None
        one.parked.clear()
        call, one.call = one.call, None
        self.provider.let_go(call, word)
        await self.quiet()

    async def kill(self, number: int) -> None:
        """End a worker as SIGKILL does: nothing is given back. A new one takes its place."""
        for one in [one for one in self.underway if one.worker == number]:
            self.underway.remove(one)
            assert one.running is not None
            one.running.cancel()
            await asyncio.wait({one.running})
        self.workers[number] = self._worker()

    async def close(self) -> None:
        for number in range(OPERATOR + 1):
            for one in [one for one in self.underway if one.worker == number]:
                assert one.running is not None
                one.running.cancel()
                await asyncio.wait({one.running})
        await self.stage.database.close()
