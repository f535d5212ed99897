"""A gateway that ends jobs and tells their receivers, in a process of its own, on its starter's word.

It reads JSON from stdin and answers in JSON, a line each; `DeliveringProcess` starts it. Its jobs are stored
as running at a provider that is not asked about them for an hour, and end when its starter says so.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from msgspec.structs import replace

from gateway.app.gateway import Gateway
from gateway.app.heap import keep_what_is_loaded
from gateway.ids import ATTEMPT
from gateway.jobs.job import Attempt, AttemptState, Job, JobRequest, JobWebhook, Output
from gateway.jobs.transitions import Step, TaskKind, accepted, begin
from gateway.jobs.transitions.step import ended
from gateway.registry import load_adapters
from gateway.service.intake import NewJob
from gateway.service.keys import Scope
from gateway.settings import load
from gateway.storage.tasks import drop
from gateway.telemetry import Redactor, configure
from gateway.webhooks.events import DEFAULT_EVENTS
from providers.contract.motion import Character, CharacterType, Reference
from providers.contract.status import JobStatus

AT_ONCE = 200
PROVIDER = "runway"
HOUR_MS = 3_600_000
LINE_BYTES = 2**24
SETTINGS = {
    "SECRET_KEY": "a key for tests",
    "WEBHOOKS__ALLOW_HTTP": "true",
    "WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.1/32",
}


class DeliveringProcess:
    """The process, as its starter sees it.

    Args:
        database: its URL.
        log: where it writes what it logs.
        settings: of the gateway, beside those that let it dial loopback.
    """

    def __init__(self, database: str, log: Path, **settings: str) -> None:
        chosen = SETTINGS | {"DATABASE": database} | settings
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MOTION_GATEWAY_")}
        self._environ = ours | {f"MOTION_GATEWAY_{name}": value for name, value in chosen.items()}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    async def store(self, jobs: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Store jobs, an owner and a receiver each, before anything else; the owners' secrets."""
        secrets: dict[str, str] = await self._ask(store=jobs)
        return secrets

    async def add_endpoint(self, owner: str, url: str) -> str:
        """Give an owner an endpoint; its id."""
        made: str = await self._ask(endpoint=[owner, url])
        return made

    async def work(self) -> None:
        """Begin to carry out what is due."""
        await self._ask(work=True)

    async def rest(self) -> None:
        """Carry out nothing more, once what is under way has ended."""
        await self._ask(work=False)

    async def end(self, count: int, per_s: float) -> None:
        """End the next jobs in the order in which they were stored, at a steady rate."""
        await self._ask(end=count, per_s=per_s)

    async def _ask(self, **asked: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        answer = await self._process.stdout.readline()
        assert answer, self._log.read_text()[-2000:]
        return json.loads(answer)

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                env=self._environ,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_BYTES,
            )
        return self

    async def __aexit__(self, *failed: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if failed[0] is not None and self._process.returncode is None:
            self._process.kill()
        self._process.stdin.close()
        await self._process.wait()


def _a_gateway() -> Gateway:
    """A gateway of the environment's settings, with accounts at providers that cannot be reached."""
    registry = load_adapters()
    environ = dict(os.environ)
    for spec in registry.specs:
        environ |= {spec.key_env: "not-a-real-provider-key", spec.base_url_env: "http://127.0.0.1:9"}
    settings = load(registry.specs, environ=environ, cwd=Path.cwd()).settings
    configure("json", settings.logs.level, Redactor(settings.secrets()), sys.stderr)
    return Gateway(settings, registry)


async def _store(gateway: Gateway, jobs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Store running jobs, some at once; secrets by owner, and the jobs' ids in their order."""
    secrets: dict[str, str] = {}
    for owner in dict.fromkeys(owner for owner, _ in jobs):
        key = await gateway.parts.keys.create(name="the tests", owner=owner, scopes=[Scope.JOBS])
        secrets[owner] = key.webhook_secret or ""
    made: list[str] = []
    while len(made) < len(jobs):
        batch = jobs[len(made) : len(made) + AT_ONCE]
        made += await asyncio.gather(*(_store_one(gateway, owner, url) for owner, url in batch))
    return secrets, made


async def _store_one(gateway: Gateway, owner: str, url: str) -> str:
    job_id = (await gateway.parts.intake.accept(_new(owner, url))).job_id
    decide = partial(
        _started, attempt_id=gateway.parts.ids.new(ATTEMPT), now_ms=gateway.parts.store.clock.now_ms()
    )
    await gateway.parts.tools.record.transition(job_id, decide)
    # What a submit would close with its result: nobody claimed one here.
    await gateway.parts.store.database.write(lambda connection: drop(connection, job_id, [TaskKind.SUBMIT]))
    return job_id


def _started(job: Job, _attempts: tuple[Attempt, ...], *, attempt_id: str, now_ms: int) -> Step:
    """Have a provider accept a job, as a submit would."""
    attempt = Attempt(
        id=attempt_id,
        job_id=job.id,
        number=1,
        provider=PROVIDER,
        account="default",
        state=AttemptState.SUBMITTING,
        started_at_ms=now_ms,
    )
    begun = begin(job, attempt)
    taken = accepted(begun.job, attempt, ref=job.id, now_ms=now_ms, poll_at_ms=now_ms + HOUR_MS)
    return replace(taken, events=(*begun.events, *taken.events))


def _new(owner: str, receiver: str) -> NewJob:
    url = "https://media.example.com/"
    return NewJob(
        owner=owner,
        request=JobRequest(
            character=Character(type=CharacterType.IMAGE, url=url + "hero.png"),
            reference=Reference(url=url + "act.mp4", duration_s=8.5),
            webhook=JobWebhook(url=receiver, events=DEFAULT_EVENTS),
            deadline_s=86_400,
        ),
        metadata={"order": "8812", "tenant": "north"},
        webhook_secret=None,
        idempotency_key=None,
        fingerprint="0" * 64,
    )


def _succeeded(job: Job, attempts: tuple[Attempt, ...], *, now_ms: int) -> Step:
    """End a job, as a poll would."""
    (attempt,) = attempts
    attempt = replace(attempt, state=AttemptState.SUCCEEDED, finished_at_ms=now_ms)
    output = Output(url="https://cdn.example/film.mp4", content_type="video/mp4", expires_at_ms=now_ms)
    return ended(job, JobStatus.SUCCEEDED, now_ms, attempt=attempt, outputs=(output,), progress=1.0)


async def _end(gateway: Gateway, job_ids: Sequence[str], per_s: float) -> None:
    loop = asyncio.get_running_loop()
    started, ending, places = loop.time(), set[asyncio.Task[object]](), asyncio.Semaphore(AT_ONCE)

    async def end_one(job_id: str) -> None:
        async with places:
            decide = partial(_succeeded, now_ms=gateway.parts.store.clock.now_ms())
            await gateway.parts.tools.record.transition(job_id, decide)

    for number, job_id in enumerate(job_ids):
        await asyncio.sleep(max(0.0, started + number / per_s - loop.time()))
        ending.add(asyncio.create_task(end_one(job_id)))
    await asyncio.gather(*ending)


async def _obey(gateway: Gateway, asked: Mapping[str, Any], waiting: list[str]) -> object:
    match asked:
        case {"endpoint": [owner, url]}:
            return (await gateway.parts.endpoints.create(owner=owner, url=url)).id
        case {"work": True}:
            keep_what_is_loaded()  # as `serve` and `work` do
            await gateway.start_worker()
        case {"work": False}:
            await gateway.stop_worker()
        case {"end": int(count), "per_s": per_s}:
            chosen, waiting[:count] = waiting[:count], []
            await _end(gateway, chosen, per_s)
        case _:
            raise ValueError(asked)
    return None


async def main() -> None:
    """Obey until there is nobody any more who could ask."""
    gateway = _a_gateway()
    try:
        secrets, waiting = await _store(gateway, json.loads(await _line())["store"])
        _say(secrets)
        while line := await _line():
            _say(await _obey(gateway, json.loads(line), waiting))
    finally:
        await gateway.close()


async def _line() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - whoever started it reads this


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
