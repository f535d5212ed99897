"""The image: its linter, what is copied into it, and that it runs as nobody special."""

from __future__ import annotations

import fnmatch
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from deployed_files import DEPLOY, ROOT, documents, unknown
from dockerfile import stages

from gateway.cli.root import COMMANDS

HEALTHCHECK = DEPLOY / "healthcheck.py"
HEALTH_PORTS = ("MOTION_GATEWAY_SERVER__PORT", "MOTION_GATEWAY_METRICS__PORT")
"""Where `serve` and `work` answer."""
HADOLINT = Path(sys.executable).with_name("hadolint")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_a_command_of_ours_as_an_ordinary_user_without_a_shell() -> None:
    final = stages()[-1]
    said = {one.name: one.text for one in final}
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", said["USER"])
    entry = json.loads(said["ENTRYPOINT"])
    (command,) = json.loads(said["CMD"])
    assert (entry, command in COMMANDS) == (["motion-gateway"], True)
    program, script = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    assert (program, Path(script).name) == ("python", HEALTHCHECK.name)
    assert not unknown(re.findall(r"(\w+)=", said["ENV"]))


def test_what_is_copied_is_there_and_let_in_and_nothing_else_is() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for one in stages()[0]:
        if one.name == "COPY":
            copied |= set(one.text.split()[:-1])
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch(secret, name) for secret in (".env", "deploy/secrets") for name in let_in)


def test_the_image_has_the_very_packages_that_the_tests_run_with() -> None:
    locked = dict(PIN.findall((ROOT / "requirements.lock").read_text()))
    for name in ("requirements.txt", "requirements-build.txt"):
        text = (DEPLOY / name).read_text()
        pins = dict(PIN.findall(text))
        assert pins
        assert pins.items() <= locked.items(), name
        assert text.count("--hash=sha256:") >= len(pins)


@pytest.mark.parametrize("answers", ["MOTION_GATEWAY_SERVER__PORT", "MOTION_GATEWAY_METRICS__PORT"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_healthy_when_serve_or_work_is_ready(answers: str, status: int, code: int) -> None:
    with probed(status) as (port, paths), closing(socket.create_server(("127.0.0.1", 0))) as closed:
        ports = dict.fromkeys(HEALTH_PORTS, str(closed.getsockname()[1])) | {answers: str(port)}
        closed.close()
        done = subprocess.run(
            [sys.executable, HEALTHCHECK], env={"http_proxy": "http://127.0.0.1:1", **ports}, check=False
        )
    assert (done.returncode, paths) == (code, ["/health/ready"])


def test_a_container_in_which_nobody_listens_is_not_healthy() -> None:
    ports = dict.fromkeys(HEALTH_PORTS, "1")
    assert subprocess.run([sys.executable, HEALTHCHECK], env=ports, check=False).returncode == 1


@contextmanager
def probed(status: int) -> Iterator[tuple[int, list[str]]]:
    """Answer on loopback; yields the port, and the paths that were asked for."""
    paths: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


def test_the_image_says_at_which_ports_its_health_is() -> None:
    said = {one.name: one.text for one in stages()[-1]}
    ports = dict(re.findall(r"(\w+__PORT)=(\d+)", said["ENV"]))
    assert ports.keys() == set(HEALTH_PORTS)
    assert list(ports.values()) == said["EXPOSE"].split()


def test_the_images_pg_dump_is_of_the_version_of_the_server_that_compose_runs() -> None:
    # A newer pg_restore sets what an older server refuses (transaction_timeout); an older pg_dump refuses.
    (compose,) = documents(DEPLOY / "compose.yaml")
    server = int(compose["services"]["postgres"]["image"].partition(":")[2])
    (client,) = re.findall(r"postgresql-client-(\d+)", " ".join(one.text for one in stages()[-1]))
    assert int(client) == server


def test_the_image_has_every_package_that_the_gateway_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert wanted is not None
    names = re.findall(r'^\s*"([\w-]+)', wanted[1], re.MULTILINE)
    assert set(names) <= set(dict(PIN.findall((DEPLOY / "requirements.txt").read_text())))
