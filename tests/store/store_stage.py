"""A migrated database and the services over it, with a clock that tests own.

A second engine is one more entry in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from job_examples import NOW_MS, a_request, a_spec, an_adapter
from msgspec import Struct
from msgspec.structs import replace
from postgres_server import fresh_database
from sqlalchemy import Connection, Table, select

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest
from gateway.jobs.transitions import TaskKind
from gateway.net import parse_policy
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.routes import JobRoutes
from gateway.service.census import Census
from gateway.service.deliveries import Deliveries
from gateway.service.dispatch import Dispatch, JobTask
from gateway.service.endpoints import Endpoints, EndpointWithSecret
from gateway.service.health import Healths, Terms
from gateway.service.intake import Intake, NewJob
from gateway.service.jobs import Jobs
from gateway.service.keys import Keys
from gateway.service.leases import Leases
from gateway.service.outbox import Outbox
from gateway.service.plans import Planner
from gateway.service.quotas import Quotas
from gateway.service.record import Record, Recorded
from gateway.service.recovery import Recovery
from gateway.settings import Secret
from gateway.storage import attempts as attempt_rows
from gateway.storage import jobs as job_rows
from gateway.storage import tables
from gateway.storage.engine import Database
from gateway.storage.postgres import PostgresDatabase
from gateway.storage.schema import migrate
from gateway.storage.sealing import Sealer
from gateway.storage.sqlite import SQLiteDatabase, open_engine
from gateway.upstream.accounts import Accounts, UpstreamAccount

T = TypeVar("T")

LEASE_S = 20.0
FILE = "gateway.db"


class EndpointsOfAnybody(Endpoints):
    """Endpoints whose owners need not be made first."""

    def __init__(self, keys: Keys, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._keys = keys

    async def create(self, *, owner: str, **given: Any) -> EndpointWithSecret:
        await self._keys.ensure_owner(owner)
        return await super().create(owner=owner, **given)


class StoppedClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def migrated_file(folder: Path) -> Path:
    """A SQLite file with this version's schema."""
    path = folder / FILE
    with closing(open_engine(path).connect()) as connection, connection.begin():
        migrate(connection)
    return path


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Database]:
    """Open a fresh file."""
    opened = SQLiteDatabase(migrated_file(folder))
    yield opened
    await opened.close()


Opens = Callable[[Path], AbstractAsyncContextManager[Database]]


@asynccontextmanager
async def postgres(_folder: Path) -> AsyncIterator[Database]:
    """Open a fresh database on the run's server."""
    with fresh_database() as url:
        opened = PostgresDatabase(url, local=SystemClock())
        yield opened
        await opened.close()


ENGINES: dict[str, Opens] = {"sqlite": sqlite, "postgres": postgres}


@pytest.fixture(params=sorted(ENGINES))
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database of this version's schema, on every engine."""
    opens = ENGINES[request.param]
    async with opens(tmp_path) as opened:
        yield opened


@pytest.fixture
def database_path(database: Database, tmp_path: Path) -> Path:
    """Tell where SQLite's file lies, for what must look at it from outside."""
    if not isinstance(database, SQLiteDatabase):
        pytest.skip("only a SQLite database is a file")
    return tmp_path / FILE


class Hands(Struct, frozen=True, kw_only=True):
    """What a worker leases with."""

    leases: Leases
    dispatch: Dispatch
    outbox: Outbox


A_DAY = Terms(longest_run_ms=86_400_000)


def an_account(name: str = "default") -> UpstreamAccount:
    """Make an account at the made-up provider."""
    return UpstreamAccount(
        adapter=an_adapter(),
        name=name,
        api_key=Secret("a key for tests"),
        base_url="https://api.acme.example",
        options={},
    )


