"""The statements that are asked most use indexes, however many rows lie about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from job_examples import NOW_MS, a_job, an_attempt
from msgspec.structs import replace
from sqlalchemy import Connection, event
from store_stage import migrated_file

from gateway.jobs.spend import Money
from gateway.jobs.transitions import TaskKind
from gateway.storage import (
    attempts,
    callbacks,
    deliveries,
    delivery_tasks,
    endpoints,
    events,
    exchanges,
    jobs,
    keys,
    limits,
    queue,
    spend,
    tasks,
    watched,
)
from gateway.storage.jobs import JobFilter
from gateway.storage.sqlite import open_engine
from gateway.storage.tasks import Claim, Due, Memo
from providers.contract.status import JobStatus

JOB_KINDS = (TaskKind.SUBMIT, TaskKind.POLL, TaskKind.CANCEL)
MANY = 200
HELD = Claim(kind=TaskKind.POLL, subject=a_job(1).id, version=1, tries=0, due_at_ms=NOW_MS, memo=Memo())

Run = Callable[[Connection], object]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A connection to a database of many jobs, with what the planner learns from looking at them."""
    with closing(open_engine(migrated_file(tmp_path)).connect()) as opened:
        with opened.begin():
            fill(opened)
        with opened.begin():
            yield opened


def fill(connection: Connection) -> None:
    for number in range(MANY):
        job = a_job(number, status=JobStatus.RUNNING)
        key = None if number % 3 else f"key {number}"
        jobs.insert_many(connection, [jobs.row_of(job, idempotency_key=key, fingerprint="f")])
        attempts.insert_one(connection, an_attempt(number=1, job=job, id=f"att_{number:032x}"))
    due = [(TaskKind.POLL, a_job(number).id, NOW_MS + number) for number in range(MANY)]
    tasks.insert_many(connection, due)


def plans(connection: Connection, run: Run) -> list[str]:
    """Carry out, and explain every statement that was asked."""
    asked: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        asked.append((given[2], given[3]))

    event.listen(connection.engine, "before_cursor_execute", note)
    run(connection)
    event.remove(connection.engine, "before_cursor_execute", note)
    assert asked, "no statement was asked"
    explained: list[str] = []
    for statement, values in asked:
        each = values if isinstance(values, list) else [values]
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", each[0])
        explained += [str(row.detail) for row in rows]
    return explained


