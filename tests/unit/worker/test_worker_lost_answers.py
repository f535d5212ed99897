"""The answer to one commit is lost, whichever it is: what was begun ends, and nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx
import pytest
from invariants import check_invariants
from job_examples import a_request, a_webhook
from msgspec import Struct
from msgspec.structs import replace
from store_stage import Stage
from worker_bench import MADE, RUNNING, SUCCEEDED, Answer, Bench, Reply, Script

from gateway.errors import OutcomeUnknown, Refusal, StorageUnavailable
from gateway.service.dispatch import JOB_KINDS
from gateway.service.holds import Action, AdoptRun, GiveUp, Holds, SubmitAgain
from gateway.service.outbox import DELIVERY_KINDS
from gateway.service.wakeup import Wakeup
from gateway.storage import tables
from gateway.storage.engine import Operation
from gateway.storage.sqlite import SQLiteDatabase
from gateway.worker.loop import Lane, Worker
from providers.contract.adapter import CallContext, Reconcile, Sought
from providers.contract.exchange import HttpRequest
from providers.contract.reading import read_object, ref_at, text_at
from providers.contract.report import Sighting
from providers.contract.status import JobStatus

ROUND_S = 5.0
ROUNDS = 60
LOST = httpx.ReadTimeout("silence")
RETRIED = Reply(429, {"message": "slow down"})
REFUSED = Reply(422, {"message": "no"})


class Case(Struct, frozen=True, kw_only=True):
    """A job's life, and the write in it whose answer is lost."""

    write: str
    """How the name of its operation begins."""
    nth: int = 1
    """Which of those writes."""
    submits: tuple[Answer, ...] = (MADE,)
    """What the provider says to one submission after the other."""
    found: bool = False
    """Whether it shows the run when it is looked for."""
    word: Action | None = None
    """What an operator says once the job is held."""
    ends: JobStatus = JobStatus.SUCCEEDED


RESULT, WEIGHED = "Record.result.", "Record.weighed."
CASES = {
    "accept": Case(write="_insert"),
    "claim": Case(write="Dispatch.claim."),
    "claim of a poll": Case(write="Dispatch.claim.", nth=3),
    "claim of a delivery": Case(write="Outbox.claim.", nth=6),
    "heartbeat": Case(write="Leases.heartbeat."),
    "intent": Case(write="Record.intent."),
    "last check": Case(write="Leases.confirm."),
    "made": Case(write=RESULT),
    "refused": Case(write=RESULT, submits=(REFUSED,), ends=JobStatus.FAILED),
    "refused for now": Case(write=RESULT, submits=(RETRIED, MADE)),
    "unknown": Case(write=RESULT, submits=(LOST,), found=True),
    "begun": Case(write=RESULT, nth=2),
    "unchanged": Case(write="Leases._give_back_batch."),
    "end": Case(write=RESULT, nth=3),
    "refused by the receiver": Case(write="Outbox._log_batch."),
    "delivered": Case(write="Outbox._log_batch.", nth=2),
    "found": Case(write=WEIGHED, submits=(LOST,), found=True),
    "adopted": Case(write=WEIGHED, submits=(LOST,), word=AdoptRun("r-1")),
    "submitted again": Case(write=WEIGHED, submits=(LOST, MADE), word=SubmitAgain()),
    "given up": Case(write=WEIGHED, submits=(LOST,), word=GiveUp(), ends=JobStatus.FAILED),
}


class Deaf:
    """A database, the answer to one of whose commits is lost.

    Args:
        database: any.
        case: which.
        stood: whether what was committed stands.
    """

    def __init__(self, database: Any, case: Case, *, stood: bool) -> None:
        self._write, self._case, self._stood = database.write, case, stood
        self._passed = 0
        database.write = self.write

    @property
    def happened(self) -> bool:
        """Whether the answer was lost."""
        return self._passed >= self._case.nth

    async def write(self, operation: Operation[Any], *, vital: bool = True) -> Any:
        """Write; once as if nobody knew the outcome."""
        named = getattr(operation, "func", operation).__qualname__
        self._passed += named.startswith(self._case.write)
        if not (named.startswith(self._case.write) and self._passed == self._case.nth):
            return await self._write(operation, vital=vital)
        if self._stood:
            await self._write(operation, vital=vital)
        raise OutcomeUnknown("the connection broke in a commit")


