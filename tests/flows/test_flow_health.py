"""What a gateway says of itself: its providers, and whether it can take work."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from running_gateway import ADAPTERS, PROVIDERS, REGISTRY, StartGateway, environment

from gateway.app.gateway import Gateway
from gateway.settings import load


async def test_providers_are_shown_as_their_specs_say(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    shown = {one["name"]: one for one in (await running.client.get("/v1/providers")).json()["providers"]}
    assert set(shown) == set(PROVIDERS)
    for name, one in shown.items():
        spec = ADAPTERS[name].spec
        cancel = "none" if spec.cancel is None else "stops" if spec.cancel.stops else "detaches"
        assert (one["title"], one["enabled"], one["cancel"]) == (spec.title, True, cancel)
        assert one["accounts"] == [
            {
                "name": "default",
                "simulated": False,
                "slots_in_use": 0,
                "slots_limit": None,
                "unavailable": None,
            }
        ]
        assert [model["name"] for model in one["models"]] == [model.name for model in spec.models]


async def test_readiness_follows_the_worker(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    assert (await running.client.get("/health/ready")).json() == {"status": "ok", "reason": None}
    await running.gateway.stop_worker()
    reply = await running.client.get("/health/ready")
    assert (reply.status_code, reply.json()["status"]) == (503, "unavailable")
    assert (await running.client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("works", [True, False], ids=["works", "only serves"])
async def test_a_gateway_that_stops_is_not_ready_whether_it_works_or_not(
    tmp_path: Path,
    works: bool,  # noqa: FBT001 - a column
) -> None:
    urls = dict.fromkeys(PROVIDERS, "http://127.0.0.1:9")
    settings = load(REGISTRY.specs, environ=environment(tmp_path, urls), cwd=tmp_path).settings
    gateway = Gateway(settings, REGISTRY, works=works)
    try:
        if works:
            await gateway.start_worker()
        assert await gateway._readiness() is None
        stopping = asyncio.create_task(gateway.stop_worker())
        await asyncio.sleep(0)
        assert await gateway._readiness() == "it is stopping"
        await stopping
    finally:
        await gateway.close()
