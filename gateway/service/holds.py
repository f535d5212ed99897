"""Held jobs, and an operator's word on one: adopt a run, submit again, or fail.

This is the one service that asks a provider, on the operator's behalf: a run is adopted only when the
provider knows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.crash_points import Point, reach
from gateway.errors import FieldProblem, Refusal
from gateway.ids import JOB, well_formed
from gateway.jobs import transitions
from gateway.jobs.job import Attempt, Held, Job, in_doubt
from gateway.jobs.schedule import retry_after_s
from gateway.jobs.transitions import Step
from gateway.jobs.view import JobView, view
from gateway.service.exchanges import exchange_of
from gateway.service.jobs import not_found
from gateway.service.record import JobUnknown, Record, Recorded, Verdict, Weigh
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage import jobs as job_rows
from gateway.storage.engine import Database
from gateway.storage.exchanges import Exchange
from gateway.storage.readable import load_readable
from gateway.upstream.accounts import Accounts
from gateway.upstream.calls import Called, Calls
from gateway.upstream.classify import Missing, Poll, Trouble
from providers.contract.reading import MAX_REF, is_ref

BY_OPERATOR = "operator"
ASK_AGAIN_S = 10
GIVEN_UP = "an operator gave it up while the submission's outcome was unknown; it was not repeated"


class AdoptRun(Struct, frozen=True):
    """Go on with this run at the provider."""

    provider_ref: str


class SubmitAgain(Struct, frozen=True):
    """Accept the risk of paying twice."""


class GiveUp(Struct, frozen=True):
    """Fail the job."""


Action = AdoptRun | SubmitAgain | GiveUp
WORDS: dict[type[Action], str] = {AdoptRun: "adopt", SubmitAgain: "resubmit", GiveUp: "fail"}


class HeldJob(Struct, frozen=True, kw_only=True):
    """A job that is held, and the attempt it is held for."""

    job: Job
    held: Held
    attempt: Attempt


class Holds:
    """Lists and settles held jobs.

    Args:
        database: where.
        record: carries the word out.
        clock: stamps it.
        accounts: who may be asked.
        calls: asks.
    """

    def __init__(
        self, database: Database, record: Record, clock: Clock, *, accounts: Accounts, calls: Calls
    ) -> None:
        self._database = database
        self._record = record
        self._clock = clock
        self._accounts = accounts
        self._calls = calls

    async def all(self, *, limit: int | None = None) -> list[HeldJob]:
        """Return every held job, or that many of them; the oldest first."""
        return await self._database.read(lambda connection: _load_held(connection, limit))

    async def find(self, job_id: str) -> HeldJob:
        """Return one.

        Raises:
            Refusal: `not-found`, or `job-not-held`.
        """
        if not well_formed(job_id, JOB):
            raise not_found()

        def operation(connection: Connection) -> tuple[Job | None, tuple[Attempt, ...]]:
            attempts = attempt_rows.load_of(connection, [job_id]).get(job_id, ())
            return job_rows.load(connection, job_id), attempts

        job, attempts = await self._database.read(operation)
        if job is None:
            raise not_found()
        return _held(job, attempts)

    async def offered(self, attempt_ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the runs that callbacks of the provider named for each of these attempts."""
        return await self._database.read(
            lambda connection: {one: callback_rows.refs_of(connection, one) for one in attempt_ids}
        )

    async def resolve(
        self, job_id: str, action: Action, *, by: str, attempt_id: str | None = None
    ) -> JobView:
        """Settle a held job.

        Args:
            job_id: the job.
            action: what to do.
            by: whose word it is, for the timeline: the key's id.
            attempt_id: the attempt that the word is about; None for whichever is in doubt.

        Raises:
            Refusal: `not-found`; `job-not-held`, also when it was settled meanwhile, or is held for another
                attempt; for an adoption `validation-failed` at `/provider_ref`, and `provider-unreachable`.
        """
        found = await self.find(job_id)
        _check_attempt(found.attempt, attempt_id)
        if isinstance(action, AdoptRun):
            weigh = await self._adoption(found, action.provider_ref, by)
        else:
            weigh = self._word(action, by, attempt_id)
        try:
            recorded: Recorded = await self._record.weighed(job_id, weigh)
        except JobUnknown as error:
            raise not_found() from error
        except IntegrityError as error:
            raise _wrong_ref("another attempt adopted that run just now") from error
        reach(Point.RESOLVE_AFTER_COMMIT)
        return view(recorded.after, recorded.attempts)

    def _word(self, action: SubmitAgain | GiveUp, by: str, attempt_id: str | None) -> Weigh:
        def weigh(_connection: Connection, job: Job, attempts: tuple[Attempt, ...]) -> Verdict:
            attempt, now_ms = _held(job, attempts).attempt, self._clock.now_ms()
            _check_attempt(attempt, attempt_id)
            if isinstance(action, SubmitAgain):
                step = transitions.written_off(job, attempt, by=BY_OPERATOR, now_ms=now_ms)
            else:
                step = transitions.abandoned(job, message=GIVEN_UP, now_ms=now_ms)
            return _told(step, action, by)

        return weigh

    async def _adoption(self, found: HeldJob, ref: str, by: str) -> Weigh:
        if not is_ref(ref):
            raise _wrong_ref(f"must be 1 to {MAX_REF} visible ASCII characters, without a . or .. segment")
        attempt = found.attempt
        # Looked at before the provider is asked, and again in the transaction.
        if await self._database.read(lambda connection: _taken(connection, attempt, ref)):
            raise _wrong_ref("another attempt has that run")
        said = await self._ask(found, ref)

        def weigh(connection: Connection, job: Job, attempts: tuple[Attempt, ...]) -> Verdict:
            doubted = _held(job, attempts).attempt
            _check_attempt(doubted, attempt.id)
            if _taken(connection, doubted, ref):
                raise _wrong_ref("another attempt has that run")
            now_ms = self._clock.now_ms()
            attempt_rows.adopt(connection, doubted, ref=ref, at_ms=now_ms)
            step = transitions.adopted(job, doubted, ref=ref, by=BY_OPERATOR, now_ms=now_ms)
            return replace(_told(step, AdoptRun(ref), by), exchanges=(said,))

        return weigh

    async def _ask(self, found: HeldJob, ref: str) -> Exchange:
        """Ask the provider for the run; what it said, for the timeline."""
        job, attempt = found.job, found.attempt
        account = self._accounts.get(attempt.provider, attempt.account)
        model = None if account is None else account.adapter.spec.model(job.request.model)
        if account is None or model is None:
            detail = f"the settings have no account {attempt.account!r} at {attempt.provider} to ask with"
            raise _unreachable(detail, ASK_AGAIN_S)
        called: Called[Poll] = await self._calls.poll(account, model, replace(attempt, ref=ref))
        if isinstance(called.outcome, Missing):
            raise _wrong_ref("the provider does not know it")
        if isinstance(called.outcome, Trouble):
            asked_s = retry_after_s(called.outcome.retry_after, now_ms=self._clock.now_ms())
            detail = f"{attempt.provider} could not be asked: {called.outcome.error.message}"
            raise _unreachable(detail, round(asked_s or ASK_AGAIN_S))
        return exchange_of(job.id, attempt.id, called.spoken)