class Provider(Script):
    """Answers by what it is asked, however often; a run is over at the third look."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self._case = case
        self._looks = iter((RUNNING, RUNNING))
        self._client = ""

    @property
    def submitted(self) -> int:
        """Submissions of which anything was sent."""
        return sum(request.method == "POST" for request in self.asked) - len(self.withheld)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.answers.append(self._answer(request))
        return await super().handle_async_request(request)

    def _answer(self, request: httpx.Request) -> Answer:
        if request.method == "POST":
            self._client = request.headers["x-client-id"]
            assert self.submitted < len(self._case.submits), "nobody expected another submission"
            return self._case.submits[self.submitted]
        if request.url.path == "/runs":
            return Reply(200, {"id": "r-1", "client": self._client} if self._case.found else {})
        return next(self._looks, SUCCEEDED)


def look(_context: CallContext, _sought: Sought) -> Reconcile:
    answer = read_object((yield HttpRequest(method="GET", path=("runs",))))
    return (Sighting(ref=ref_at(answer, "id"), client_id=text_at(answer, "client")),) if answer else ()


class Life(Bench):
    """A job from its acceptance to the last word to its receiver, by a worker that runs into failures."""

    def __init__(self, stage: Stage, case: Case) -> None:
        super().__init__(stage)
        self.provider: Provider = Provider(case)
        self.account = replace(self.account, adapter=replace(self.account.adapter, reconcile=look))
        self.with_accounts(self.account)
        self._case = case
        tools, dispatch, outbox = self.tools, stage.dispatch, stage.outbox
        self._holds = Holds(
            stage.database, stage.record, stage.clock, accounts=tools.accounts, calls=tools.calls
        )
        self._worker = Worker(
            stage.leases,
            stage.clock,
            Wakeup().subscribe,
            heartbeat_s=1.0,
            idle_s=1.0,
            stop_s=1.0,
        )
        self._lanes: Sequence[Lane[Any]] = (
            Lane(JOB_KINDS, 10, dispatch.claim, self.carry_out, dispatch.next_due_ms),
            Lane(DELIVERY_KINDS, 10, outbox.claim, self.deliver, outbox.next_due_ms),
        )

    async def accepted(self, **request: Any) -> str:
        """Post the job, again when that failed, as careful clients do."""
        while True:
            with suppress(StorageUnavailable):
                return await self.stage.accept(a_request(**request), idempotency_key="once")

    async def goes_by(self, job_id: str) -> bool:
        """Do what is due in a few seconds; False once nothing is left to be done."""
        stage = self.stage
        for lane in self._lanes:
            tasks: list[Any] = []
            with suppress(StorageUnavailable):  # as the lane itself does
                tasks = await lane.claim(lane.limit)
            with suppress(StorageUnavailable):
                await stage.leases.heartbeat([task.claim for task in tasks])
            for task in tasks:
                await self._worker._carry_out(lane, task)
        stage.clock.advance(ROUND_S)
        job = await stage.job(job_id)
        if self._case.word is not None and job.state.held is not None:
            with suppress(StorageUnavailable, Refusal):
                await self._holds.resolve(job_id, self._case.word, by="key")
            return True
        return bool(await stage.tasks())

    def check(self) -> None:
        """Check the invariants, on either engine."""
        database: Any = self.stage.database
        if isinstance(database, SQLiteDatabase):
            check_invariants(database._path)
        else:
            check_invariants(database._engine.url.render_as_string(hide_password=False))


@pytest.mark.parametrize("stood", [True, False], ids=["stood", "did not stand"])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
async def test_whatever_commit_nobody_answers_the_job_ends_and_is_paid_once(
    stage: Stage,
    case: Case,
    stood: bool,  # noqa: FBT001 - a column
) -> None:
    await stage.keys.ensure_owner("alice")
    life = Life(stage, case)
    life.receiver.says(Reply(500), Reply(200), Reply(200))
    deaf = Deaf(stage.database, case, stood=stood)
    job_id = await life.accepted(webhook=a_webhook("job.succeeded", "job.failed"))
    rounds = 0
    while await life.goes_by(job_id):
        rounds += 1
        assert rounds < ROUNDS, await stage.tasks()
        life.check()
    assert deaf.happened, "the life of this job has no such write"
    assert len(await stage.rows(tables.jobs)) == 1
    assert (await stage.job(job_id)).state.status is case.ends
    assert life.provider.submitted == len(case.submits)
    (delivery,) = await stage.rows(tables.deliveries)
    tries = [row["number"] for row in await stage.rows(tables.delivery_attempts)]
    assert (delivery["state"], tries) == ("delivered", [1, 2])
    sent = len(life.receiver.asked)
    assert sent == 2 or (sent == 3 and case.write.startswith("Outbox._log_batch") and not stood)
    life.check()
