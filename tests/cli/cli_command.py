"""The command as a user has it: in an empty folder, with nothing of ours in the environment.

`run` does it in this process, which is quick; `run_process` and `started` in one of its own, where signals,
streams or logging matter.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from click.testing import CliRunner
from msgspec import Struct

from gateway.cli import main

COMMAND = Path(sys.executable).with_name("motion-gateway")
OURS = ("MOTION_GATEWAY_", "RUNWAYML_", "AIMLAPI_", "EACHLABS_")
PATIENCE_S = 60

CHARACTER = "https://samples.motion-gateway.example/character.png"
REFERENCE = "https://samples.motion-gateway.example/performance.mp4"


class Done(Struct, frozen=True):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


def run(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run a command to its end in this process; what it does not foresee is raised."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith(OURS))
    with chdir(folder):
        result = CliRunner().invoke(main, arguments, env=unset | environment, catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def run_process(folder: Path, *arguments: str, **environment: str) -> Done:
    """Run a command to its end in a process of its own."""
    done = subprocess.run(
        [str(COMMAND), *arguments],
        cwd=folder,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Started:
    """A command under way, its stderr in a file."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process, self._errors = process, errors

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def find(self, *patterns: str) -> list[str]:
        """Read what it prints until each pattern was seen; return what their groups matched."""
        assert self.process.stdout is not None
        found: dict[str, str] = {}
        for line in self.process.stdout:
            for pattern in patterns:
                match = re.search(pattern, line)
                if match is not None:
                    found.setdefault(pattern, match[1])
            if len(found) == len(patterns):
                return [found[pattern] for pattern in patterns]
        raise AssertionError(f"it ended without printing {set(patterns) - set(found)}: {self.errors}")


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[Started]:
    """Run a command until the test is done with it."""
    errors = folder / f"{arguments[0]}.stderr"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [str(COMMAND), *arguments],
            cwd=folder,
            env=_environment(environment),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    try:
        yield Started(process, errors)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def _environment(given: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | given
