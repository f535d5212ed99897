"""Runway's own client, pointed at the simulator, sees what it would see at Runway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import runwayml
from runwayml.lib import polling

from gateway.simulator import FaultRule, FaultScript, SimulatorServer
from gateway.simulator.film import probe
from gateway.simulator.samples import SAMPLE_HOST
from providers.contract.emulation import Rules

KEY = "key_" + "0" * 128
ASKED: dict[str, Any] = {
    "model": "act_two",
    "character": {"type": "image", "uri": f"https://{SAMPLE_HOST}/character.png"},
    "reference": {"type": "video", "uri": f"https://{SAMPLE_HOST}/performance.mp4"},
    "ratio": "832:1104",
    "body_control": True,
    "expression_intensity": 4,
}
StartSimulator = Callable[..., Awaitable[SimulatorServer]]


@pytest.fixture(autouse=True)
def _poll_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client sleeps 6 s +/- 1.5 s before every poll; its own two constants say so."""
    monkeypatch.setattr(polling, "POLL_TIME", 0.05)
    monkeypatch.setattr(polling, "POLL_JITTER", 0.0)


def client_of(server: SimulatorServer, **options: Any) -> runwayml.AsyncRunwayML:
    return runwayml.AsyncRunwayML(api_key=KEY, base_url=f"{server.url}/runway", **options)


async def test_create_wait_download_delete(simulator_server: StartSimulator) -> None:
    server = await simulator_server(render=True, rules=Rules(keys=frozenset({KEY})))
    async with client_of(server, max_retries=0) as client, httpx.AsyncClient(trust_env=False) as http:
        created = await client.character_performance.create(**ASKED)
        task = await created.wait_for_task_output(timeout=30)
        assert task.status == "SUCCEEDED"
        assert task.id == created.id
        again = await client.tasks.retrieve(created.id)
        assert again.status == "SUCCEEDED"
        assert task.output != again.output
        shown = probe((await http.get(task.output[0])).content)
        assert (shown.width, shown.height, shown.codec) == (832, 1104, "h264")
        assert abs(shown.duration_s - 4.0) < 0.1
        await client.tasks.delete(created.id)
        with pytest.raises(runwayml.NotFoundError):
            await client.tasks.retrieve(created.id)
        assert (await http.get(task.output[0])).status_code == 404


async def test_the_synchronous_client_too(simulator_server: StartSimulator) -> None:
    server = await simulator_server()

    def run() -> str:
        with runwayml.RunwayML(api_key=KEY, base_url=f"{server.url}/runway", max_retries=0) as client:
            task = client.character_performance.create(**ASKED).wait_for_task_output(timeout=30)
            client.tasks.delete(task.id)
            with pytest.raises(runwayml.NotFoundError):
                client.tasks.retrieve(task.id)
            return task.status

    assert await asyncio.to_thread(run) == "SUCCEEDED"


async def test_a_failure_is_raised_with_its_code(simulator_server: StartSimulator) -> None:
    rule = FaultRule(operation="create", fault="fail:content_rejected")
    server = await simulator_server(faults=FaultScript(rules=(rule,)))
    async with client_of(server) as client:
        created = await client.character_performance.create(**ASKED)
        with pytest.raises(polling.TaskFailedError) as caught:
            await created.wait_for_task_output(timeout=30)
        assert caught.value.task_details.status == "FAILED"
        assert caught.value.task_details.failure_code == "SAFETY.INPUT.IMAGE"


async def test_the_client_pays_three_times_for_one_bad_gateway(simulator_server: StartSimulator) -> None:
    """Why the gateway exists: the client retries what was accepted, and the simulator counts."""
    server = await simulator_server(
        faults=FaultScript(rules=(FaultRule(operation="create", fault="accept_502"),))
    )
    async with client_of(server) as client, httpx.AsyncClient(trust_env=False) as http:
        with pytest.raises(runwayml.InternalServerError):
            await client.character_performance.create(**ASKED)
        assert (await http.get(f"{server.url}/_stats")).json()["accepted"]["runway"] == 3


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ratio": "1:1"}, runwayml.BadRequestError),
        ({"expression_intensity": 9}, runwayml.BadRequestError),
        ({"character": {"type": "image", "uri": "http://media.example/a.png"}}, runwayml.BadRequestError),
        ({"character": {"type": "image", "uri": "https://192.0.2.1/a.png"}}, runwayml.BadRequestError),
    ],
)
async def test_a_bad_request_is_refused(
    simulator_server: StartSimulator, change: dict[str, Any], error: type[Exception]
) -> None:
    server = await simulator_server()
    async with client_of(server) as client:
        with pytest.raises(error):
            await client.character_performance.create(**(ASKED | change))


async def test_a_wrong_key_is_refused(simulator_server: StartSimulator) -> None:
    server = await simulator_server(rules=Rules(keys=frozenset({"key_other"})))
    async with client_of(server) as client:
        with pytest.raises(runwayml.AuthenticationError):
            await client.organization.retrieve()


async def test_the_free_call_about_the_organization_answers(simulator_server: StartSimulator) -> None:
    server = await simulator_server()
    async with client_of(server) as client:
        organization = await client.organization.retrieve()
    assert organization.credit_balance > 0
