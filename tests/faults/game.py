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

import httpx
from account_promises import AccountBook
from parked_provider import CREATE, SHOW, STOP, Call, ParkedProvider, an_adapter_that_looks
from promises import Book, Jobs
from sqlalchemy import Connection, select
from store_stage import FILE, LEASE_S, Stage, migrated_file

from gateway.errors import LeaseLost, Refusal
from gateway.jobs.job import AttemptState
from gateway.jobs.transitions import TaskKind
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.health import Limits
from gateway.routing.routes import JobRoutes
from gateway.service.adoption import Adoptions
from gateway.service.dispatch import Dispatch, JobTask
from gateway.service.first_calls import FirstCalls
from gateway.service.health import Healths, Terms
from gateway.service.holds import Holds
from gateway.service.leases import Leases
from gateway.service.outbox import Outbox
from gateway.service.run_times import RunTimes
from gateway.settings import Secret
from gateway.storage import accounts as account_rows
from gateway.storage import attempts as attempt_rows
from gateway.storage import jobs as job_rows
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
PROVIDERS = ("acme", "other")
LIMITED, UNLIMITED = (("acme", "default"), ("other", "default"))
LONGEST_RUN_S = 900
"""Of the accounts that may be unwell: short, so that games go on beyond it."""
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


class AnyHealth(Healths):
    """The accounts as one process knows them; but its calls need not wait for each other."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first_calls = AtOnce(arguments[1])


class AlwaysWell(AnyHealth):
    """Accounts that nothing makes unavailable: here every job is to go where its plan sends it."""

    def noted(self, *_call: Any, **_how: Any) -> None:
        """Note nothing."""
        return


class Worker:
    """One worker's steps, under a name of its own, and what it knows of the accounts."""

    def __init__(self, game: Game, name: str) -> None:
        stage, healths = game.stage, game.healths()
        leases = Leases(stage.database, stage.clock, holder=name, lease_s=LEASE_S)
        self.leases, self.dispatch = leases, Dispatch(leases, healths)
        self.tools = Tools(
            record=stage.record,
            leases=leases,
            outbox=Outbox(leases),
            census=stage.census,
            healths=healths,
            calls=game.calls,
            accounts=game.accounts,
            clock=stage.clock,
            ids=stage.ids,
            metrics=game.metrics,
            run_times=RunTimes(stage.database, stage.clock),
            spread=lambda: 0.5,
        )
        adoptions = Adoptions(stage.database, stage.record, stage.clock)
        routes = JobRoutes(catalogue=game.catalogue, conditions=lambda _model: healths.conditions())
        self.steps: dict[TaskKind, Any] = {
            TaskKind.SUBMIT: Submit(self.tools, routes, hold_s=HOLD_S),
            TaskKind.POLL: Poll(self.tools, routes),
            TaskKind.CANCEL: Cancel(self.tools),
            TaskKind.RECONCILE: Reconcile(self.tools, adoptions),
        }
        self.sweep = Sweep(self.tools)


