"""Giving a run that was found at a provider to the attempt that made it: decided inside one transaction.

What else the store knows decides with it (whose ref that is, who else is in doubt), so it is read in the
transaction that writes the adoption. The rule itself is `gateway.jobs.adoption`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.jobs import transitions
from gateway.jobs.adoption import Adopt, Undecided, choose
from gateway.jobs.job import Attempt, Job, in_doubt
from gateway.jobs.transitions import Event, Step
from gateway.service.record import Record, Recorded, Verdict
from gateway.storage import attempts as attempt_rows
from gateway.storage import callbacks as callback_rows
from gateway.storage.engine import Database
from gateway.storage.exchanges import Exchange
from gateway.storage.tasks import Claim, Due
from gateway.telemetry import get_logger
from providers.contract.report import Sighting

_log = get_logger("gateway.jobs")

AROUND_MS = 15 * 60_000
"""How far from a doubtful submission runs of ours are known, so that a look spends no question on them."""
MOST_KNOWN = 10_000


class Hints(Struct, frozen=True, kw_only=True):
    """What the store can tell somebody who looks for a lost submission."""

    offered: tuple[str, ...]
    """Refs that callbacks named for the attempt."""
    known: frozenset[str]
    """Refs that other attempts of ours have."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a look came back with."""

    attempt_id: str
    body: Mapping[str, object]
    """The create body, as it was sent."""
    sightings: tuple[Sighting, ...]
    offered: tuple[str, ...]
    """The refs it was told to look at."""
    exchanges_of: Callable[[str], tuple[Exchange, ...]]
    """What the timeline keeps of the look when this ref is adopted."""
    again: Callable[[str, bool], Due]
    """(what the timeline was told, whether there is more to look at) -> when to look again."""


class Adoptions:
    """Settles looks.

    Args:
        database: where.
        record: carries transitions out.
        clock: stamps them.
    """

    def __init__(self, database: Database, record: Record, clock: Clock) -> None:
        self._database = database
        self._record = record
        self._clock = clock

    async def hints(self, attempt: Attempt) -> Hints:
        """Return what helps to look for an attempt in doubt."""
        doubted_ms = attempt.doubted_at_ms or attempt.started_at_ms

        def operation(connection: Connection) -> Hints:
            known = attempt_rows.find_known(
                connection,
                provider=attempt.provider,
                since_ms=attempt.started_at_ms - AROUND_MS,
                until_ms=doubted_ms + AROUND_MS,
                but_of=attempt.id,
                limit=MOST_KNOWN,
            )
            return Hints(offered=callback_rows.refs_of(connection, attempt.id), known=known)

        return await self._database.read(operation)

    async def settle(self, claim: Claim, seen: Seen) -> Recorded | None:
        """Adopt what a look found; else submit again where the job asks for it; else look again later.

        Returns:
            None when another attempt adopted the same run at the same moment; nothing was written.

        Raises:
            LeaseLost: another worker holds the task now; nothing was written.
        """

        def weigh(connection: Connection, job: Job, attempts: tuple[Attempt, ...]) -> Verdict:
            attempt = in_doubt(attempts)
            if attempt is None or attempt.id != seen.attempt_id or job.state.held is None:
                return Verdict(step=Step(job=job))
            now_ms = self._clock.now_ms()
            offered = callback_rows.refs_of(connection, attempt.id)
            choice = _choose(connection, attempt, seen, offered)
            if isinstance(choice, Adopt):
                attempt_rows.adopt(connection, attempt, ref=choice.ref, at_ms=now_ms)
                step = transitions.adopted(job, attempt, ref=choice.ref, by=choice.by, now_ms=now_ms)
                return Verdict(step=step, exchanges=seen.exchanges_of(choice.ref))
            news = choice.seen and choice.reason != claim.memo.told
            events = (Event(type="hold.undecided", note={"reason": choice.reason}),) if news else ()
            if transitions.resubmits(job, attempts):
                again = transitions.written_off(job, attempt, by="policy", now_ms=now_ms)
                return Verdict(step=replace(again, events=(*events, *again.events)))
            told = choice.reason if news else claim.memo.told
            more = bool(set(offered).difference(seen.offered))
            return Verdict(step=Step(job=job, events=events), then=seen.again(told, more))

        try:
            return await self._record.weighed(claim.subject, weigh, claim=claim)
        except IntegrityError as error:
            _log.error("reconcile.taken", job_id=claim.subject, error=str(error.orig))
            return None


def _choose(
    connection: Connection, attempt: Attempt, seen: Seen, offered: Collection[str]
) -> Adopt | Undecided:
    # At every account, since several may be one organization's, whose runs the provider lists together.
    # In this order: an attempt that leaves the first list meanwhile, accepted, is found in the second.
    others = attempt_rows.load_unsettled(connection, provider=attempt.provider)
    refs = [sighting.ref for sighting in seen.sightings]
    taken = attempt_rows.find_taken(connection, provider=attempt.provider, refs=refs, but_of=attempt.id)
    return choose(
        attempt, body=seen.body, sightings=seen.sightings, offered=offered, taken=taken, others=others
    )
