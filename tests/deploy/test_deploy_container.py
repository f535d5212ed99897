"""The image: its linter, what is copied into it, and that it runs as nobody special."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

from deployed_files import DEPLOY, ROOT, unknown
from dockerfile import stages

from gateway.cli.root import COMMANDS

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
    assert json.loads(said["HEALTHCHECK"].partition("CMD ")[2])[0] == "python"
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


def test_the_image_has_every_package_that_the_gateway_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert wanted is not None
    names = re.findall(r'^\s*"([\w-]+)', wanted[1], re.MULTILINE)
    assert set(names) <= set(dict(PIN.findall((DEPLOY / "requirements.txt").read_text())))