class Game:
    """The gateway over a fresh file, three workers, and the provider.

    Args:
        folder: for the file.
        cancel: how its providers stop runs.
        slots: of the account `LIMITED`; None: all accounts are always well, and have no limit.
    """

    def __init__(self, folder: Path, cancel: CancelSpec | None, slots: int | None = None) -> None:
        shutil.copy(_template(), folder / FILE)
        self.path = folder / FILE
        self.stage = Stage(SQLiteDatabase(self.path))
        self.provider = ParkedProvider(self.stage.clock)
        self.provider.on_park = self._parked
        changes = {} if slots is None else {"longest_run_s": LONGEST_RUN_S}
        adapters = [an_adapter_that_looks(cancel, name, **changes) for name in PROVIDERS]
        self.accounts = Accounts(
            tuple(
                UpstreamAccount(
                    adapter=adapter,
                    name="default",
                    api_key=Secret("a key for tests"),
                    base_url=f"https://{adapter.spec.name}.example",
                    options={},
                    poll_scale=1.0,
                )
                for adapter in adapters
            )
        )
        self.catalogue = Catalogue(
            offers=tuple(Offer(spec=adapter.spec, account="default") for adapter in adapters)
        )
        self.metrics = Metrics(version="0", providers=PROVIDERS, models=["act-two"], routes=[])
        stage, count = self.stage, self.metrics.provider_request
        stage.intake = stage.taking(self.catalogue, accounts=self.accounts)
        self.calls = Calls(Client(self.provider), stage.clock, str, count)
        self.holds = Holds(
            stage.database, stage.record, stage.clock, accounts=self.accounts, calls=self.calls
        )
        self.book = Book(self.provider, stage.clock)
        self.slots, self.stops = slots, cancel is not None and cancel.stops
        self.account_book = AccountBook(
            self.provider, stage.clock, slots={} if slots is None else {LIMITED: slots}
        )
        self.underway: list[Underway] = []
        self.in_hand: list[tuple[int, JobTask]] = []
        """What workers claimed and have not begun."""
        self._born = 0
        self.workers = [self._worker() for _ in range(WORKERS)]

    def healths(self) -> Healths:
        """What a process that starts knows of the accounts."""
        stage, accounts = self.stage, self.accounts.all()
        if self.slots is None:
            terms = {account.id: Terms(longest_run_ms=86_400_000) for account in accounts}
            return AlwaysWell(stage.database, stage.clock, terms)
        limits = {LIMITED: Limits(max_in_flight=self.slots)}
        terms = {
            account.id: Terms(
                limits=limits.get(account.id, Limits()),
                longest_run_ms=account.adapter.spec.longest_run_s * 1000,
            )
            for account in accounts
        }
        return AnyHealth(stage.database, stage.clock, terms)

    def _worker(self) -> Worker:
        self._born += 1
        return Worker(self, f"worker-{self._born}")

    def _parked(self) -> None:
        call = self.provider.waiting[-1]
        for one in self.underway:
            if one.running is asyncio.current_task():
                one.call = call
                one.parked.set()
        if call.kind == CREATE and not call.sent:
            self.account_book.begun(call)

    async def jobs(self) -> Jobs:
        def operation(connection: Connection) -> Jobs:
            ids = list(connection.execute(select(tables.jobs.c.id)).scalars())
            attempts = attempt_rows.load_of(connection, ids)
            return {
                job_id: (job, attempts.get(job_id, ()))
                for job_id, job in job_rows.load_many(connection, ids).items()
            }

        return await self.stage.database.read(operation)

    async def check(self) -> Jobs:
        """Compare the gateway's books with all that was promised; what they say."""
        found = await self.jobs()
        self.book.check(found)
        if self.slots is not None:
            stored = await self.stage.database.read(account_rows.load_all)
            self.account_book.check(found, {place: health.submit for place, health in stored.items()})
        return found

    async def claim(self, number: int, limit: int, *, begin: bool = True) -> None:
        """Have a worker claim what is due, and begin it, or leave that for later."""
        worker = self.workers[number]
        found = await worker.dispatch.claim(limit, list(worker.steps))
        self.in_hand += [(number, task) for task in found]
        if begin:
            await self.begin_in_hand(number)

    async def begin_in_hand(self, number: int) -> None:
        """Have a worker begin what it claimed: one after the other, so that a game is the same each time."""
        mine = [task for holder, task in self.in_hand if holder == number]
        self.in_hand = [one for one in self.in_hand if one[0] != number]
        for task in mine:
            step = self.workers[number].steps[task.claim.kind](task)
            self.begin(Underway(number, task.claim), step)
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
        claims += [task.claim for holder, task in self.in_hand if holder == number]
        await self.workers[number].leases.heartbeat(claims)

    async def let_go(self, one: Underway, word: Any) -> None:
        assert one.call is not None
        one.parked.clear()
        call, one.call = one.call, None
        if call.kind == CREATE and self.slots is not None:
            self.account_book.heard(call, one.worker, word, ours=await self._still_ours(call))
        if call.kind == SHOW and isinstance(word, httpx.Response):
            self.account_book.asked(call, word)
        if call.kind == STOP and isinstance(word, httpx.Response) and word.is_success and self.stops:
            self.provider.runs[call.ref].stopped = True
        self.provider.let_go(call, word)
        await self.quiet()
        if word is True and one.call is not call:
            self.account_book.withheld(call)

    async def _still_ours(self, call: Call) -> bool:
        """Whether nobody else has settled the submission meanwhile."""
        rows = await self.stage.rows(tables.attempts)
        state = next((row["state"] for row in rows if row["id"] == call.attempt_id), None)
        return state == AttemptState.SUBMITTING

    async def kill(self, number: int) -> None:
        """End a worker as SIGKILL does: nothing is given back. A new one takes its place."""
        for one in [one for one in self.underway if one.worker == number]:
            self.underway.remove(one)
            assert one.running is not None
            one.running.cancel()
            await asyncio.wait({one.running})
        self.in_hand = [one for one in self.in_hand if one[0] != number]
        self.account_book.died(number)
        self.workers[number] = self._worker()

    async def close(self) -> None:
        for number in range(OPERATOR + 1):
            for one in [one for one in self.underway if one.worker == number]:
                assert one.running is not None
                one.running.cancel()
                await asyncio.wait({one.running})
        await self.stage.database.close()
