"""The console as a browser has it: a log-in, a form's token, a job to settle, and text that would hurt."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from running_gateway import PATIENCE_S, Document, RunningGateway, fault

from gateway.service.keys import CreatedKey, Scope

HURT = "'\"></code><script>hurt()</script><img src=x onerror=hurt()>{{ 7 * 7 }}"
NOBODY = "0" * 32


async def operator_key(running: RunningGateway, *scopes: Scope) -> CreatedKey:
    return await running.gateway.parts.keys.create(name="ops", owner="ops", scopes=scopes or [Scope.OPERATOR])


def browser_of(running: RunningGateway) -> httpx.AsyncClient:
    """A client that keeps cookies, follows nothing, and says where its forms come from."""
    headers = {"Origin": running.url, "Sec-Fetch-Site": "same-origin"}
    return httpx.AsyncClient(base_url=running.url, headers=headers, trust_env=False, timeout=PATIENCE_S)


@asynccontextmanager
async def logged_in(running: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_of(running) as browser:
        key = await operator_key(running)
        entered = await browser.post("/console/login", data={"key": key.key})
        assert (entered.status_code, entered.headers["location"]) == (303, "/console")
        yield browser


async def token_of(browser: httpx.AsyncClient, page: str = "/console") -> str:
    found = re.search(r'name="token" value="([0-9a-f]+)"', (await browser.get(page)).text)
    assert found is not None
    return found[1]


async def held_job(running: RunningGateway) -> Document:
    running.break_(fault("accept_reset", provider="runway", times=1))
    return await running.held(await running.accept("runway"))