@pytest.mark.parametrize(
    ("run", "index"),
    [
        (
            lambda c: jobs.find_kept(c, [("alice", "key 3"), ("bob", "key 6")]),
            "uq_jobs_idempotency_key_owner",
        ),
        (lambda c: jobs.load(c, a_job(7).id), "sqlite_autoindex_jobs_1"),
        (lambda c: jobs.load_many(c, [a_job(7).id, a_job(8).id]), "sqlite_autoindex_jobs_1"),
        (lambda c: jobs.load_views(c, [a_job(7).id, a_job(8).id]), "uq_attempts_job_id_number"),
        (lambda c: jobs.save(c, a_job(7), seen=1), "sqlite_autoindex_jobs_1"),
        (lambda c: jobs.save_progress(c, [(a_job(7).id, 0.5)]), "sqlite_autoindex_jobs_1"),
        (lambda c: jobs.find_overdue(c, now_ms=NOW_MS, last_word_ms=0, limit=9), "ix_jobs_unfinished"),
        (lambda c: jobs.find_hold_expired(c, now_ms=NOW_MS, limit=9), "ix_jobs_held"),
        (jobs.count_unfinished, "ix_jobs_unfinished"),
        (lambda c: jobs.list_views(c, JobFilter(owner="alice", before_id="job_f")), "ix_jobs_owner_id"),
        (
            lambda c: tasks.claim(
                c, kinds=JOB_KINDS, limit=9, now_ms=NOW_MS + 99, until_ms=NOW_MS + 999, holder="h"
            ),
            "ix_tasks_kind_due_at_ms",
        ),
        (lambda c: tasks.next_due_ms(c, JOB_KINDS), "ix_tasks_kind_due_at_ms"),
        (lambda c: tasks.next_due_ms(c, (TaskKind.DELIVER,)), "ix_tasks_kind_due_at_ms"),
        (lambda c: tasks.still_held(c, HELD), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.again(c, Due(claim=HELD, due_at_ms=1)), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.extend(c, [HELD], until_ms=1), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.release(c, [HELD]), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.release_lapsed(c, holder="h", now_ms=NOW_MS), "ix_tasks_kind_due_at_ms"),
        (lambda c: tasks.finish(c, HELD), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.hurry(c, TaskKind.POLL, a_job(1).id, at_ms=1), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.bring_forward(c, TaskKind.POLL, a_job(1).id, at_ms=1), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.drop(c, a_job(1).id, JOB_KINDS), "sqlite_autoindex_tasks_1"),
        (lambda c: attempts.load_of(c, [a_job(7).id]), "uq_attempts_job_id_number"),
        (attempts.count_needed, "ix_jobs_unfinished"),
        (lambda c: attempts.tally(c, since_ms=NOW_MS, limit=9), "sqlite_autoindex_attempts_1"),
        (lambda c: keys.load(c, "key_1"), "sqlite_autoindex_api_keys_1"),
        (lambda c: jobs.list_owned(c, JobFilter(owner="alice", before_id="job_f")), "ix_jobs_owner_id"),
        (lambda c: attempts.find(c, f"att_{7:032x}"), "sqlite_autoindex_attempts_1"),
        (lambda c: attempts.load_unsettled(c, provider="acme"), "ix_attempts_unsettled"),
        (
            lambda c: attempts.find_taken(c, provider="acme", refs=["r"], but_of="att_"),
            "ix_attempts_provider_ref",
        ),
        (
            lambda c: attempts.find_known(c, provider="acme", since_ms=1, until_ms=2, but_of="att_", limit=9),
            "sqlite_autoindex_attempts_1",
        ),
        (jobs.find_held, "ix_jobs_held"),
        (lambda c: callbacks.refs_of(c, "att_1"), "sqlite_autoindex_callback_inbox_1"),
        (
            lambda c: callbacks.has(c, "att_1", "d"),
            "sqlite_autoindex_callback_inbox_1",
        ),
        (lambda c: callbacks.past_of(c, "att_1"), "sqlite_autoindex_callback_inbox_1"),
        (
            lambda c: attempts.save(c, an_attempt(number=1, job=a_job(7), id=f"att_{7:032x}")),
            "sqlite_autoindex_attempts_1",
        ),
        (lambda c: events.load_of(c, a_job(7).id), "sqlite_autoindex_events_1"),
        (lambda c: watched.look(c, [a_job(7).id, a_job(8).id]), "sqlite_autoindex_jobs_1"),
        (lambda c: watched.load_logs(c, [a_job(7).id, a_job(8).id]), "sqlite_autoindex_events_1"),
        (lambda c: exchanges.load_of(c, a_job(7).id), "ix_exchanges_job_id"),
        (lambda c: deliveries.load_of(c, a_job(7).id), "uq_deliveries_job_id_sequence_endpoint_id"),
        (lambda c: deliveries.load_claimed(c, ["dlv_1", "dlv_2"]), "sqlite_autoindex_deliveries_1"),
        (lambda c: deliveries.load_tries(c, ["dlv_1", "dlv_2"]), "sqlite_autoindex_delivery_attempts_1"),
        (deliveries.backlog, "ix_deliveries_pending"),
        (lambda c: deliveries.load(c, "dlv_1", lock=True), "sqlite_autoindex_deliveries_1"),
        (
            lambda c: deliveries.page_of_job(c, a_job(7).id, before=None, limit=9),
            "uq_deliveries_job_id_sequence_endpoint_id",
        ),
        (
            lambda c: deliveries.page_of_endpoint(c, "we_1", before=None, limit=9),
            "ix_deliveries_endpoint_id_id",
        ),
        (
            lambda c: deliveries.find_missed(c, "we_1", first="dlv_1", after="", last="dlv_2", limit=9),
            "ix_deliveries_missed",
        ),
        (lambda c: deliveries.newest_of(c, "we_1"), "ix_deliveries_endpoint_id_id"),
        (lambda c: deliveries.revive(c, ["dlv_1"]), "sqlite_autoindex_delivery_attempts_1"),
        (lambda c: delivery_tasks.lanes(c, now_ms=NOW_MS, holder="h"), "ix_tasks_lane"),
        (lambda c: delivery_tasks.head_of(c, "lane", limit=9, now_ms=NOW_MS, holder="h"), "ix_tasks_lane"),
        (lambda c: delivery_tasks.due_of(c, ["dlv_1"]), "sqlite_autoindex_tasks_1"),
        (lambda c: tasks.finish_many(c, TaskKind.DELIVER, ["dlv_1"]), "sqlite_autoindex_tasks_1"),
        (lambda c: jobs.owner_of(c, a_job(7).id), "sqlite_autoindex_jobs_1"),
        (lambda c: endpoints.load(c, "we_1", lock=True), "sqlite_autoindex_webhook_endpoints_1"),
        (lambda c: endpoints.load_many(c, ["we_1"]), "sqlite_autoindex_webhook_endpoints_1"),
        (lambda c: endpoints.load_of(c, "alice"), "ix_webhook_endpoints_owner_id"),
        (lambda c: endpoints.count_of(c, "alice"), "ix_webhook_endpoints_owner_id"),
        (
            lambda c: endpoints.page(c, owner="alice", before=None, limit=9),
            "ix_webhook_endpoints_owner_id",
        ),
        (lambda c: endpoints.progress_heard(c, ["alice"]), "ix_webhook_endpoints_owner_id"),
        (
            lambda c: delivery_tasks.send_late_now(
                c, "lane", first="", last="x", before=(NOW_MS, "x"), at_ms=NOW_MS, limit=9
            ),
            "ix_tasks_lane",
        ),
        (lambda c: endpoints.well(c, "we_1", version=0), "sqlite_autoindex_webhook_endpoints_1"),
        (lambda c: endpoints.remove(c, "we_1"), "sqlite_autoindex_webhook_endpoints_1"),
        (endpoints.count_by_state, "ix_webhook_endpoints_state"),
        (queue.oldest_ms, "sqlite_autoindex_tasks_1"),
        (lambda c: spend.count_at_budget(c, "2027-01-15"), "ix_owners_budget"),
        (lambda c: spend.count_at_budget(c, "2027-01-15"), "sqlite_autoindex_spend_1"),
        (
            lambda c: jobs.count_expiring(c, now_ms=NOW_MS, until_ms=NOW_MS + 9, most=9),
            "ix_jobs_outputs_expire",
        ),
        (
            lambda c: jobs.count_expiring(c, now_ms=NOW_MS, until_ms=NOW_MS + 9, most=9),
            "uq_deliveries_job_id_sequence_endpoint_id",
        ),
        (lambda c: keys.find(c, "0" * 64), "sqlite_autoindex_api_keys_2"),
        (lambda c: keys.owner_secrets(c, ["alice", "bob"]), "sqlite_autoindex_owners_1"),
        (lambda c: keys.find_owner(c, "key_1"), "sqlite_autoindex_api_keys_1"),
        (lambda c: limits.lock_owners(c, ["alice", "bob"], every=False), "sqlite_autoindex_owners_1"),
        (lambda c: limits.lock_arrivals(c, ["key_1", "key_2"]), "sqlite_autoindex_limits_1"),
        (lambda c: limits.save_arrivals(c, {"key_1": 1}), "sqlite_autoindex_limits_1"),
        (lambda c: limits.count_in_flight(c, "alice", most=9), "ix_jobs_unfinished_owner"),
        (lambda c: limits.count_unfinished(c, most=9), "ix_jobs_unfinished"),
        (lambda c: spend.spent_in_month(c, "alice", "2027-01-15"), "sqlite_autoindex_spend_1"),
        (
            lambda c: spend.load_between(c, owner="alice", first="2027-01-01", last="2027-01-31"),
            "sqlite_autoindex_spend_1",
        ),
    ],
)
def test_the_statement_uses_an_index(connection: Connection, run: Run, index: str) -> None:
    explained = plans(connection, run)
    assert any(index in detail for detail in explained), explained
    scans = [detail for detail in explained if detail.startswith("SCAN") and "INDEX" not in detail]
    # What a LIMIT has cut before, and what was gone through by an index.
    assert set(scans) <= {"SCAN bounded", "SCAN lanes"}


