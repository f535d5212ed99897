"""The commands that need no gateway: help, keys, migrate, check, openapi, simulate."""

from __future__ import annotations

import importlib
import json
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import httpx
import pytest
from cli_command import run, run_process, started

from gateway.cli import verdicts
from gateway.cli.root import COMMANDS, main
from gateway.registry import load_adapters

DEAD = {"RUNWAYML_API_SECRET": "not-a-real-key", "RUNWAYML_BASE_URL": "http://127.0.0.1:1"}


def test_help_is_quick_since_it_imports_nothing_heavy() -> None:
    script = "import sys, gateway.cli.root; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"litestar", "sqlalchemy", "av", "PIL", "httpx", "rich", "uvicorn"} & set(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    command = importlib.import_module(f"gateway.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.help


def test_help_lists_every_command_and_the_version_is_told(tmp_path: Path) -> None:
    shown = run_process(tmp_path, "--help")
    assert shown.returncode == 0
    assert all(f"\n  {name} " in shown.stdout for name in main.list_commands(click.Context(main)))
    assert run(tmp_path, "--version").stdout.startswith("motion-gateway ")
    assert run(tmp_path, "nonsense").returncode == 2


def test_a_key_alone_goes_to_stdout_and_an_owners_secret_is_told_once(tmp_path: Path) -> None:
    first = run_process(tmp_path, "keys", "create", "--name", "ci", "--owner", "team")
    second = run(tmp_path, "keys", "create", "--name", "ops", "--owner", "team", "--scope", "operator")
    assert first.returncode == second.returncode == 0
    assert first.stdout.startswith("mgk_")
    assert first.stdout.count("\n") == 1
    assert "whsec_" in first.stderr
    assert "whsec_" not in second.stderr
    listed = run(tmp_path, "keys", "list", "--json")
    keys = json.loads(listed.stdout)["keys"]
    assert [(key["name"], key["owner"], key["scopes"]) for key in keys] == [
        ("ci", "team", ["jobs"]),
        ("ops", "team", ["operator"]),
    ]
    assert first.stdout.strip() not in listed.stdout


def test_a_revoked_key_stays_listed_and_is_revoked_once(tmp_path: Path) -> None:
    run(tmp_path, "keys", "create", "--name", "[bold]gone")
    key = json.loads(run(tmp_path, "keys", "list", "--json").stdout)["keys"][0]
    assert run(tmp_path, "keys", "revoke", key["id"]).returncode == 0
    assert run(tmp_path, "keys", "revoke", key["id"]).returncode == 1
    table = run(tmp_path, "keys", "list").stdout
    assert "[bold]gone" in table
    assert key["id"] in table


def test_keys_are_made_while_a_gateway_serves(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **DEAD) as serve:
        (url,) = serve.find(r"URL\s+(http://\S+)")
        key = run(tmp_path, "keys", "create", "--name", "late").stdout.strip()
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/v1/providers", headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "two\nlines", " blank"])
def test_a_key_needs_a_printable_name(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, "keys", "create", "--name", name).returncode == 2
    assert not list(tmp_path.iterdir())


def test_a_mistyped_database_is_not_an_empty_list(tmp_path: Path) -> None:
    done = run(tmp_path, "keys", "list", "--database", "sqlite:///typo.db")
    assert done.returncode == 1
    assert "there is no database at typo.db" in done.stderr
    assert not list(tmp_path.iterdir())


def test_migrate_shows_then_applies_then_has_nothing_to_do(tmp_path: Path) -> None:
    shown = run(tmp_path, "migrate", "--show")
    assert "pending  0001" in shown.stdout
    assert not list(tmp_path.iterdir())
    assert "applied  0001" in run(tmp_path, "migrate").stdout
    assert "up to date" in run(tmp_path, "migrate").stdout


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    run(tmp_path, "migrate")
    with sqlite3.connect(tmp_path / "motion-gateway.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    serve = run_process(tmp_path, "serve", "--port", "0")
    for done in (serve, run(tmp_path, "migrate"), run(tmp_path, "keys", "list")):
        assert done.returncode == 78
        assert "9999" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "motion-gateway.db").write_text("no database at all, but long enough to look at " * 20)
    done = run_process(tmp_path, "serve", "--port", "0", **DEAD)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_process(tmp_path, "serve", "--port", "0", "--database", "sqlite:///file/gateway.db", **DEAD)
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


