"""Limits of keys and owners, and what their jobs cost, as commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from cli_command import run

from gateway.clock import SystemClock
from gateway.jobs.spend import Money, day_of
from gateway.settings import Settings
from gateway.storage import spend as spend_rows
from gateway.storage.store import open_store


def listed(folder: Path) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(run(folder, "keys", "list", "--json").stdout)["keys"]
    return keys


def test_limits_are_given_with_a_key_changed_and_taken_away(tmp_path: Path) -> None:
    create = ("keys", "create", "--owner", "team", "--name")
    assert run(tmp_path, *create, "a", "--rate", "60/m", "--budget-usd", "99.50").returncode == 0
    assert run(tmp_path, *create, "b", "--max-in-flight", "3").returncode == 0
    one, other = listed(tmp_path)
    assert (one["rate"], other["rate"]) == ("60/m", None)
    for key in (one, other):
        assert (key["owner_max_in_flight"], key["owner_budget_usd"]) == (3, 99.5)
    assert "60/m, 3 jobs, $99.50 a month" in " ".join(run(tmp_path, "keys", "list").stdout.split())
    limit = ("keys", "limit", one["id"])
    assert run(tmp_path, *limit, "--rate", "none", "--budget-usd", "none").returncode == 0
    changed = listed(tmp_path)[0]
    assert (changed["rate"], changed["owner_max_in_flight"], changed["owner_budget_usd"]) == (None, 3, None)
    assert run(tmp_path, *limit).returncode == 2
    assert run(tmp_path, "keys", "limit", "key_nobody", "--rate", "1/s").returncode == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rate", "60"),
        ("--rate", "0/s"),
        ("--max-in-flight", "-1"),
        ("--max-in-flight", "1.5"),
        ("--budget-usd", "1e3"),
        ("--budget-usd", "0.0000001"),
        ("--budget-usd", "-5"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_would_be_right(
    tmp_path: Path, option: str, value: str
) -> None:
    done = run(tmp_path, "keys", "create", "--name", "n", f"{option}={value}")
    assert done.returncode == 2
    assert "must be" in done.stderr
    assert "none" in done.stderr


def test_usage_is_shown_as_a_table_and_as_json(tmp_path: Path) -> None:
    assert run(tmp_path, "usage").returncode == 1, "a mistyped database is no empty ledger"
    run(tmp_path, "keys", "create", "--name", "shop", "--budget-usd", "10")
    today = day_of(SystemClock().now_ms())

    async def book() -> None:
        store = open_store(Settings(database=f"sqlite:///{tmp_path}/motion-gateway.db"))
        changes = {
            ("shop", today, "acme"): Money(3, 1_000_000, 2_500_000),
            ("bob", today, ""): Money(1, 5, 0),
        }
        await store.database.write(lambda connection: spend_rows.add(connection, changes))
        await store.database.close()

    asyncio.run(book())
    table = " ".join(run(tmp_path, "usage").stdout.split())
    assert f"shop {today} acme 3 2.50 USD 1.00 USD" in table
    assert f"shop {today[:7]} 10.00 USD 3.50 USD 6.50 USD" in table
    found = json.loads(run(tmp_path, "usage", "--json", "--owner", "shop").stdout)
    assert [(row["owner"], row["jobs"], row["charged_usd"]) for row in found["rows"]] == [("shop", 3, 2.5)]
    earlier = json.loads(run(tmp_path, "usage", "--json", "--to", "2020-01-05").stdout)
    assert (earlier["from"], earlier["to"], earlier["rows"]) == ("2020-01-01", "2020-01-05", [])
    assert run(tmp_path, "usage", "--from", "soon").returncode == 2