def test_due_tasks_come_in_order_without_sorting(connection: Connection) -> None:
    explained = plans(
        connection,
        lambda c: tasks.claim(c, kinds=JOB_KINDS, limit=9, now_ms=NOW_MS + 99, until_ms=NOW_MS, holder="h"),
    )
    explained += plans(connection, lambda c: tasks.next_due_ms(c, JOB_KINDS))
    explained += plans(connection, lambda c: jobs.find_overdue(c, now_ms=NOW_MS, last_word_ms=0, limit=9))
    assert not [detail for detail in explained if "TEMP B-TREE" in detail or detail.startswith("SCAN")]


def test_a_page_of_one_owners_jobs_is_read_in_the_indexs_order(connection: Connection) -> None:
    explained = plans(connection, lambda c: jobs.list_views(c, JobFilter(owner="alice")))
    assert "SORT" not in explained[0]
    assert "TEMP" not in " ".join(explained[:1])


def test_the_ledger_adds_to_rows_that_there_are(connection: Connection) -> None:
    for _ in range(2):
        spend.add(
            connection, {("alice", "2027-01-15", "acme"): Money(1, 5, 7), ("bob", "2027-01-15", ""): Money(1)}
        )
    (row,) = spend.load_between(connection, owner="alice", first="2027-01-15", last="2027-01-15")
    assert (row.jobs, row.reserved_micro_usd, row.charged_micro_usd) == (2, 10, 14)
    assert spend.spent_in_month(connection, "alice", "2027-01-31") == 24
    assert spend.spent_in_month(connection, "alice", "2027-02-01") == 0


def test_keys_of_other_owners_are_not_taken_for_ours(connection: Connection) -> None:
    strangers = replace(a_job(MANY + 1), owner="bob")
    jobs.insert_many(connection, [jobs.row_of(strangers, idempotency_key="key 3", fingerprint="other")])
    (ours,) = jobs.find_kept(connection, [("alice", "key 3"), ("bob", "key 6")])
    assert (ours.owner, ours.job_id, ours.fingerprint) == ("alice", a_job(3).id, "f")
