"""One process with open streams, or the one that ends their jobs: `finishing.py serve|end DATABASE PORT`.

`serve` prints an API key and the ids of the jobs it stored; for SQLite, which one process alone may use, it
ends them itself when a line comes in. `end` reads ids, and ends them at the rate given.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from functools import partial
from pathlib import Path

import uvloop

from gateway.api.server import bind, build_server
from gateway.app.gateway import Gateway
from gateway.jobs.job import Attempt, Job, JobRequest, Output
from gateway.jobs.transitions import Step
from gateway.jobs.transitions.step import ended
from gateway.registry import load_adapters
from gateway.service.intake import NewJob
from gateway.service.keys import Scope
from gateway.settings import load
from gateway.telemetry import Redactor, configure
from providers.contract.motion import Character, CharacterType, Reference
from providers.contract.status import JobStatus

AT_ONCE = 200


def a_gateway(database: str) -> Gateway:
    """A gateway that carries nothing out and lets everybody watch."""
    registry = load_adapters()
    environ = {spec.key_env: "bench-key-0123456789" for spec in registry.specs}
    environ |= {
        "MOTION_GATEWAY_DATABASE": database,
        "MOTION_GATEWAY_SECRET_KEY": "a key for a bench",
        "MOTION_GATEWAY_SERVER__WATCHERS_PER_OWNER": "30000",
        "MOTION_GATEWAY_SERVER__WATCHERS_MAX": "30000",
    }
    settings = load(registry.specs, environ=environ, cwd=Path.cwd()).settings
    configure("json", "warning", Redactor(settings.secrets()), sys.stderr)
    return Gateway(settings, registry, works=False)


async def store(gateway: Gateway, count: int) -> list[str]:
    """Store jobs, some at once."""
    url = "https://media.example.com/"
    new = NewJob(
        owner="bench",
        request=JobRequest(
            character=Character(type=CharacterType.IMAGE, url=url + "hero.png"),
            reference=Reference(url=url + "act.mp4", duration_s=8.5),
            deadline_s=86_400,
        ),
        metadata={"order": "8812", "tenant": "north"},
        webhook_secret=None,
        idempotency_key=None,
        fingerprint="0" * 64,
    )
    made: list[str] = []
    while len(made) < count:
        batch = (gateway.parts.intake.accept(new) for _ in range(min(AT_ONCE, count - len(made))))
        made += [accepted.job_id for accepted in await asyncio.gather(*batch)]
    return made


def succeeded(job: Job, _attempts: tuple[Attempt, ...], *, now_ms: int) -> Step:
    """End a job as a poll would."""
    output = Output(url="https://cdn.example/film.mp4", content_type="video/mp4", expires_at_ms=now_ms)
    return ended(job, JobStatus.SUCCEEDED, now_ms, outputs=(output,), progress=1.0)


async def end(gateway: Gateway, job_ids: list[str], per_s: float) -> None:
    """End jobs at a steady rate, straight in the store."""
    loop = asyncio.get_running_loop()
    started, ending = loop.time(), set[asyncio.Task[object]]()
    for number, job_id in enumerate(job_ids):
        await asyncio.sleep(max(0.0, started + number / per_s - loop.time()))
        decide = partial(succeeded, now_ms=gateway.parts.store.clock.now_ms())
        ending.add(asyncio.create_task(gateway.parts.tools.record.transition(job_id, decide)))
    await asyncio.gather(*ending)


async def line() -> str:
    """The next line of the one who started this."""
    return await asyncio.to_thread(sys.stdin.readline)


async def main() -> None:
    role, database = sys.argv[1:3]
    port, jobs, per_s = (int(one) for one in sys.argv[3:])
    gateway = a_gateway(database)
    if role == "end":
        await end(gateway, json.loads(await line()), per_s)
        await gateway.close()
        return
    key = await gateway.parts.keys.create(name="bench", owner="bench", scopes=[Scope.JOBS])
    made = await store(gateway, jobs)
    server = build_server(gateway.asgi, gateway.settings.server)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    serving = asyncio.create_task(server.serve(sockets=[bind("127.0.0.1", port)]))
    print(json.dumps([key.key, made]), flush=True)  # noqa: T201 - whoever started it reads this
    if await line() == "end\n":
        await end(gateway, made, per_s)
        await line()
    gateway.hang_up()
    server.should_exit = True
    await serving
    await gateway.close()


if __name__ == "__main__":
    uvloop.run(main())
