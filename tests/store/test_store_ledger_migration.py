"""The ledger of a database that is older than it: what its jobs say, from the first moment on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from alembic import command
from job_examples import NOW_MS, a_job, an_attempt
from msgspec.structs import replace
from sqlalchemy import insert, select
from store_stage import FILE

from gateway.jobs.job import AttemptState
from gateway.storage import attempts, schema
from gateway.storage import jobs as job_rows
from gateway.storage.sqlite import open_engine
from gateway.storage.tables import jobs, spend

BEFORE = "0005"


def test_jobs_there_were_before_the_ledger_are_in_it(tmp_path: Path) -> None:
    path = tmp_path / FILE
    ended = replace(a_job(1), state=replace(a_job(1).state, finished_at_ms=NOW_MS))
    cases = [
        (replace(a_job(1), estimated_micro_usd=100), AttemptState.ACCEPTED),
        (replace(a_job(2), estimated_micro_usd=100, owner="bob"), None),
        (replace(ended, id=a_job(3).id, estimated_micro_usd=100), AttemptState.SUCCEEDED),
        (replace(a_job(4), estimated_micro_usd=100, simulated=True), AttemptState.ACCEPTED),
    ]
    with closing(open_engine(path).connect()) as connection:
        with connection.begin():
            command.upgrade(schema._config(connection), BEFORE)
            for number, (job, state) in enumerate(cases, start=1):
                row = job_rows.row_of(job, idempotency_key=None, fingerprint="f")
                del row["traceparent"], row["outputs_expire_at_ms"]  # 0012 and 0013 add them
                connection.execute(insert(jobs), row)
                if state is not None:
                    attempts.insert_one(connection, an_attempt(state, job=job, id=f"att_{number:032x}"))
        with connection.begin():
            schema.migrate(connection)
            rows = connection.execute(select(spend).order_by(spend.c.owner, spend.c.provider)).all()
    assert [tuple(row) for row in rows] == [
        ("alice", "2027-01-15", "acme", 2, 100, 100),
        ("bob", "2027-01-15", "", 1, 100, 0),
    ]
