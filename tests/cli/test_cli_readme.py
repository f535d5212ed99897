"""What the README prints works as printed."""

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

import pytest

README = Path(__file__).parents[2] / "README.md"
COMMAND = Path(sys.executable).with_name("motion-gateway")
PRINTED_URL = "http://127.0.0.1:8080"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")


@contextmanager
def started(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command of ours in an empty folder, with nothing else of ours in its environment."""
    ours = ("MOTION_GATEWAY_", "RUNWAYML_", "AIMLAPI_", "EACHLABS_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    process = subprocess.Popen(
        [str(COMMAND), *arguments],
        cwd=folder,
        env={**clean, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def find(process: subprocess.Popen[str], *patterns: str) -> list[str]:
    """Read the command's output until each pattern was seen; return what their groups matched."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        for pattern in patterns:
            match = re.search(pattern, line)
            if match is not None:
                found.setdefault(pattern, match[1])
        if len(found) == len(patterns):
            return [found[pattern] for pattern in patterns]
    raise AssertionError(f"the command ended without printing {set(patterns) - set(found)}")


def curl_lines() -> str:
    """Return the block of the README that posts a job."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    return str(next(block for block in blocks if "curl" in block))


def run_script(script: str, url: str, key: str) -> list[dict[str, object]]:
    """Run the block with this server and key; return the documents it prints."""
    assert PRINTED_URL in script
    assert "mgk_..." in script
    script = script.replace(PRINTED_URL, url).replace("mgk_...", key)
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30)
    decoder, text, documents = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        document, end = decoder.raw_decode(text)
        documents.append(document)
        text = text[end:].strip()
    return documents


def wait_until_finished(script: str, url: str, key: str) -> dict[str, object]:
    """Run the block again and again, as a person would: the same key replays the same job."""
    for _ in range(200):
        posted, listed = run_script(script, url, key)
        jobs = listed["jobs"]
        assert isinstance(jobs, list)
        assert len(jobs) == 1
        if jobs[0]["finished_at"] is not None:
            assert posted["id"] == jobs[0]["id"]
            finished: dict[str, object] = jobs[0]
            return finished
        subprocess.run(["sleep", "0.2"], check=True)
    raise AssertionError("the job did not finish")


def test_nothing_is_left_to_be_filled_in() -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", README.read_text()) == []


@needs_curl
def test_the_lines_of_curl_work_against_a_serve_with_nothing_configured(tmp_path: Path) -> None:
    with started(tmp_path, "serve", "--port", "0") as serve:
        url, key = find(serve, r"URL\s+(http://\S+)", r"(mgk_\S+)")
        job = wait_until_finished(curl_lines(), url, key)
    assert job["status"] == "succeeded"
    assert job["simulated"] is True
    assert job["outputs"]


@needs_curl
def test_a_key_and_a_base_url_are_all_that_a_provider_needs(tmp_path: Path) -> None:
    with started(tmp_path, "simulate", "--port", "0", "--run-s", "1") as simulate:
        (base,) = find(simulate, r"RUNWAYML_BASE_URL=(http://\S+)")
        environment = {"RUNWAYML_API_SECRET": "key_" + "5" * 128, "RUNWAYML_BASE_URL": base}
        with started(tmp_path, "serve", "--port", "0", **environment) as serve:
            url, key = find(serve, r"URL\s+(http://\S+)", r"(mgk_\S+)")
            job = wait_until_finished(curl_lines(), url, key)
    assert job["status"] == "succeeded"
    assert job["provider"] == "runway"
    assert job["simulated"] is False
