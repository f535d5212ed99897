"""`listen`: a real gateway delivers to it; what is genuine, what comes again, and what somebody made up."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_command import CHARACTER, PATIENCE_S, REFERENCE, Started, run, started
from rich.console import Console

from gateway.cli.listen.desk import Heard, Verdict
from gateway.cli.listen.lines import row_of
from gateway.webhooks.signing import decode_secret, sign

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
VARIABLE = "MOTION_GATEWAY_WEBHOOK_SECRET"
URL, KEY = r"URL\s+(http://\S+)", r"API key\s+(mgk_\S+)"
AT = r"Listening at (http://\S+)"

Document = dict[str, Any]


class Listening:
    """A `listen --json` under way."""

    def __init__(self, started_: Started) -> None:
        self._started = started_
        self.url = self._url()

    def _url(self) -> str:
        """It says where on stderr: stdout is for events."""
        deadline = time.monotonic() + PATIENCE_S
        while "Listening at " not in self._started.errors:
            assert self._started.process.poll() is None, self._started.errors
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self._started.errors.partition("Listening at ")[2].split()[0]

    def heard(self) -> Document:
        """The next line."""
        assert self._started.process.stdout is not None
        document: Document = json.loads(self._started.process.stdout.readline())
        return document

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        return httpx.post(self.url, content=body, headers=headers, trust_env=False).status_code

    def interrupted(self) -> tuple[int, str]:
        """Press Ctrl-C; the exit code, and what it said to people."""
        self._started.process.send_signal(signal.SIGINT)
        code = self._started.process.wait(timeout=10)
        return code, self._started.errors


@contextmanager
def listening(folder: Path, *options: str, secret: str = SECRET) -> Iterator[Listening]:
    with started(folder, "listen", "--json", "--port", "0", *options, **{VARIABLE: secret}) as started_:
        yield Listening(started_)


def message(**said: Any) -> bytes:
    return json.dumps({"type": "job.succeeded", "sequence": 7, "data": {"id": "job_1"}} | said).encode()


def signed(body: bytes, *, message_id: str = "msg_1", at_s: float | None = None) -> dict[str, str]:
    at_s = time.time() if at_s is None else at_s
    return sign([decode_secret(SECRET)], message_id=message_id, timestamp_s=int(at_s), body=body)


def test_what_a_gateway_delivers_is_verified(tmp_path: Path) -> None:
    """And tried again where it was not taken, with the id that it had."""
    with listening(tmp_path, "--answer", "500") as listen:
        opened = {
            "MOTION_GATEWAY_WEBHOOKS__ALLOW_HTTP": "true",
            "MOTION_GATEWAY_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
            "MOTION_GATEWAY_WEBHOOKS__SCHEDULE_S": "0, 0.1",
        }
        with started(tmp_path, "serve", "--port", "0", **opened) as serve:
            url, key = serve.find(URL, KEY)
            job = {
                "character": {"type": "image", "url": CHARACTER},
                "reference": {"type": "video", "url": REFERENCE},
                "webhook": {
                    "url": listen.url,
                    "secret": SECRET,
                    "events": ["job.cancelled", "job.succeeded"],
                },
            }
            headers = {"Authorization": f"Bearer {key}"}
            with httpx.Client(base_url=url, headers=headers, trust_env=False) as http:
                job_id = http.post("/v1/jobs", json=job).json()["id"]
                http.post(f"/v1/jobs/{job_id}/cancel")
            first, second = listen.heard(), listen.heard()
        for heard, verdict, times in ((first, "verified", 1), (second, "again", 2)):
            assert (heard["verdict"], heard["times"], heard["answered"]) == (verdict, times, 500)
            assert heard["job_id"] == job_id
            assert heard["type"] == f"job.{heard['status']}"
            assert heard["sequence"] > 1
        assert first["webhook_id"] == second["webhook_id"]
        code, said = listen.interrupted()
    assert (code, said.splitlines()[-1]) == (0, "2 received: 1 verified, 1 again")
    assert "Traceback" not in said
    assert SECRET not in said


def test_what_is_not_genuine_is_shown_as_what_it_is_and_answered_401(tmp_path: Path) -> None:
    body = message()
    calls = [
        (body, signed(body), 204, "verified"),
        (body, signed(body), 204, "again"),
        (body + b" ", signed(body), 401, "forged"),
        (body, signed(body) | {"webhook-signature": "v1,AAAA"}, 401, "forged"),
        (body, signed(body, at_s=time.time() - 400), 401, "stale"),
        (body, signed(body, at_s=time.time() + 400), 401, "stale"),
        (body, {}, 401, "unsigned"),
        (b"\xff" * 100, {}, 401, "unsigned"),
        (b"[" * 100_000, {}, 401, "unsigned"),
        (b"x" * 2_000_000, {}, 413, "unread"),
        (body, signed(body, message_id="msg_2"), 204, "verified"),
    ]
    with listening(tmp_path) as listen:
        for content, headers, status, verdict in calls:
            assert listen.post(content, headers) == status
            heard = listen.heard()
            assert (heard["verdict"], heard["answered"]) == (verdict, status)
        assert httpx.get(listen.url, trust_env=False).status_code == 405
        code, said = listen.interrupted()
    told = "11 received: 2 verified, 1 again, 3 unsigned, 2 stale, 2 forged, 1 unread"
    assert (code, said.splitlines()[-1]) == (0, told)


def test_a_forged_message_does_not_use_up_the_id_of_a_genuine_one(tmp_path: Path) -> None:
    body = message()
    with listening(tmp_path) as listen:
        assert listen.post(body, signed(body) | {"webhook-signature": "v1,AAAA"}) == 401
        assert listen.heard()["verdict"] == "forged"
        listen.post(body, signed(body))
        assert listen.heard()["verdict"] == "verified"


def test_an_event_that_others_overtook_is_told(tmp_path: Path) -> None:
    with listening(tmp_path) as listen:
        found = []
        for number, sequence in enumerate((3, 2, 3, 9)):
            body = message(sequence=sequence)
            listen.post(body, signed(body, message_id=f"msg_{number}"))
            found.append(listen.heard()["overtaken"])
    assert found == [False, True, False, False]


def test_people_read_a_line_each_and_a_sum(tmp_path: Path) -> None:
    body, odd = message(data={"id": "job_1", "status": "succeeded"}), message(type="x\x1b[2J\n" + "y" * 500)
    with started(tmp_path, "listen", "--port", "0", **{VARIABLE: SECRET}) as listen:
        (url,) = listen.find(AT)
        for content, headers in ((body, signed(body)), (body, signed(body)), (odd, {})):
            httpx.post(url, content=content, headers=headers, trust_env=False)
        listen.process.send_signal(signal.SIGINT)
        assert listen.process.wait(timeout=10) == 0
        assert listen.process.stdout is not None
        said = listen.process.stdout.read()
    # The line on how a gateway is let call here comes first.
    hint, first, second, third, total = said.splitlines()
    assert "MOTION_GATEWAY_WEBHOOKS__ALLOW_HTTP=true" in hint
    assert first.split()[1:] == ["job.succeeded", "job_1", "succeeded", "#7", "verified", "->", "204"]
    assert second.endswith("again (2nd) -> 204")
    assert "\x1b" not in third
    assert "unsigned -> 401: a header is missing" in third
    assert total == "3 received: 1 verified, 1 again, 1 unsigned"


def test_a_reader_that_goes_away_ends_it(tmp_path: Path) -> None:
    body = message()
    with listening(tmp_path) as listen:
        process = listen._started.process
        assert process.stdout is not None
        process.stdout.close()
        for number in range(2):
            with_id = signed(body, message_id=f"msg_{number}")
            try:
                listen.post(body, with_id)
            except httpx.HTTPError:  # it may have stopped already
                break
        assert process.wait(timeout=10) == 1
        process.stdout = None  # or it would be read once more in the end
        assert "Traceback" not in listen._started.errors


@pytest.mark.parametrize("secret", ["hunter2", "whsec_aHVudGVyMg==", "whsk_hunter2"])
def test_a_secret_that_is_none_is_wrong_usage_and_not_repeated(tmp_path: Path, secret: str) -> None:
    done = run(tmp_path, "listen", **{VARIABLE: secret})
    assert done.returncode == 2
    assert "followed by the base64" in done.stderr
    assert secret.removeprefix("whsec_").removeprefix("whsk_") not in done.stderr


def test_without_a_secret_it_shows_what_comes_and_says_how_to_have_it_verified(tmp_path: Path) -> None:
    body = message()
    with listening(tmp_path, secret="") as listen:
        answered = [listen.post(body, headers) for headers in (signed(body), {})]
        heard = [listen.heard() for _ in answered]
        _, said = listen.interrupted()
    assert answered == [204, 204]
    assert [(one["verdict"], one["job_id"]) for one in heard] == [("unverified", "job_1")] * 2
    assert VARIABLE in said
    assert "--secret-file" in said
    helped = run(tmp_path, "listen", "--help").stdout
    assert "--secret " not in helped, "what is on the command line, everybody can read"
    assert "8090" in helped, "where it listens can be said before it is started"


def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    body = message()
    with listening(tmp_path, "--secret-file", str(file), secret="") as listen:
        assert listen.post(body, signed(body)) == 204


def test_its_variables_are_no_settings_that_serve_would_refuse(tmp_path: Path) -> None:
    done = run(tmp_path, "keys", "list", **{VARIABLE: SECRET, f"{VARIABLE}_FILE": "/nowhere"})
    assert "is not a setting" not in done.stderr


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_line_fits_the_terminal_and_shows_the_verdict(width: int) -> None:
    said = {
        "job_id": "job_" + "1" * 32,
        "webhook_id": "msg_1",
        "type": "job.succeeded",
        "status": "succeeded",
    }
    for verdict in Verdict:
        heard = Heard(at_ms=0, verdict=verdict, answered=204, sequence=1234, times=2, overtaken=True, **said)
        console = Console(width=width, file=StringIO())
        console.print(row_of(heard, width))
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]  # it is the one given
        assert len(lines) == 1
        assert f"{verdict} -> 204" in lines[0].replace("again (2nd)", "again")
        assert "#1234" in lines[0]
