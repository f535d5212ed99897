"""`serve` dies at every named place, one by one: nothing is paid twice, lost, or told under two ids."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from audit import check_database, check_messages, check_payments, to_be_told, told
from careful_client import CarefulClient, held_of, is_settled
from engines import ENGINES, fresh
from msgspec import Struct
from patience import WAIT_S
from running_gateway import PROVIDERS, Document, client_of, environment, fault, stats_of
from serve_process import ServeProcess, made_key
from slow_providers import ENDLESS, open_providers
from webhook_receiver import Receiver, open_receiver

from gateway import crash_points
from gateway.crash_points import Point, arm
from gateway.errors import SettingsError
from gateway.service.keys import Scope
from gateway.simulator import FaultScript, SimulatorServer
from gateway.worker.submit import DIED

CHANGES = [f"{Point.RECORD_BEFORE_COMMIT}:{number}" for number in (1, 3, 6, 9)]
"""Intents, acceptances and ends, whichever come in that place."""
SWEPT = [*Point, *CHANGES]
SLOTS = {name: 2 if name == "runway" else 1 for name in PROVIDERS}


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of an empty one."""
    with fresh(request.param, tmp_path) as settings:
        yield settings


class Scene(Struct, frozen=True, kw_only=True):
    """A gateway that is about to die, and whom it deals with."""

    providers: SimulatorServer
    receiver: Receiver
    victim: ServeProcess
    """Not started yet."""
    http: httpx.AsyncClient


@asynccontextmanager
async def open_scene(
    tmp_path: Path, database: dict[str, str], *scopes: Scope, **settings: str
) -> AsyncIterator[Scene]:
    """Set up everything around a gateway's process; the scopes are those of the client's key."""
    async with (
        asyncio.timeout(WAIT_S),
        open_providers(run_s=0.3, answer_s=0.02) as providers,
        open_receiver() as receiver,
    ):
        environ = environment(
            tmp_path,
            {name: f"{providers.url}/{name}" for name in PROVIDERS},
            WEBHOOKS__ALLOW_HTTP="true",
            WEBHOOKS__ALLOWED_NETWORKS="127.0.0.1/32",
            **settings,
            **database,
        )
        key = await made_key(environ, tmp_path, *scopes)
        victim = ServeProcess(environ, tmp_path / "serve.log")
        async with client_of(victim.url, key.key) as http:
            yield Scene(providers=providers, receiver=receiver, victim=victim, http=http)


async def dies_and_returns(victim: ServeProcess) -> None:
    assert await victim.died() == -signal.SIGKILL
    await victim.start()


async def cancelled_once_accepted(client: CarefulClient, job_id: str) -> None:
    while True:
        job = await client.job(job_id)
        if is_settled(job) or any(attempt["provider_ref"] for attempt in job["attempts"]):
            await client.cancel(job_id)
            return
        await asyncio.sleep(0.02)


async def some_jobs(client: CarefulClient) -> list[str]:
    """One at each provider, and one that is cancelled."""
    ids = await asyncio.gather(*(client.post(number) for number in range(len(PROVIDERS))))
    unwanted = await client.post(len(PROVIDERS), mark=ENDLESS, provider="runway")
    await cancelled_once_accepted(client, unwanted)
    return [*ids, unwanted]


async def a_doubt_settled_by_hand(client: CarefulClient) -> list[str]:
    """One in doubt, given up by an operator who repeats what was not answered."""
    job_id = await client.post(0, provider="runway")
    while (await client.job(job_id))["held"] is None:  # noqa: ASYNC110 - another process's doing
        await asyncio.sleep(0.02)
    reply = await client.ask("POST", f"/v1/jobs/{job_id}/resolve", json={"action": "fail"})
    assert (reply.status_code, reply.json()["type"]) == (409, "/problems/job-not-held"), "it was not told"
    return [job_id]


async def doubts_of(client: CarefulClient, job_id: str) -> list[str]:
    """Why nobody knew what became of a job's submissions."""
    events = [one for one in await client.events(job_id) if one["type"] == "attempt.unknown"]
    return [str(one["data"]["note"]["reason"]) for one in events]


async def found_or_died(client: CarefulClient) -> list[Document]:
    """Every job, once each has ended or is held for a death: what an answer left in doubt is found."""
    while True:
        jobs = await client.settled()
        if all([await doubts_of(client, job_id) == [DIED] for job_id in held_of(jobs)]):
            return jobs
        await asyncio.sleep(0.1)