def _load_held(connection: Connection, limit: int | None) -> list[HeldJob]:
    ids = job_rows.find_held(connection)[:limit]
    found: list[HeldJob] = []
    for job, attempts in load_readable(connection, ids).values():
        attempt = in_doubt(attempts)
        if job.state.held is not None and attempt is not None:
            found.append(HeldJob(job=job, held=job.state.held, attempt=attempt))
    return found


def _held(job: Job, attempts: tuple[Attempt, ...]) -> HeldJob:
    attempt, held = in_doubt(attempts), job.state.held
    if held is None or attempt is None:
        raise Refusal("job-not-held", f"the job is not held; it is {job.state.status}")
    return HeldJob(job=job, held=held, attempt=attempt)


def _check_attempt(attempt: Attempt, wanted_id: str | None) -> None:
    """Refuse a word about an attempt that was settled since: who read of it knows nothing of the other."""
    if wanted_id is not None and attempt.id != wanted_id:
        raise Refusal(
            "job-not-held",
            f"the job is not held for that attempt: it was submitted again, and is held for {attempt.id}",
        )


def _taken(connection: Connection, attempt: Attempt, ref: str) -> bool:
    return bool(attempt_rows.find_taken(connection, provider=attempt.provider, refs=[ref], but_of=attempt.id))


def _told(step: Step, action: Action, by: str) -> Verdict:
    return Verdict(step=transitions.resolved(step, action=WORDS[type(action)], by=by))


def _wrong_ref(message: str) -> Refusal:
    problem = FieldProblem("/provider_ref", message)
    return Refusal("validation-failed", f"/provider_ref: {message}.", errors=(problem,))


def _unreachable(detail: str, after_s: int) -> Refusal:
    return Refusal("provider-unreachable", detail, headers={"Retry-After": str(max(1, after_s))})
