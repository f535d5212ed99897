"""Deliveries that waited before there were lanes and endpoints."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from job_examples import NOW_MS
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from store_stage import FILE

from gateway.storage import deliveries, delivery_tasks, schema
from gateway.storage.sqlite import open_engine

BEFORE = "0009"
URLS = {
    "dlv_1": "https://a.example/hook",
    "dlv_2": "https://b.example:8443/x",
    "dlv_3": "http://127.0.0.1:1/",
}


def store(connection: Connection, delivery_id: str, url: str) -> None:
    """What a version before endpoints writes."""
    connection.execute(
        text(
            "INSERT INTO deliveries (id, job_id, owner, sequence, message_id, type, url, body, created_at_ms,"
            " state) VALUES (:id, 'job_1', 'alice', :sequence, 'msg', 'job.failed', :url, '{}', 1, 'pending')"
        ),
        {"id": delivery_id, "url": url, "sequence": int(delivery_id[-1])},
    )
    connection.execute(
        text(
            "INSERT INTO tasks (kind, subject, due_at_ms, version, tries, memo)"
            " VALUES ('deliver', :id, :at, 1, 0, '{}')"
        ),
        {"id": delivery_id, "at": NOW_MS},
    )


def test_what_waits_gets_the_lane_of_its_host_and_port(tmp_path: Path) -> None:
    with closing(open_engine(tmp_path / FILE).connect()) as connection:
        with connection.begin():
            command.upgrade(schema._config(connection), BEFORE)
            for delivery_id, url in URLS.items():
                store(connection, delivery_id, url)
        with connection.begin():
            schema.migrate(connection)
            store(connection, "dlv_4", "https://c.example/")  # by a process of the version before
            lanes = delivery_tasks.lanes(connection, now_ms=NOW_MS, holder="h")
            assert sorted(one.lane for one in lanes) == ["", "127.0.0.1:1", "a.example", "b.example:8443"]
            old = deliveries.load(connection, "dlv_1")
            assert old is not None
            assert (old.endpoint_id, old.url) == (None, URLS["dlv_1"])
            with pytest.raises(IntegrityError, match="sequence"):
                store(connection, "dlv_x4", "https://d.example/")