LOST = {
    Point.RECONCILE_AFTER_RESPONSE: fault("accept_502", provider="aimlapi", times=1),
    Point.RECONCILE_AFTER_COMMIT: fault("accept_502", provider="aimlapi", times=1),
    Point.RESOLVE_AFTER_COMMIT: fault("accept_502", provider="runway", times=1),
}
"""What must go wrong for a place to be reached."""


@pytest.mark.parametrize("at", SWEPT)
async def test_a_death_at_any_place_pays_nothing_twice_and_loses_nothing(
    tmp_path: Path, database: dict[str, str], at: str
) -> None:
    settings = {
        # Or a poll that misses what was cancelled may end it before the cancel does.
        "PROVIDERS__RUNWAY__POLL_SCALE": "0.05",
        # As many slots as jobs: what a death leaves behind has the last one.
        **{f"PROVIDERS__{name.upper()}__MAX_IN_FLIGHT": str(slots) for name, slots in SLOTS.items()},
    }
    async with open_scene(tmp_path, database, Scope.JOBS, Scope.OPERATOR, **settings) as scene:
        victim, receiver = scene.victim, scene.receiver
        if at in LOST:
            scene.providers.simulator._faults.replace(FaultScript(rules=(LOST[Point(at)],)))
        client = CarefulClient(scene.http, receiver=receiver.url())
        await victim.start(**{crash_points.VARIABLE: at})
        async with asyncio.TaskGroup() as both:
            both.create_task(dies_and_returns(victim))
            deed = a_doubt_settled_by_hand if at == Point.RESOLVE_AFTER_COMMIT else some_jobs
            ids = await deed(client)
            jobs = await found_or_died(client)
            await receiver.received(lambda seen: told(seen) >= to_be_told(jobs))
        jobs = await client.settled()
        assert [job["id"] for job in jobs] == sorted(set(ids), reverse=True)
        for job_id in held_of(jobs):
            assert await doubts_of(client, job_id) == [DIED]
        assert await victim.end(signal.SIGTERM) == 0
        check_payments(await stats_of(scene.providers), jobs)
    check_messages(receiver.messages)
    if at == Point.WEBHOOK_AFTER_SEND:
        assert max(Counter(message.id for message in receiver.messages).values()) > 1
    assert check_database(database["DATABASE"]) == len(ids)


@pytest.mark.parametrize("at", [Point.WEBHOOK_AFTER_SEND, Point.WEBHOOK_AFTER_COMMIT])
async def test_a_death_around_a_send_to_an_endpoint_keeps_its_id(
    tmp_path: Path, database: dict[str, str], at: Point
) -> None:
    async with open_scene(tmp_path, database, Scope.JOBS) as scene:
        victim, receiver = scene.victim, scene.receiver
        client = CarefulClient(scene.http)
        await victim.start(**{crash_points.VARIABLE: at})
        made = await client.ask("POST", "/v1/webhook-endpoints", json={"url": receiver.url()})
        await client.post(0)
        await dies_and_returns(victim)
        path = f"/v1/webhook-endpoints/{made.json()['id']}/deliveries"
        found: list[Document] = []
        while not found or found[0]["state"] != "delivered":
            found = (await client.ask("GET", path)).json()["deliveries"]
            await asyncio.sleep(0.02)
        assert await victim.end(signal.SIGTERM) == 0
    check_messages(receiver.messages)
    again = at is Point.WEBHOOK_AFTER_SEND
    assert len(receiver.messages) == 1 + again
    assert {message.id for message in receiver.messages} == {found[0]["webhook_id"]}
    assert check_database(database["DATABASE"]) == 1


@pytest.mark.parametrize("wish", ["nowhere", "submit.after_intent:0", "submit.after_intent:", "Submit", ":1"])
def test_a_place_that_is_none_is_refused(wish: str) -> None:
    with pytest.raises(SettingsError, match=r"submit\.after_intent"):
        arm({crash_points.VARIABLE: wish})


async def test_a_start_with_a_wrong_place_ends_with_78(tmp_path: Path) -> None:
    environ = environment(tmp_path, {"runway": "http://127.0.0.1:9"})
    victim = ServeProcess(environ, tmp_path / "serve.log")
    with pytest.raises(AssertionError, match=crash_points.VARIABLE):
        await victim.start(**{crash_points.VARIABLE: "nowhere"})
    assert await victim.died() == 78
