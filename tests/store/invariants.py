"""What must be true of a database whatever was done to the processes: for use after every fault."""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from replayed_log import replay_attempts, replay_state
from sqlalchemy import Connection, Engine, select

from gateway.jobs.job import Attempt, AttemptState, JobRequest, JobState
from gateway.jobs.spend import Money, book, day_of
from gateway.jobs.transitions import ENDED, TaskKind
from gateway.storage import tables
from gateway.storage.postgres_line import open_server
from gateway.storage.sqlite import open_engine
from providers.contract.errors import FINAL

Row = dict[str, Any]

_ENDS = set(ENDED.values())


def check_invariants(where: Path | str) -> int:
    """Check every job, event, attempt, task and delivery; return how many jobs there are.

    The database may be in use: all is read from one snapshot.

    Args:
        where: a SQLite file, or the URL of either engine.

    Raises:
        AssertionError: an invariant does not hold; the message names the job and the rule.
    """
    with closing(open_database(where).connect()) as connection, connection.begin():
        jobs = _rows(connection, "jobs")
        by_job: dict[str, dict[str, list[Row]]] = {row["id"]: {} for row in jobs}
        for name in ("events", "attempts", "deliveries"):
            for row in _rows(connection, name):
                assert row["job_id"] in by_job, f"{name}: a row of {row['job_id']}, which does not exist"
                by_job[row["job_id"]].setdefault(name, []).append(row)
        tasks: dict[str, set[str]] = {}
        for row in _rows(connection, "tasks"):
            tasks.setdefault(row["subject"], set()).add(row["kind"])
            leased = (row["leased_by"] is not None, row["leased_until_ms"] is not None)
            assert leased[0] == leased[1], f"{row['kind']} of {row['subject']}: half a lease, by {leased}"
        ledger = _rows(connection, "spend")
        endpoints: dict[str, list[Row]] = {}
        for row in _rows(connection, "webhook_endpoints"):
            _check_endpoint(row)
            endpoints.setdefault(row["owner"], []).append(row)
    for job in jobs:
        of_job = by_job[job["id"]]
        _check_job(job, of_job.get("events", []), of_job.get("attempts", []), tasks.get(job["id"], set()))
        told = of_job.get("events", []), of_job.get("deliveries", [])
        _check_deliveries(job, *told, tasks)
        _check_endpoints(job, *told, endpoints.get(job["owner"], []))
    _check_ledger(ledger, [(job, by_job[job["id"]].get("attempts", [])) for job in jobs])
    return len(jobs)


def open_database(where: Path | str) -> Engine:
    """Open a database of either engine, to read it as it stands at one moment."""
    if isinstance(where, str) and where.startswith("postgresql"):
        return open_server(where).execution_options(isolation_level="REPEATABLE READ")
    return _open_file(Path(where.removeprefix("sqlite:///")) if isinstance(where, str) else where)


@lru_cache(maxsize=4)
def _open_file(path: Path) -> Engine:
    """Keep what was compiled for a file that is looked at again and again; no connection stays open."""
    return open_engine(path, begin="BEGIN")


def _check_job(job: Row, events: list[Row], attempts: list[Row], tasks: set[str]) -> None:
    name = job["id"]
    events.sort(key=lambda row: row["sequence"])
    numbers = [row["sequence"] for row in events]
    assert numbers == list(range(1, job["sequence"] + 1)), f"{name}: gaps in its sequence: {numbers}"
    data = [msgspec.json.decode(row["data"]) for row in events]
    state = msgspec.json.decode(job["state"], type=JobState)
    replayed = replay_state(one["state"] for one in data if "state" in one)
    assert replayed == state, f"{name}: its log replays to {replayed}, its row says {state}"
    _check_columns(job, state)
    documents = [msgspec.json.decode(row["document"], type=Attempt) for row in attempts]
    tried = {attempt.id: attempt for attempt in documents}
    retried = replay_attempts(one["attempt"] for one in data if "attempt" in one)
    assert retried == tried, f"{name}: its log replays to {retried}, its attempts are {tried}"
    for row, attempt in zip(attempts, documents, strict=True):
        assert (row["state"], row["ref"]) == (attempt.state, attempt.ref), f"{name}: columns of {attempt.id}"
    _check_end(name, state, [row["type"] for row in events], data)
    _check_attempts(name, sorted(documents, key=lambda one: one.number), state)
    _check_tasks(name, sorted(documents, key=lambda one: one.number), state, tasks)


def _check_columns(job: Row, state: JobState) -> None:
    columns = (
        job["status"],
        job["provider"],
        job["deadline_at_ms"],
        job["finished_at_ms"],
        job["hold_until_ms"],
    )
    held_until_ms = None if state.held is None else state.held.until_ms
    expected = (state.status, state.provider, state.deadline_at_ms, state.finished_at_ms, held_until_ms)
    assert columns == expected, f"{job['id']}: its columns {columns} do not match its state {expected}"


def _check_end(name: str, state: JobState, types: list[str], data: list[Row]) -> None:
    ends = [index for index, kind in enumerate(types) if kind in _ENDS]
    assert len(ends) == int(state.status.terminal), f"{name} is {state.status} after {types}"
    assert state.status.terminal == (state.finished_at_ms is not None), f"{name}: when did it finish?"
    if ends:
        assert types[ends[0]] == ENDED[state.status], f"{name} is {state.status} after {types}"
        changed = {key for one in data[ends[0] + 1 :] for key in one.get("state", {})}
        assert changed <= {"provider_may_bill"}, f"{name}: {changed} changed after its end"


