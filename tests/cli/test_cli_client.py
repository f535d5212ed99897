"""`submit`, `watch` and `cancel` against a `serve` whose provider is `simulate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_command import CHARACTER, REFERENCE, run, started

from gateway.simulator.reel import probe

REJECTED = {"operation": "create", "fault": "fail:content_rejected", "character_contains": "rejected"}
MEDIA = ("--character", CHARACTER, "--reference", REFERENCE)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a gateway with one provider."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "faults.json").write_text(json.dumps({"rules": [REJECTED]}))
    with started(folder, "simulate", "--port", "0", "--run-s", "0.3", "--fault", "faults.json") as simulate:
        base, secret = simulate.find(r"RUNWAYML_BASE_URL=(\S+)", r"RUNWAYML_API_SECRET=(\S+)")
        provider = {
            "RUNWAYML_BASE_URL": base,
            "RUNWAYML_API_SECRET": secret,
            "MOTION_GATEWAY_PROVIDERS__RUNWAY__POLL_SCALE": "0.02",
        }
        with started(folder, "serve", "--port", "0", **provider) as serve:
            url, key = serve.find(r"URL\s+(http://\S+)", r"(mgk_\S+)")
            yield {"MOTION_GATEWAY_URL": url, "MOTION_GATEWAY_KEY": key}


def test_submit_waits_and_saves_the_film(tmp_path: Path, asked: dict[str, str]) -> None:
    done = run(tmp_path, "submit", *MEDIA, "--ratio", "9:16", "--output", "out/film.mp4", "--json", **asked)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "succeeded"
    film = probe(tmp_path / "out" / "film.mp4")
    assert (film.width, film.height) == (720, 1280)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["film.mp4"]


def test_submit_alone_prints_the_id_which_watch_follows(tmp_path: Path, asked: dict[str, str]) -> None:
    posted = run(tmp_path, "submit", *MEDIA, "--idempotency-key", "the-same", **asked)
    again = run(tmp_path, "submit", *MEDIA, "--idempotency-key", "the-same", **asked)
    watched = run(tmp_path, "watch", posted.stdout.strip(), **asked)
    cancelled = run(tmp_path, "cancel", posted.stdout.strip(), **asked)
    assert posted.stdout.startswith("job_")
    assert again.stdout == posted.stdout
    assert watched.returncode == 0
    assert watched.stdout.startswith("http://127.0.0.1:")
    assert cancelled.returncode == 1
    assert "The job has already finished (409)" in cancelled.stderr


def test_a_job_that_failed_is_told_with_its_reason(tmp_path: Path, asked: dict[str, str]) -> None:
    rejected = "https://media.example/rejected.png"
    done = run(tmp_path, "submit", "--character", rejected, "--reference", REFERENCE, "--wait", **asked)
    assert done.returncode == 1
    assert "failed (content_rejected)" in done.stderr
    assert done.stdout == ""


def test_a_problem_is_told_with_title_detail_and_place(tmp_path: Path, asked: dict[str, str]) -> None:
    done = run(tmp_path, "submit", *MEDIA, "--provider", "nobody", **asked)
    assert done.returncode == 1
    assert "The request does not fit the schema (422)" in done.stderr
    assert "/routing/providers/0: there is no provider 'nobody'" in done.stderr


def test_plan_shows_who_would_run_a_job_and_why_nobody_else(tmp_path: Path, asked: dict[str, str]) -> None:
    done = run(tmp_path, "plan", *MEDIA, "--policy", "cheapest", "--duration-s", "10", **asked)
    assert done.returncode == 0, done.stderr
    assert "policy cheapest, with failover; 10 s" in done.stdout
    assert "runway/default" in done.stdout
    assert "$0.50" in done.stdout
    assert "60 s, declared" in done.stdout
    assert "POST /v1/character_performance" in done.stdout
    assert "not_enabled" in done.stdout
    assert "EACHLABS_API_KEY" in done.stdout
    shown = run(tmp_path, "plan", *MEDIA, "--max-cost-usd", "0.01", "--json", **asked)
    assert shown.returncode == 1
    plan = json.loads(shown.stdout)
    assert plan["candidates"] == []
    assert plan["left_out"][0]["code"] == "too_expensive"


def test_a_wrong_key_is_told(tmp_path: Path, asked: dict[str, str]) -> None:
    done = run(tmp_path, "watch", "job_1", **asked | {"MOTION_GATEWAY_KEY": "mgk_wrong"})
    assert done.returncode == 1
    assert "(401)" in done.stderr
    assert "MOTION_GATEWAY_KEY" in done.stderr


def test_local_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "submit", "--character", "me.png", "--reference", REFERENCE)
    assert done.returncode == 2
    assert "Local files are not supported yet" in done.stderr


def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "watch", "job_1", MOTION_GATEWAY_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing answers at http://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
