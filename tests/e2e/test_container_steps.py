"""The steps of `deploy/Dockerfile`, without an engine: its own commands, in folders of the test's.

What is not tried is what only an engine does: the base image, the user, the layers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

sys.path.append(str(Path(__file__).parents[1] / "deploy"))

from deployed_files import ROOT
from dockerfile import Instruction, stages
from ports import reserve_port

pytestmark = pytest.mark.e2e

PATIENCE_S = 240


class Image:
    """What the Dockerfile makes, below a folder instead of /."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.build, self.final = stages()

    def moved(self, text: str) -> str:
        """A command with the image's absolute paths below our folder."""
        return re.sub(r"(?<![\w.])/(opt|src|var/lib)\b", rf"{self.root}/\1", text)

    def make(self) -> None:
        """Carry out the first stage."""
        (self.root / "opt").mkdir(parents=True)
        for one in self.build:
            if one.name == "WORKDIR":
                Path(self.moved(one.text)).mkdir(parents=True)
            elif one.name == "COPY":
                self._copy(one)
            elif one.name == "RUN":
                # `python` is the base image's: here the one that runs the tests.
                command = re.sub(r"(^|&& )python ", rf"\g<1>{sys.executable} ", self.moved(one.text))
                self._run(command)

    def _copy(self, one: Instruction) -> None:
        *sources, target = one.text.split()
        folder = self.root / "src" / target
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, folder, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder)

    def _run(self, command: str) -> None:
        done = subprocess.run(
            ["sh", "-ec", command], cwd=self.root / "src", capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def environment(self) -> dict[str, str]:
        """The final stage's ENV, and no more than that."""
        (line,) = [one.text for one in self.final if one.name == "ENV"]
        return {name: self.moved(value) for name, value in re.findall(r"(\w+)=(\S+)", line)}

    def said(self, name: str) -> str:
        (text,) = [one.text for one in self.final if one.name == name]
        return text

    def command(self, *arguments: str) -> list[str]:
        entry = [*json.loads(self.said("ENTRYPOINT")), *(arguments or json.loads(self.said("CMD")))]
        found = shutil.which(entry[0], path=self.environment()["PATH"])
        assert found is not None
        return [found, *entry[1:]]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    made = Image(tmp_path_factory.mktemp("image"))
    made.make()
    (made.root / "var/lib/motion-gateway").mkdir(parents=True)
    return made


def healthy(image: Image, environment: dict[str, str]) -> bool:
    """What the engine would find out by HEALTHCHECK."""
    argv = [image.moved(part) for part in json.loads(image.said("HEALTHCHECK").partition("CMD ")[2])]
    argv[0] = str(image.root / "opt/motion-gateway/bin" / argv[0])
    return subprocess.run(argv, env=environment, capture_output=True, check=False).returncode == 0


@contextmanager
def running(image: Image, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(image.command(), env=environment, cwd=image.root / "var/lib/motion-gateway")
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)


def test_the_images_steps_make_a_gateway_that_serves(image: Image) -> None:
    port = reserve_port()
    environment = {
        **image.environment(),
        "MOTION_GATEWAY_SERVER__PORT": str(port),
        "RUNWAYML_API_SECRET": "not-a-real-key",
        "RUNWAYML_BASE_URL": "http://127.0.0.1:1",
    }
    folder = image.root / "var/lib/motion-gateway"
    made = subprocess.run(
        image.command("keys", "create", "--name", "first"),
        env=environment, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not healthy(image, environment)
    with running(image, environment) as process:
        while not healthy(image, environment):
            assert process.poll() is None, "it ended by itself"
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        reply = httpx.get(f"http://127.0.0.1:{port}/v1/providers", headers=headers, trust_env=False)
        assert reply.status_code == 200
    assert process.returncode == 0, "SIGTERM ends it well"
    assert (folder / "jobs.db").exists()


def test_the_image_has_no_tools_of_the_tests(image: Image) -> None:
    python = image.root / "opt/motion-gateway/bin/python"
    script = (
        "import importlib.util as u; print([n for n in ('pytest', 'mypy', 'hypothesis') if u.find_spec(n)])"
    )
    done = subprocess.run([python, "-c", script], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