def _check_attempts(name: str, attempts: list[Attempt], state: JobState) -> None:
    numbers = [attempt.number for attempt in attempts]
    assert numbers == list(range(1, len(attempts) + 1)), f"{name}: its attempts have the numbers {numbers}"
    for earlier in attempts[:-1]:
        over = earlier.state in {AttemptState.REFUSED, AttemptState.FAILED} or earlier.written_off
        assert over, f"{name}: {earlier.id} is {earlier.state}, and another submission followed it"
        code = None if earlier.error is None or earlier.written_off else earlier.error.code
        assert code not in FINAL, f"{name}: another submission followed {earlier.id}, which ended with {code}"
    in_doubt = bool(attempts) and attempts[-1].state is AttemptState.UNKNOWN and not attempts[-1].written_off
    held = state.held is not None
    assert held == (in_doubt and not state.status.terminal), f"{name}: held is {held}, in doubt {in_doubt}"


def _check_tasks(name: str, attempts: list[Attempt], state: JobState, tasks: set[str]) -> None:
    last = attempts[-1].state if attempts else None
    if state.status.terminal:
        assert tasks <= {TaskKind.CANCEL, TaskKind.POLL}, f"{name} has ended; still to be done are {tasks}"
        if last is AttemptState.ACCEPTED:  # a run that no cancel could stop is followed for what it costs
            assert tasks, f"{name} has ended, and nobody follows its run"
        else:
            assert TaskKind.POLL not in tasks, f"{name} has ended, its attempt is {last}, and is still polled"
    elif state.held is None:
        needed = TaskKind.POLL if last is AttemptState.ACCEPTED else TaskKind.SUBMIT
        wanted = {needed, TaskKind.CANCEL} if state.cancel_requested_at_ms is not None else {needed}
        assert tasks & wanted, f"{name} is lost: its attempt is {last}, and its tasks are {tasks}"


def _check_deliveries(job: Row, events: list[Row], deliveries: list[Row], tasks: dict[str, set[str]]) -> None:
    name = job["id"]
    webhook = msgspec.json.decode(job["request"], type=JobRequest).webhook
    wanted = [
        (row["sequence"], row["type"])
        for row in events
        if webhook is not None and row["type"] in webhook.events
    ]
    own = [row for row in deliveries if row["endpoint_id"] is None]
    frozen = sorted((row["sequence"], row["type"]) for row in own)
    assert frozen == wanted, f"{name}: deliveries {frozen}, but the receiver is to hear of {wanted}"
    for row in deliveries:
        body = msgspec.json.decode(row["body"])
        told = (body["type"], body["sequence"], body["data"]["id"])
        assert told == (row["type"], row["sequence"], name), f"{name}: {row['id']} tells of {told}"
        pending = row["state"] == "pending"
        due = TaskKind.DELIVER in tasks.get(row["id"], set())
        assert pending == due, f"{name}: {row['id']} is {row['state']}; has it a task? {due}"


def _check_endpoints(job: Row, events: list[Row], deliveries: list[Row], endpoints: list[Row]) -> None:
    """Each endpoint has, once, what it asks for and what happened while it was as it is."""
    name = job["id"]
    places = [(row["sequence"], row["endpoint_id"]) for row in deliveries]
    assert len(set(places)) == len(places), f"{name}: an event goes to one receiver twice: {sorted(places)}"
    messages = {(row["sequence"], row["message_id"]) for row in deliveries}
    assert len(messages) == len({row["sequence"] for row in deliveries}), f"{name}: an event has two ids"
    for endpoint in endpoints:
        had = {row["sequence"] for row in deliveries if row["endpoint_id"] == endpoint["id"]}
        wanted = {
            row["sequence"]
            for row in events
            if row["type"] in endpoint["events"].split() and row["at_ms"] > endpoint["created_at_ms"]
        }
        unchanged = endpoint["updated_at_ms"] == endpoint["created_at_ms"]
        assert not unchanged or wanted <= had, f"{name}: {endpoint['id']} lacks {wanted - had}"


def _check_endpoint(row: Row) -> None:
    disabled = row["state"] == "disabled"
    why = row["disabled_reason"], row["disabled_at_ms"]
    assert disabled == (None not in why), f"{row['id']} is {row['state']}, with {why}"
    old = row["sealed_previous_secret"], row["previous_until_ms"]
    assert (old[0] is None) == (old[1] is None), f"{row['id']}: half a rotation"
    assert row["signing"] != "ed25519" or row["public_key"], f"{row['id']} has no public key"


def _check_ledger(ledger: list[Row], jobs: list[tuple[Row, list[Row]]]) -> None:
    """The ledger is the sum of what its jobs say."""
    wanted: dict[tuple[str, str, str], Money] = {}
    for job, attempts in jobs:
        tried = [msgspec.json.decode(row["document"], type=Attempt) for row in attempts]
        ended = job["finished_at_ms"] is not None
        for provider, money in book(
            job["estimated_micro_usd"], tried, ended=ended, simulated=job["simulated"]
        ).items():
            key = job["owner"], day_of(job["created_at_ms"]), provider
            old = wanted.get(key, Money())
            wanted[key] = Money(
                old.jobs + money.jobs, old.reserved + money.reserved, old.charged + money.charged
            )
    found = {
        (row["owner"], row["day"], row["provider"]): Money(
            row["jobs"], row["reserved_micro_usd"], row["charged_micro_usd"]
        )
        for row in ledger
    }
    found = {key: money for key, money in found.items() if money != Money() or key in wanted}
    assert found == wanted, f"the ledger says {found}, the jobs say {wanted}"


def _rows(connection: Connection, name: str) -> list[Row]:
    return [dict(row) for row in connection.execute(select(tables.metadata.tables[name])).mappings()]