def test_check_tells_good_keys_from_refused_ones_and_from_silence(tmp_path: Path) -> None:
    """In one go, since trying every adapter's conformance takes seconds."""
    with started(tmp_path, "simulate", "--port", "0", "--key", "good") as simulate:
        runway, aimlapi = simulate.find(r"RUNWAYML_BASE_URL=(\S+)", r"AIMLAPI_BASE_URL=(\S+)")
        accounts = {
            "RUNWAYML_API_SECRET": "good",
            "RUNWAYML_BASE_URL": runway,
            "AIMLAPI_KEY": "bad-one",
            "AIMLAPI_BASE_URL": aimlapi,
        }
        done = run(tmp_path, "check", "--json", **accounts)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    checks = {(one["area"], one["name"]): one for one in document["checks"]}
    assert document["ok"] is False
    assert checks["credentials", "runway (default)"]["mark"] == "ok"
    limits = checks["limits", "runway (default)"]
    assert limits["mark"] == "note"
    assert "credits; act_two: 3 at once, 500 a day, 0 begun today" in limits["text"]
    assert "with providers.runway.accounts.default.max_in_flight = 3" in limits["text"]
    assert checks["credentials", "aimlapi (default)"]["mark"] == "finding"
    assert "the key is refused (401" in checks["credentials", "aimlapi (default)"]["text"]
    assert all(checks["conformance", name]["mark"] == "ok" for name in load_adapters().adapters)
    assert "bad-one" not in done.stdout + done.stderr
    assert not (tmp_path / "motion-gateway.db").exists()


def test_check_prints_a_table_with_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "check", lambda _adapter, _exchanges: ())
    done = run(tmp_path, "check", **DEAD)
    assert done.returncode == 1
    assert "http://127.0.0.1:1 gave no answer" in done.stdout
    assert "from environment RUNWAYML_API_SECRET" in done.stdout
    assert "1 finding, " in done.stdout
    assert "no credential was checked" not in done.stdout


def test_check_finds_nothing_on_a_fresh_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "check", lambda _adapter, _exchanges: ())
    done = run(tmp_path, "check")
    assert done.returncode == 0
    told = " ".join(done.stdout.split())
    assert "nothing to find fault with; no credential was checked" in told
    assert "none was checked: this command was given no account." in told
    assert "the same --config, and its keys, in" in told


def test_openapi_writes_and_notices_drift(tmp_path: Path) -> None:
    assert run(tmp_path, "openapi", "--check").returncode == 1
    assert run(tmp_path, "openapi").returncode == 0
    assert run(tmp_path, "openapi", "--check").returncode == 0
    with (tmp_path / "openapi" / "openapi.json").open("a") as file:
        file.write(" ")
    done = run(tmp_path, "openapi", "--check")
    assert done.returncode == 1
    assert "motion-gateway openapi" in done.stderr


def test_simulate_names_the_variables_of_every_adapter_and_ends_well(tmp_path: Path) -> None:
    specs = load_adapters().specs
    with started(tmp_path, "simulate", "--port", "0", "--key", "k1") as simulate:
        bases = simulate.find(*(rf"{one.base_url_env}=(\S+) {one.key_env}=k1$" for one in specs))
        root = bases[0].rpartition("/")[0]
        assert set(httpx.get(f"{root}/_stats", trust_env=False).json()["accepted"]) == {
            one.name for one in specs
        }
        simulate.process.terminate()
        assert simulate.process.wait(timeout=10) == 0


def test_simulate_refuses_a_script_it_cannot_follow_and_a_port_in_use(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"rules": [{"operation": "create", "fault": "earthquake"}]}')
    script = run_process(tmp_path, "simulate", "--port", "0", "--fault", "faults.json")
    assert script.returncode == 78
    assert "earthquake" in script.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = run_process(tmp_path, "simulate", "--port", str(taken.getsockname()[1]))
    assert port.returncode == 1
    assert "address already in use" in port.stderr