class Stage:
    """The services over one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = StoppedClock()
        self.ids = Ids(self.clock, Random(7).getrandbits)  # noqa: S311 - the same ids in every run
        self.sealer = Sealer("a key for tests")
        self.heard: list[Recorded] = []
        self.accepted: list[Job] = []
        self.denied: list[str] = []
        self.catalogue = Catalogue(offers=(Offer(spec=a_spec(), account="default"),))
        self.record = Record(database, self.clock, self.ids, self)
        self.jobs = Jobs(database, self.clock, self.record)
        self.keys = Keys(database, self.clock, self.ids, self.sealer)
        self.endpoints = EndpointsOfAnybody(
            self.keys,
            database,
            self.clock,
            self.ids,
            self.sealer,
            receivers=parse_policy(allowed_networks=(), allow_http=False),
            random_bytes=Random(11).randbytes,  # noqa: S311 - the same secrets in every run
        )
        self.deliveries = Deliveries(database, self.clock)
        self.recovery = Recovery(database, self.clock)
        terms = {(offer.spec.name, offer.account): A_DAY for offer in self.catalogue.offers}
        self.healths = Healths(database, self.clock, terms)
        self.census = Census(database, self.clock)
        self.become("first")
        self.intake = self.taking(self.catalogue)

    def recorded(self, recorded: Recorded) -> None:
        """Hear, as the record's listener."""
        self.heard.append(recorded)

    def taking(
        self,
        catalogue: Catalogue,
        quotas: Quotas = Quotas(),  # noqa: B008 - it is frozen
        accounts: Accounts | None = None,
    ) -> Intake:
        """Make an intake over another catalogue, with its accounts, or with limits."""
        return Intake(
            self.database,
            self.clock,
            self.ids,
            self.sealer,
            planner=Planner(JobRoutes(catalogue=catalogue), accounts or Accounts((an_account(),))),
            on_accepted=self.accepted.append,
            quotas=quotas,
            on_denied=self.denied.append,
            spread=lambda: 0.0,
        )

    def worker(self, holder: str) -> Hands:
        """Make what another worker leases with."""
        leases = Leases(self.database, self.clock, holder=holder, lease_s=LEASE_S)
        return Hands(leases=leases, dispatch=Dispatch(leases, self.healths), outbox=Outbox(leases))

    def become(self, holder: str) -> None:
        """Go on as that worker."""
        hands = self.worker(holder)
        self.leases, self.dispatch, self.outbox = hands.leases, hands.dispatch, hands.outbox

    async def accept(self, request: JobRequest | None = None, **changes: object) -> str:
        """Store a job of alice's and return its id."""
        new = NewJob(
            owner="alice",
            request=request or a_request(),
            metadata={},
            webhook_secret=None,
            idempotency_key=None,
            fingerprint="0" * 64,
        )
        return (await self.intake.accept(replace(new, **changes))).job_id

    async def claim(self, kind: TaskKind | None = None) -> JobTask:
        """Claim the one task that is due."""
        (task,) = await self.dispatch.claim(10)
        assert kind is None or task.claim.kind is kind
        return task

    async def job(self, job_id: str) -> Job:
        """Read a job's row."""
        found = await self.database.read(lambda connection: job_rows.load(connection, job_id))
        assert found is not None
        return found

    async def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """Read a job's attempts."""
        found = await self.database.read(lambda connection: attempt_rows.load_of(connection, [job_id]))
        return found.get(job_id, ())

    async def states(self, job_id: str) -> list[AttemptState]:
        """Read how a job's attempts stand."""
        return [attempt.state for attempt in await self.attempts(job_id)]

    async def tasks(self) -> list[tuple[str, int]]:
        """Read the kind and due time (milliseconds from the test's beginning) of every task."""
        rows = await self.rows(tables.tasks)
        return sorted((str(row["kind"]), int(str(row["due_at_ms"])) - NOW_MS) for row in rows)

    async def events(self, job_id: str) -> list[str]:
        """Read the types of a job's events."""
        rows = [row for row in await self.rows(tables.events) if row["job_id"] == job_id]
        return [str(row["type"]) for row in sorted(rows, key=lambda row: int(str(row["sequence"])))]

    async def rows(self, table: Table) -> list[dict[str, object]]:
        """Read a whole table."""
        return await self.database.read(lambda connection: rows_of(connection, table))

    async def everything(self) -> dict[str, list[dict[str, object]]]:
        """Read every table, to see that nothing changed."""

        def operation(connection: Connection) -> dict[str, list[dict[str, object]]]:
            return {table.name: rows_of(connection, table) for table in tables.metadata.sorted_tables}

        return await self.database.read(operation)


def rows_of(connection: Connection, table: Table) -> list[dict[str, object]]:
    """Read a whole table in the order of its primary key."""
    statement = select(table).order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(statement).mappings()]


def types_of(recorded: Sequence[Recorded]) -> list[str]:
    """Name the events of these transitions."""
    return [event.type for one in recorded for event in one.events]


@pytest.fixture
def stage(database: Database) -> Stage:
    """The services over an empty database."""
    return Stage(database)
