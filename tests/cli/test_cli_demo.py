"""`demo`: the main job, end to end; and the checks that make its success mean something."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_command import run_process
from msgspec.structs import replace
from standardwebhooks import Webhook

from gateway.cli.demo.course import film_problems
from gateway.cli.demo.receiver import Receiver
from gateway.registry import load_emulations
from gateway.simulator.reel import Film, probe
from gateway.simulator.samples import sample_character, sample_performance

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
FILM = Film(width=1280, height=720, duration_s=4.0, codec="h264", frames=96)


def test_the_demo_runs_a_job_at_every_provider_on_given_files(tmp_path: Path) -> None:
    (tmp_path / "my face.png").write_bytes(sample_character())
    (tmp_path / "dance.mp4").write_bytes(sample_performance(3.0))
    inputs = ("--character", "my face.png", "--reference", "dance.mp4")
    # A real provider's key and a setting that would stop a gateway are none of its business.
    real = {
        "RUNWAYML_API_SECRET": "real",
        "MOTION_GATEWAY_SERVER__PORT": "eighty",
        "HTTP_PROXY": "http://[::1]:1",
    }
    done = run_process(tmp_path, "demo", "--json", *inputs, **real)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert [one["job"]["provider"] for one in document["jobs"]] == sorted(load_emulations())
    for one in document["jobs"]:
        assert one["job"]["status"] == "succeeded"
        assert one["job"]["simulated"] is True
        assert one["webhook"] == {"verified": True, "attempts": 1}
        film = probe(tmp_path / one["output"]["path"])
        assert (film.width, film.height) == (one["output"]["width"], one["output"]["height"]) == (1280, 720)
        assert film.duration_s == pytest.approx(3.0, abs=0.2)
    assert 0 < document["elapsed_s"] < 30


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "face.png").write_bytes(b"no picture")
    done = run_process(tmp_path, "demo", "--character", "face.png")
    assert done.returncode == 2
    assert "face.png" in done.stderr


@pytest.mark.parametrize(
    ("film", "problem"),
    [
        (FILM, []),
        (replace(FILM, height=718), ["has 1280 x 718 pixels, not 1280:720"]),
        (replace(FILM, duration_s=3.75), ["lasts 3.75 s, the reference 4.00 s"]),
        (replace(FILM, codec="hevc"), ["is hevc, not h264"]),
    ],
)
def test_a_film_that_is_not_what_was_asked_is_noticed(film: Film, problem: list[str]) -> None:
    assert film_problems(film, duration_s=4.0) == problem


class StoppedClock:
    """Stands still."""

    def __init__(self, now_s: int) -> None:
        self._now_s = now_s

    def now_ms(self) -> int:
        return self._now_s * 1000

    def monotonic_s(self) -> float:
        return float(self._now_s)


async def test_the_receiver_takes_genuine_webhooks_only() -> None:
    """Signed by the Standard Webhooks package, which shares no line with our signer."""
    now_s = 1_800_000_000
    body = '{"type": "job.succeeded", "data": {"id": "job_1"}}'
    signature = Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(now_s, UTC), body)
    good = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,AAAA {signature}",
    }

    def taken(
        headers: dict[str, str], content: str = body, *, at_s: int = now_s, secret: str = SECRET
    ) -> int:
        receiver = Receiver({}, StoppedClock(at_s))
        receiver.secret = secret
        return receiver._take(list(headers.items()), content.encode())

    assert taken(good, at_s=now_s + 299) == 204
    assert taken(good, at_s=now_s + 301) == 401
    assert taken(good, body + " ") == 401
    assert taken(good | {"webhook-id": "msg_2"}) == 401
    assert taken(good, secret="whsec_" + base64.b64encode(bytes(32)).decode()) == 401
    assert taken({}) == 401
