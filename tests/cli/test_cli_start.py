"""`serve`: what it starts on, what it refuses, how it stops."""

from __future__ import annotations

import json
import resource
import signal
import socket
from pathlib import Path

import httpx
import pytest
from cli_command import run, run_process, started
from postgres_server import fresh_database

from gateway.cli.open_files import ENOUGH

URL, KEY = r"URL\s+(http://\S+)", r"API key\s+(mgk_\S+)"
TELLS_WHAT_IS_KEPT = """
import atexit, gc, pathlib
atexit.register(lambda: pathlib.Path("kept").write_text(str(gc.get_freeze_count())))
"""
PROVIDER = {"RUNWAYML_API_SECRET": "not-a-real-key", "RUNWAYML_BASE_URL": "http://127.0.0.1:9"}


def test_with_nothing_configured_it_makes_a_key_and_simulates_loudly(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0") as serve:
        url, key, secret, _ = serve.find(URL, KEY, r"(whsec_\S+)", r"(SIMULATED)")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
            providers = http.get("/v1/providers").json()["providers"]
            assert http.get("/health/ready").status_code == 200
    assert {account["simulated"] for one in providers for account in one["accounts"]} == {True}
    assert all(one["enabled"] for one in providers)
    assert key not in serve.errors
    assert secret not in serve.errors


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path: Path, how: signal.Signals) -> None:
    with started(tmp_path, "serve", "--port", "0", **PROVIDER) as serve:
        (url,) = serve.find(URL)
        assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
        serve.process.send_signal(how)
        assert serve.process.wait(timeout=10) == 0
    assert "Traceback" not in serve.errors


def test_it_may_open_as_many_files_as_the_system_lets_it(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = min(512, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))  # which its child begins with
    try:
        with started(tmp_path, "serve", "--port", "0", **PROVIDER) as serve:
            serve.find(URL)
            raised, _ = resource.prlimit(serve.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised == (ENOUGH if hard == resource.RLIM_INFINITY else min(ENOUGH, hard))


@pytest.mark.parametrize("command", ["serve", "work"])
def test_what_is_loaded_is_not_looked_at_by_the_garbage_collector(command: str, tmp_path: Path) -> None:
    """It would stop the process for a tenth of a second, again and again."""
    (tmp_path / "sitecustomize.py").write_text(TELLS_WHAT_IS_KEPT)
    server = {"MOTION_GATEWAY_SECRET_KEY": "not-a-real-secret-key-" * 2, "MOTION_GATEWAY_SERVER__PORT": "0"}
    with fresh_database() as url:
        ours = {"PYTHONPATH": str(tmp_path), "MOTION_GATEWAY_DATABASE": url}
        with started(tmp_path, command, **server, **PROVIDER, **ours) as process:
            process.find(r"Database\s+(\S+)")
    assert int((tmp_path / "kept").read_text()) > 50_000, "objects"


def test_it_makes_a_key_once(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **PROVIDER) as first:
        first.find(KEY)
    with started(tmp_path, "serve", "--port", "0", **PROVIDER) as second:
        assert second.find(r"Keys\s+(.*)") == ["required; 1 active"]
        second.process.terminate()
        assert "mgk_" not in second.process.communicate(timeout=10)[0]


def test_a_second_one_on_the_same_database_is_refused(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0", **PROVIDER) as first:
        first.find(URL)
        second = run_process(tmp_path, "serve", "--port", "0", **PROVIDER)
    assert second.returncode == 78
    assert "another process serves this database" in second.stderr


def test_a_port_in_use_is_said_clearly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_process(tmp_path, "serve", "--port", str(port), **PROVIDER)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}: address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_beyond_loopback_it_refuses_to_start_without_a_provider(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 78
    assert "RUNWAYML_API_SECRET" in done.stderr


@pytest.mark.parametrize("options", [(), ("--no-worker",)], ids=["works", "only serves"])
def test_on_a_database_that_others_work_on_nothing_is_simulated(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Whoever is started beside it, or after it with a key, would be handed its jobs."""
    url, secret = "postgresql://nobody@127.0.0.1:9/motion", "not-a-real-secret-key-" * 2
    shared = {"MOTION_GATEWAY_DATABASE": url, "MOTION_GATEWAY_SECRET_KEY": secret}
    done = run(tmp_path, "serve", "--port", "0", *options, **shared)
    assert done.returncode == 78
    assert "RUNWAYML_API_SECRET" in done.stderr
    assert ("--no-worker" if options else "PostgreSQL") in done.stderr
    checked = run(tmp_path, "check", **shared)
    assert "none is configured; set one of" in " ".join(checked.stdout.split())


def test_beyond_loopback_it_refuses_to_start_without_a_key(tmp_path: Path) -> None:
    done = run_process(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", **PROVIDER)
    assert done.returncode == 78
    assert "motion-gateway keys create" in done.stderr


def test_a_provider_switched_off_is_not_simulated(tmp_path: Path) -> None:
    off = {"MOTION_GATEWAY_PROVIDERS__RUNWAY__ENABLED": "false"}
    done = run(tmp_path, "serve", "--port", "0", **PROVIDER, **off)
    assert done.returncode == 78
    assert "switched off" in done.stderr


def test_a_gateway_that_asks_for_no_key_warns(tmp_path: Path) -> None:
    open_door = {"MOTION_GATEWAY_AUTH__REQUIRED": "false"}
    with started(tmp_path, "serve", "--port", "0", **PROVIDER, **open_door) as serve:
        url, _ = serve.find(URL, r"(NONE ASKED FOR)")
        assert httpx.get(f"{url}/v1/providers", trust_env=False).status_code == 200


def test_a_wrong_setting_is_told_without_a_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", MOTION_GATEWAY_SERVER__PORT="eighty")
    assert done.returncode == 78
    assert done.stderr.startswith("motion-gateway: setting server.port (environment")
    assert "Traceback" not in done.stderr


def test_what_may_be_dialled_is_said_at_the_start_and_by_check(tmp_path: Path) -> None:
    opened = {
        "MOTION_GATEWAY_WEBHOOKS__ALLOWED_NETWORKS": "10.20.0.0/16, 169.254.169.254/32",
        "MOTION_GATEWAY_WEBHOOKS__ALLOWED_HOSTS": "Hooks.Internal",
        "MOTION_GATEWAY_WEBHOOKS__ALLOW_HTTP": "true",
    }
    webhooks = (
        "https and http; public addresses; networks 10.20.0.0/16, 169.254.169.254/32; hosts hooks.internal;"
        " cloud metadata only where listed address by address"
    )
    media = "https only; public addresses; cloud metadata only where listed address by address"
    with started(tmp_path, "serve", "--port", "0", **PROVIDER, **opened) as serve:
        assert serve.find(r"Webhooks\s+(.*)", r"Media\s+(.*)") == [webhooks, media]
    checked = run(tmp_path, "check", "--json", **PROVIDER, **opened)
    told = {
        one["name"]: one["text"] for one in json.loads(checked.stdout)["checks"] if one["area"] == "outbound"
    }
    assert told == {"webhooks": webhooks, "media": media}
